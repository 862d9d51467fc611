//! `$curfew_*`.

use std::fmt::Write;

use curfew_engine::{Left, Span};
use nginx_sys::{
    NGX_HTTP_VAR_NOCACHEABLE, ngx_conf_t, ngx_http_add_variable, ngx_http_request_t, ngx_int_t, ngx_str_t,
    ngx_variable_value_t,
};

use crate::nginx::{ERROR, OK, Request, constant, fence, text_in_pool};
use crate::record::{self, Record};
use crate::{conf, cookies};

type Text = fn(Request<'_>, &Record, &mut String) -> Option<()>;

/// Each variable: its name, and what it says of a record; `None` for nothing.
const VARIABLES: [(&str, Text); 10] = [
    ("curfew_status", |_, record, to| to.write_str(record.status_name()?).ok()),
    ("curfew_key", |_, record, to| write!(to, "{}", record.key?).ok()),
    ("curfew_idle_left", |_, record, to| seconds(record, |left| left.idle(), to)),
    ("curfew_lifetime_left", |_, record, to| seconds(record, |left| left.lifetime(), to)),
    ("curfew_token_left", |_, record, to| seconds(record, |left| left.token(), to)),
    ("curfew_left", |_, record, to| seconds(record, |left| left.end(), to)),
    ("curfew_age", |_, record, to| seconds(record, |left| left.age(), to)),
    ("curfew_policy", |request, record, to| {
        let policy = record.left?.policy();
        let (_, name, _) = record.zone()?.table(request.log())?.policies().find(|(id, ..)| *id == policy)?;
        to.write_str(&name).ok()
    }),
    ("curfew_cut", |_, record, to| to.write_str(record.name_of(record.cut?.0)).ok()),
    ("curfew_cut_bytes", |_, record, to| write!(to, "{}", record.cut?.1).ok()),
];

/// Seconds to the millisecond, as nginx's own `$request_time` has them; nothing for a limit that is off.
fn seconds(record: &Record, of: fn(&Left) -> Span, to: &mut String) -> Option<()> {
    let span = of(&record.left?);
    if span.is_never() { None } else { write_seconds(span, to) }
}

pub(crate) fn write_seconds(span: Span, to: &mut String) -> Option<()> {
    write!(to, "{}.{:03}", span.as_millis() / 1000, span.as_millis() % 1000).ok()
}

type Get = unsafe extern "C" fn(*mut ngx_http_request_t, *mut ngx_variable_value_t, usize) -> ngx_int_t;

/// Tells nginx of the variables.
pub(crate) fn add(cf: *mut ngx_conf_t) -> ngx_int_t {
    let of_records = VARIABLES.iter().enumerate().map(|(number, (name, _))| (*name, get as Get, number));
    for (name, get, number) in of_records.chain([("curfew_cookies", get_cookies as Get, 0)]) {
        let mut name: ngx_str_t = constant(name);
        // SAFETY: `cf` is the configuration that is being read; nginx copies the name.
        unsafe {
            let variable = ngx_http_add_variable(cf, &mut name, NGX_HTTP_VAR_NOCACHEABLE as usize);
            if variable.is_null() {
                return ERROR;
            }
            (*variable).get_handler = Some(get);
            (*variable).data = number;
        }
    }
    OK
}

unsafe extern "C" fn get(raw: *mut ngx_http_request_t, value: *mut ngx_variable_value_t, number: usize) -> ngx_int_t {
    // SAFETY: nginx calls this with a live request, a value to fill in, and the number from above. A
    // subrequest tells of its main request.
    let (request, value) = unsafe { (Request::new((*raw).main), &mut *value) };
    fence(request.log(), ERROR, || {
        let mut text = String::new();
        let found = record::find(request).and_then(|record| VARIABLES[number].1(request, record, &mut text));
        fill(request, value, found.map(|()| text.as_bytes()))
    })
}

unsafe extern "C" fn get_cookies(
    raw: *mut ngx_http_request_t,
    value: *mut ngx_variable_value_t,
    _: usize,
) -> ngx_int_t {
    // SAFETY: as above; a main request has a location, too.
    let (request, value, conf) = unsafe { (Request::new((*raw).main), &mut *value, conf::of_request((*raw).main)) };
    fence(request.log(), ERROR, || fill(request, value, Some(&cookies::of_what_goes_on(request, conf))))
}

fn fill(request: Request<'_>, value: &mut ngx_variable_value_t, text: Option<&[u8]>) -> ngx_int_t {
    value.set_valid(1);
    value.set_no_cacheable(0);
    value.set_not_found(u32::from(text.is_none()));
    if let Some(text) = text {
        let Some(text) = text_in_pool(request.pool(), text) else { return ERROR };
        value.set_len(text.len as u32);
        value.data = text.data;
    }
    OK
}
