//! What a directive takes a text from: variables, or a cookie by its name (`cookie=NAME`,
//! `upstream_cookie=NAME`), which may have characters that names of variables cannot have.
//!
//! nginx has a variable for every name of a cookie, and only its configuration has no way to write some of
//! them. So `cookie=a.b` is the variable `cookie_a.b`, looked up as nginx looks up `$cookie_a`: all that goes
//! for the one goes for the other, in every version.

use std::ffi::{c_char, c_void};
use std::mem::offset_of;

use nginx_sys::{
    ngx_command_t, ngx_conf_t, ngx_http_compile_complex_value, ngx_http_compile_complex_value_t,
    ngx_http_complex_value_t, ngx_http_complex_value_t__bindgen_ty_1, ngx_http_get_variable_index,
    ngx_http_script_copy_var_code, ngx_http_script_copy_var_len_code, ngx_http_script_var_code_t,
    ngx_http_set_complex_value_slot, ngx_str_t, ngx_uint_t,
};

use super::directives::words;
use super::{LocConf, OK, REFUSED, Value, refuse};
use crate::ambiguity;
use crate::nginx::{bytes, fence, in_pool, text_in_pool};

/// What stands before the name of a cookie of the request, and of one that the application sets.
pub(crate) const COOKIE: &[u8] = b"cookie=";
const UPSTREAM_COOKIE: &[u8] = b"upstream_cookie=";

/// What stands before the condition on which a session begins.
const IF: &[u8] = b"if=";

/// Sets a directive that takes text with variables, or a cookie by its name.
pub(super) unsafe extern "C" fn set(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls this for a directive with one word and the configuration of its level, and the
    // directive's offset is that of a `Value` in it.
    unsafe {
        fence((*cf).log, REFUSED, || {
            let (text, offset) = (words(cf)[1], (*command).offset);
            let place = conf.byte_add(offset).cast::<Value>();
            let written = bytes(text);
            let is_upstream = written.starts_with(UPSTREAM_COOKIE);
            if !is_upstream && !written.starts_with(COOKIE) {
                let answer = ngx_http_set_complex_value_slot(cf, command, conf);
                return if answer == OK { check_text(cf, offset, *place) } else { answer };
            }
            if !(*place).is_null() {
                return c"is duplicate".as_ptr().cast_mut();
            }
            if is_upstream && is_asked_early(offset) {
                return refuse(cf, "this is asked before there is an answer: it takes cookie=, not upstream_cookie=");
            }
            let name = &written[if is_upstream { UPSTREAM_COOKIE.len() } else { COOKIE.len() }..];
            if let Err(message) = check_name(name) {
                return refuse(cf, &message);
            }
            match variable(cf, text) {
                Some(value) => *place = value,
                None => return REFUSED,
            }
            OK
        })
    }
}

/// Sets `curfew_start`, which may have a condition. The level has a source of its own then, and a condition only
/// with that: `merge` takes both over or neither.
pub(super) unsafe extern "C" fn set_start(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls this for a directive with one word or two, as for `set`.
    unsafe {
        fence((*cf).log, REFUSED, || {
            let answer = set(cf, command, conf);
            if answer != OK {
                return answer;
            }
            if bytes(words(cf)[1]).starts_with(IF) {
                return refuse(cf, "what names the session comes before if=");
            }
            let Some(word) = words(cf).get(2) else { return OK };
            let Some(condition) = bytes(*word).strip_prefix(IF) else {
                let word = String::from_utf8_lossy(bytes(*word));
                return refuse(cf, &format!("invalid parameter \"{word}\"; there is if="));
            };
            // The end of the word, so that there is a zero behind it, where nginx may look for more.
            let text = ngx_str_t { len: condition.len(), data: word.data.add(IF.len()) };
            let Some(value) = compile(cf, text) else { return REFUSED };
            // Of a name that nginx cuts short, `LocConf::check` says what to write.
            if !is_variables(condition) && ambiguity::cut_name(value).is_none() {
                let condition = String::from_utf8_lossy(condition);
                let message = format!(
                    "\"if={condition}\" is no condition: that is a variable, or several, and nothing else, which does \
                     not hold where it is empty or 0"
                );
                return refuse(cf, &message);
            }
            (*conf.cast::<LocConf>()).start_if = value;
            OK
        })
    }
}

/// Text with variables; `None` when it is none, which nginx has logged.
///
/// # Safety
/// `cf` must be the configuration that is being read, and `text` lie in its pool, because nginx points at it as
/// long as the configuration lives.
unsafe fn compile(cf: *mut ngx_conf_t, mut text: ngx_str_t) -> Option<Value> {
    // SAFETY: zeroes are a valid description of what is to be compiled, and a valid value, which nginx fills in.
    unsafe {
        let mut compiler: ngx_http_compile_complex_value_t = std::mem::zeroed();
        compiler.cf = cf;
        compiler.value = &mut text;
        compiler.complex_value = in_pool((*cf).pool, std::mem::zeroed::<ngx_http_complex_value_t>())?;
        (ngx_http_compile_complex_value(&mut compiler) == crate::nginx::OK).then_some(compiler.complex_value)
    }
}

/// Whether a text is one variable or several, with nothing before, between or behind them.
fn is_variables(text: &[u8]) -> bool {
    let is_name = |name: &[u8]| {
        let name = name.strip_prefix(b"{").and_then(|name| name.strip_suffix(b"}")).unwrap_or(name);
        !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    text.strip_prefix(b"$").is_some_and(|names| names.split(|byte| *byte == b'$').all(is_name))
}

/// What comes of a request is another text in each: one that is not would make one session of everybody's, or
/// hold always, and is most likely a variable or another one of these, misspelt.
unsafe fn check_text(cf: *mut ngx_conf_t, offset: usize, value: Value) -> *mut c_char {
    // SAFETY: nginx has just compiled the value; without variables it has no steps.
    let (text, is_constant) = unsafe { (bytes((*value).value), (*value).lengths.is_null()) };
    if let Some(name) = of_the_response(text).filter(|_| is_asked_early(offset)) {
        let name = String::from_utf8_lossy(name);
        let message = format!(
            "\"${name}\" is empty here: this is asked before there is an answer; write what the request has, such as \
             $cookie_name, or what an auth_request_set has kept of an outer check"
        );
        return refuse(cf, &message);
    }
    let switches = [offset_of!(LocConf, activity), offset_of!(LocConf, reauthenticated)];
    let is_switch = switches.contains(&offset) && matches!(text, b"0" | b"1");
    if !is_constant || text.is_empty() || is_switch {
        return OK;
    }
    let text = String::from_utf8_lossy(text);
    refuse(
        cf,
        &format!("\"{text}\" is the same for every request; write $cookie_name, cookie=name, or another variable"),
    )
}

/// Whether a directive is asked about a request that nobody has answered yet.
fn is_asked_early(offset: usize) -> bool {
    [offset_of!(LocConf, id), offset_of!(LocConf, activity)].contains(&offset)
}

/// The first variable of a text that only a response has something for.
pub(super) fn of_the_response(text: &[u8]) -> Option<&[u8]> {
    const PREFIXES: [&str; 5] =
        ["upstream_http_", "upstream_cookie_", "upstream_trailer_", "sent_http_", "sent_trailer_"];
    text.split(|byte| *byte == b'$').skip(1).find_map(|variable| {
        let variable = variable.strip_prefix(b"{").unwrap_or(variable);
        let end = variable.iter().position(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_'));
        let name = &variable[..end.unwrap_or(variable.len())];
        let is =
            |prefix: &&str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()));
        PREFIXES.iter().any(is).then_some(name)
    })
}

/// What a name may consist of is what RFC 6265 says, less what means something to nginx or to an application:
/// a variable, or an encoding.
fn check_name(name: &[u8]) -> Result<(), String> {
    let is_fit = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#&'*-.^_`|~".contains(byte);
    if name.is_empty() {
        return Err("the name of a cookie is missing; write it like cookie=__Host-sid".into());
    }
    let Some(unfit) = name.iter().find(|byte| !is_fit(byte)) else {
        // Some application takes either for the white space around a name.
        let is_blank = name.iter().all(|byte| b"._".contains(byte));
        return if is_blank { Err("the name of a cookie has more than . and _ in it".into()) } else { Ok(()) };
    };
    let name = String::from_utf8_lossy(name);
    let unfit = unfit.escape_ascii();
    Err(format!(
        "invalid character \"{unfit}\" in the name of a cookie \"{name}\"; there are letters, digits and !#&'*-.^_`|~"
    ))
}

/// Text that consists of one variable, as nginx compiles it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Steps {
    code: *const (),
    variable: ngx_uint_t,
    end: *const (),
}

const _: () = assert!(offset_of!(Steps, end) == size_of::<ngx_http_script_var_code_t>());

/// The text `cookie=NAME`, which stands for the variable `cookie_NAME`; `None` when nginx is out of memory.
///
/// # Safety
/// `cf` must be the configuration that is being read, and `text` such a one in its pool.
unsafe fn variable(cf: *mut ngx_conf_t, text: ngx_str_t) -> Option<Value> {
    // SAFETY: nginx copies the name. What is made has the form that nginx's own compiler gives to one variable: a
    // step and a null pointer, for its length and for itself, and a list of variables that -1 ends.
    unsafe {
        let pool = (*cf).pool;
        let name: Vec<u8> = bytes(text).iter().map(|byte| if *byte == b'=' { b'_' } else { *byte }).collect();
        let mut name = text_in_pool(pool, &name)?;
        let index = ngx_uint_t::try_from(ngx_http_get_variable_index(cf, &mut name)).ok()?;
        let steps = |code| in_pool(pool, Steps { code, variable: index, end: std::ptr::null() });
        let value = ngx_http_complex_value_t {
            value: text,
            flushes: in_pool(pool, [index, ngx_uint_t::MAX])?.cast(),
            lengths: steps(ngx_http_script_copy_var_len_code as *const ())?.cast(),
            values: steps(ngx_http_script_copy_var_code as *const ())?.cast(),
            u: ngx_http_complex_value_t__bindgen_ty_1 { size: 0 },
        };
        in_pool(pool, value)
    }
}
