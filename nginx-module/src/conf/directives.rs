//! The directives, and what each sets.
//!
//! Most are set by nginx's own functions, which know duplicates and bad values.

use std::ffi::{CStr, c_char, c_void};
use std::mem::offset_of;
use std::path::PathBuf;
use std::ptr::{addr_of_mut, null_mut};

use curfew_engine::{Config, GraceMode, OnFull, OnLimit, OnMismatch, Policy, Retain, Span};
use nginx_sys::{
    NGX_CONF_1MORE, NGX_CONF_2MORE, NGX_CONF_FLAG, NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_CONF_TAKE12, NGX_HTTP_LIF_CONF,
    NGX_HTTP_LOC_CONF, NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF, NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_SRV_CONF,
    NGX_LOG_ERR, NGX_LOG_INFO, NGX_LOG_NOTICE, NGX_LOG_WARN, ngx_command_t, ngx_conf_enum_t, ngx_conf_num_bounds_t,
    ngx_conf_set_enum_slot, ngx_conf_set_flag_slot, ngx_conf_set_num_slot, ngx_conf_t, ngx_http_set_complex_value_slot,
    ngx_int_t, ngx_parse_time, ngx_str_t, ngx_uint_t,
};

use super::answers::{answering, core_of};
use super::{LocConf, OK, REFUSED, Target, UNSET, choice, main_of, refuse, source, warnings};
use crate::nginx::{bytes, constant, fence, in_pool, text_in_pool};
use crate::zone::Zone;

/// Policies of a region.
pub(crate) const MOST_POLICIES: usize = 64;

/// The words of a directive, its name first.
pub(super) unsafe fn words<'a>(cf: *mut ngx_conf_t) -> &'a mut [ngx_str_t] {
    // SAFETY: while a directive is set, `args` is an array of strings that lie in the pool.
    unsafe { (*(*cf).args).as_slice_mut::<ngx_str_t>() }
}

unsafe extern "C" fn set_zone(cf: *mut ngx_conf_t, _: *mut ngx_command_t, _: *mut c_void) -> *mut c_char {
    // SAFETY: nginx calls this for a directive at the http level.
    unsafe {
        fence((*cf).log, REFUSED, || {
            let (mut named, mut path, mut huge_pages) = (None, None, None);
            for word in &words(cf)[1..] {
                let word = String::from_utf8_lossy(bytes(*word));
                if let Some(value) = word.strip_prefix("zone=") {
                    if named.replace(value.to_owned()).is_some() {
                        return refuse(cf, "\"zone=\" is given twice");
                    }
                } else if let Some(value) = word.strip_prefix("path=") {
                    if !value.starts_with('/') {
                        return refuse(cf, &format!("the path \"{value}\" must be absolute"));
                    }
                    if path.replace(PathBuf::from(value)).is_some() {
                        return refuse(cf, "\"path=\" is given twice");
                    }
                } else if let Some(value) = word.strip_prefix("huge_pages=") {
                    let is_on = match value {
                        "on" => true,
                        "off" => false,
                        _ => {
                            return refuse(
                                cf,
                                &format!("invalid value \"{value}\" of huge_pages=; there are on and off"),
                            );
                        }
                    };
                    if huge_pages.replace(is_on).is_some() {
                        return refuse(cf, "\"huge_pages=\" is given twice");
                    }
                } else {
                    let message =
                        format!("invalid parameter \"{word}\"; there are zone=name:size, path= and huge_pages=");
                    return refuse(cf, &message);
                }
            }
            let Some((name, size)) = named.as_ref().and_then(|named| named.split_once(':')) else {
                return refuse(cf, "curfew_zone needs zone=name:size");
            };
            let mut text = constant("");
            (text.len, text.data) = (size.len(), size.as_ptr().cast_mut());
            let parsed = nginx_sys::ngx_parse_size(&mut text);
            if name.is_empty() || size.is_empty() || parsed < 0 {
                return refuse(cf, &format!("invalid zone \"{name}:{size}\"; write it like zone=app:64m"));
            }
            let Some(fitting) = Config::fitting(parsed as u64) else {
                return refuse(cf, &format!("zone \"{name}\" is too small; the least is zone={name}:256k"));
            };
            let config = Config { huge_pages: huge_pages.unwrap_or(false), ..fitting };
            let main = main_of(cf);
            if main.zones.iter().any(|zone| zone.name == name) {
                return refuse(cf, &format!("zone \"{name}\" is defined twice"));
            }
            let other = path.as_deref().and_then(|path| main.zones.iter().find(|zone| zone.is_at(path)));
            if let Some(other) = other {
                let message = format!(
                    "zone \"{name}\" has the path of zone \"{}\": the sessions of one would pass in the other; give \
                     each a file of its own",
                    other.name
                );
                return refuse(cf, &message);
            }
            let zone = Box::new(Zone::new(name.to_owned(), config, path));
            if zone.register(&mut *cf).is_none() {
                return REFUSED;
            }
            main.zones.push(zone);
            OK
        })
    }
}

unsafe extern "C" fn set_policy(cf: *mut ngx_conf_t, _: *mut ngx_command_t, _: *mut c_void) -> *mut c_char {
    // SAFETY: nginx calls this for a directive at the http level.
    unsafe {
        fence((*cf).log, REFUSED, || {
            let all = words(cf);
            let name = String::from_utf8_lossy(bytes(all[1])).into_owned();
            let mut policy = Policy::new();
            let mut seen: Vec<String> = Vec::new();
            for word in &all[2..] {
                let word = String::from_utf8_lossy(bytes(*word));
                let Some((key, value)) = word.split_once('=') else {
                    return refuse(cf, &format!("invalid parameter \"{word}\"; write it like idle=15m"));
                };
                if seen.iter().any(|seen| seen == key) {
                    return refuse(cf, &format!("\"{key}=\" is given twice"));
                }
                if let Err(message) = set_limit(&mut policy, key, value) {
                    return refuse(cf, &message);
                }
                seen.push(key.to_owned());
            }
            if name.is_empty() || name.len() > 31 || name.contains('=') {
                return refuse(cf, "the name of a curfew_policy comes first, and has 1 to 31 bytes");
            }
            if !seen.iter().any(|seen| seen == "retain") {
                policy.retain = Retain::For(policy.lifetime.max(Span::DAY));
            }
            if let Err(error) = policy.validate() {
                return refuse(cf, &format!("curfew_policy \"{name}\": {error}"));
            }
            let main = main_of(cf);
            if main.policies.iter().any(|(other, _)| *other == name) {
                return refuse(cf, &format!("curfew_policy \"{name}\" is defined twice"));
            }
            if main.policies.len() == MOST_POLICIES {
                return refuse(cf, &format!("there can be {MOST_POLICIES} of curfew_policy"));
            }
            warnings::look_at_policy(cf, main, &name, &policy, &seen);
            main.policies.push((name, policy));
            OK
        })
    }
}

unsafe extern "C" fn set_log_level(cf: *mut ngx_conf_t, _: *mut ngx_command_t, _: *mut c_void) -> *mut c_char {
    // SAFETY: nginx calls this for a directive at the http level.
    unsafe {
        fence((*cf).log, REFUSED, || {
            let level = match bytes(words(cf)[1]) {
                b"off" => 0,
                b"error" => NGX_LOG_ERR,
                b"warn" => NGX_LOG_WARN,
                b"notice" => NGX_LOG_NOTICE,
                b"info" => NGX_LOG_INFO,
                other => {
                    let other = String::from_utf8_lossy(other);
                    return refuse(cf, &format!("invalid level \"{other}\"; there are off, error, warn, notice, info"));
                }
            };
            if main_of(cf).log_level.replace(level as ngx_uint_t).is_some() {
                return c"is duplicate".as_ptr().cast_mut();
            }
            OK
        })
    }
}

fn set_limit(policy: &mut Policy, key: &str, value: &str) -> Result<(), String> {
    let span = || {
        let mut text = ngx_str_t { len: value.len(), data: value.as_ptr().cast_mut() };
        // SAFETY: the text is as long as it says, and only read.
        let millis = unsafe { ngx_parse_time(&mut text, 0) };
        if value.is_empty() || millis < 0 {
            return Err(format!("invalid time \"{value}\" for \"{key}=\"; write it like 15m, 8h or 1h30m"));
        }
        Ok(Span::from_millis(millis as u64))
    };
    fn one_of<T: Copy>(key: &str, value: &str, choices: &[(&str, T)]) -> Result<T, String> {
        let names = || choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let found = choices.iter().find(|(name, _)| *name == value);
        found.map(|(_, choice)| *choice).ok_or_else(|| format!("invalid \"{key}={value}\"; there are {}", names()))
    }
    match key {
        "idle" => policy.idle = span()?,
        "lifetime" => policy.lifetime = span()?,
        "grace" => policy.grace = span()?,
        "grace_mode" => {
            policy.grace_mode = one_of(key, value, &[("reauth", GraceMode::Reauth), ("resume", GraceMode::Resume)])?;
        }
        "on_mismatch" => {
            let choices = [("deny", OnMismatch::Deny), ("end", OnMismatch::End), ("log", OnMismatch::Log)];
            policy.on_mismatch = one_of(key, value, &choices)?;
        }
        "max_per_subject" => {
            policy.max_per_subject = value.parse().map_err(|_| format!("invalid number \"{value}\" for \"{key}=\""))?;
        }
        "on_limit" => {
            let choices = [
                ("deny", OnLimit::Deny),
                ("end_oldest", OnLimit::EndOldest),
                ("end_least_recent", OnLimit::EndLeastRecent),
            ];
            policy.on_limit = one_of(key, value, &choices)?;
        }
        "retain" if value == "hard" => policy.retain = Retain::UntilHardLimit,
        "retain" => policy.retain = Retain::For(span()?),
        "on_full" => {
            policy.on_full = one_of(key, value, &[("refuse", OnFull::Refuse), ("evict_ended", OnFull::EvictEnded)])?;
        }
        _ => return Err(format!("invalid parameter \"{key}=\"")),
    }
    Ok(())
}

unsafe extern "C" fn set_guard(cf: *mut ngx_conf_t, _: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    // SAFETY: nginx calls this with the configuration of the level that the directive stands at.
    unsafe {
        fence((*cf).log, REFUSED, || {
            let conf = &mut *conf.cast::<LocConf>();
            if conf.guard != UNSET {
                return c"is duplicate".as_ptr().cast_mut();
            }
            let mut target = Target { zone: constant(""), policy: constant("") };
            for word in &words(cf)[1..] {
                let text = bytes(*word);
                if text == b"off" && words(cf).len() == 2 {
                    conf.guard = 0;
                    return OK;
                }
                let (place, skip) = match text {
                    _ if text.starts_with(b"zone=") => (&mut target.zone, 5),
                    _ if text.starts_with(b"policy=") => (&mut target.policy, 7),
                    _ => {
                        let word = String::from_utf8_lossy(text);
                        let message =
                            format!("invalid parameter \"{word}\"; write zone=... policy=..., or off by itself");
                        return refuse(cf, &message);
                    }
                };
                if place.len > 0 || text.len() == skip {
                    return refuse(cf, "zone= and policy= are given once, with a name");
                }
                match text_in_pool((*cf).pool, &text[skip..]) {
                    Some(name) => *place = name,
                    None => return REFUSED,
                }
            }
            conf.guard = 1;
            match in_pool((*cf).pool, target) {
                Some(place) => conf.target = place,
                None => return REFUSED,
            }
            OK
        })
    }
}

/// Lets a location be answered by the module itself.
unsafe fn set_answers(cf: *mut ngx_conf_t, conf: *mut c_void, answers: ngx_uint_t) -> *mut c_char {
    // SAFETY: nginx calls the directive with the configuration of a location.
    let (conf, core) = unsafe { (&mut *conf.cast::<LocConf>(), core_of(cf)) };
    if core.handler.is_some() {
        return refuse(cf, "something else answers in this location already");
    }
    core.handler = answering(answers).map(|(_, handler)| handler);
    conf.answers = answers;
    OK
}

unsafe extern "C" fn set_status_json(cf: *mut ngx_conf_t, _: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    // SAFETY: as nginx calls it.
    unsafe { fence((*cf).log, REFUSED, || set_answers(cf, conf, choice::STATUS_JSON)) }
}

unsafe extern "C" fn set_admin(cf: *mut ngx_conf_t, _: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    // SAFETY: as nginx calls it.
    unsafe { fence((*cf).log, REFUSED, || set_answers(cf, conf, choice::ADMIN)) }
}

/// One of the words that a directive knows. nginx compares them as C does.
const fn word(name: &'static CStr, value: ngx_uint_t) -> ngx_conf_enum_t {
    ngx_conf_enum_t { name: named(name), value }
}

const fn named(name: &'static CStr) -> ngx_str_t {
    ngx_str_t { len: name.count_bytes(), data: name.as_ptr().cast_mut().cast() }
}

static mut UNKNOWN: [ngx_conf_enum_t; 5] = [
    word(c"deny", choice::DENY),
    word(c"start", choice::START),
    word(c"start_literal", choice::START_LITERAL),
    word(c"pass", choice::PASS),
    word(c"", 0),
];
static mut DENY_OR_PASS: [ngx_conf_enum_t; 3] =
    [word(c"deny", choice::DENY), word(c"pass", choice::PASS), word(c"", 0)];
static mut ENDS: [ngx_conf_enum_t; 4] =
    [word(c"off", choice::OFF), word(c"logout", choice::LOGOUT), word(c"revoked", choice::REVOKED), word(c"", 0)];
static mut COUNTS_AT: [ngx_conf_enum_t; 3] =
    [word(c"response", choice::RESPONSE), word(c"request", choice::REQUEST), word(c"", 0)];
static mut STREAM_ACTIVITY: [ngx_conf_enum_t; 4] =
    [word(c"off", choice::OFF), word(c"client", choice::CLIENT), word(c"both", choice::BOTH), word(c"", 0)];
static mut STATUSES: ngx_conf_num_bounds_t =
    ngx_conf_num_bounds_t { post_handler: Some(check_status), low: 400, high: 599 };

/// What nginx answers with another status, or closes the connection for.
const NGINX_S_OWN: [ngx_int_t; 7] = [408, 444, 494, 495, 496, 497, 499];

unsafe extern "C" fn check_status(cf: *mut ngx_conf_t, post: *mut c_void, data: *mut c_void) -> *mut c_char {
    // SAFETY: nginx calls this with the bounds above, and with the number that it has just set.
    unsafe {
        fence((*cf).log, REFUSED, || {
            let answer = nginx_sys::ngx_conf_check_num_bounds(cf, post, data);
            let status = *data.cast::<ngx_int_t>();
            if answer == OK && NGINX_S_OWN.contains(&status) {
                let message = format!(
                    "nginx does not answer with {status}, which means something else to it; 401 and 403 are usual"
                );
                return refuse(cf, &message);
            }
            answer
        })
    }
}

const HTTP: u32 = NGX_HTTP_MAIN_CONF;
const ANYWHERE: u32 = NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_HTTP_LIF_CONF;
const LOCATION: u32 = NGX_HTTP_LOC_CONF;

type Set = unsafe extern "C" fn(*mut ngx_conf_t, *mut ngx_command_t, *mut c_void) -> *mut c_char;

const fn directive(
    name: &'static CStr,
    kind: u32,
    set: Set,
    level: usize,
    offset: usize,
    post: *mut c_void,
) -> ngx_command_t {
    ngx_command_t { name: named(name), type_: kind as ngx_uint_t, set: Some(set), conf: level, offset, post }
}

/// A directive that takes text with variables.
const fn text(name: &'static CStr, offset: usize) -> ngx_command_t {
    let kind = ANYWHERE | NGX_CONF_TAKE1;
    directive(name, kind, ngx_http_set_complex_value_slot, NGX_HTTP_LOC_CONF_OFFSET, offset, null_mut())
}

/// A directive that takes what a request or its answer says.
const fn from(name: &'static CStr, offset: usize) -> ngx_command_t {
    directive(name, ANYWHERE | NGX_CONF_TAKE1, source::set, NGX_HTTP_LOC_CONF_OFFSET, offset, null_mut())
}

/// A directive that is on or off.
const fn flag(name: &'static CStr, offset: usize) -> ngx_command_t {
    let kind = ANYWHERE | NGX_CONF_FLAG;
    directive(name, kind, ngx_conf_set_flag_slot, NGX_HTTP_LOC_CONF_OFFSET, offset, null_mut())
}

/// A directive that takes one of some words.
const fn one_of(name: &'static CStr, offset: usize, words: *mut ngx_conf_enum_t) -> ngx_command_t {
    let kind = ANYWHERE | NGX_CONF_TAKE1;
    directive(name, kind, ngx_conf_set_enum_slot, NGX_HTTP_LOC_CONF_OFFSET, offset, words.cast())
}

pub(crate) static mut DIRECTIVES: [ngx_command_t; 27] = [
    directive(c"curfew_zone", HTTP | NGX_CONF_1MORE, set_zone, NGX_HTTP_MAIN_CONF_OFFSET, 0, null_mut()),
    directive(c"curfew_policy", HTTP | NGX_CONF_2MORE, set_policy, NGX_HTTP_MAIN_CONF_OFFSET, 0, null_mut()),
    directive(c"curfew_log_level", HTTP | NGX_CONF_TAKE1, set_log_level, NGX_HTTP_MAIN_CONF_OFFSET, 0, null_mut()),
    directive(c"curfew", ANYWHERE | NGX_CONF_TAKE12, set_guard, NGX_HTTP_LOC_CONF_OFFSET, 0, null_mut()),
    from(c"curfew_id", offset_of!(LocConf, id)),
    from(c"curfew_subject", offset_of!(LocConf, subject)),
    from(c"curfew_binding", offset_of!(LocConf, binding)),
    from(c"curfew_expires", offset_of!(LocConf, expires)),
    from(c"curfew_activity", offset_of!(LocConf, activity)),
    one_of(c"curfew_activity_at", offset_of!(LocConf, activity_at), addr_of_mut!(COUNTS_AT).cast()),
    flag(c"curfew_streams", offset_of!(LocConf, streams)),
    one_of(c"curfew_stream_activity", offset_of!(LocConf, stream_activity), addr_of_mut!(STREAM_ACTIVITY).cast()),
    directive(
        c"curfew_start",
        ANYWHERE | NGX_CONF_TAKE12,
        source::set_start,
        NGX_HTTP_LOC_CONF_OFFSET,
        offset_of!(LocConf, start),
        null_mut(),
    ),
    from(c"curfew_rotate", offset_of!(LocConf, rotate)),
    from(c"curfew_reauthenticated", offset_of!(LocConf, reauthenticated)),
    one_of(c"curfew_end", offset_of!(LocConf, end), addr_of_mut!(ENDS).cast()),
    one_of(c"curfew_unknown", offset_of!(LocConf, unknown), addr_of_mut!(UNKNOWN).cast()),
    one_of(c"curfew_no_id", offset_of!(LocConf, no_id), addr_of_mut!(DENY_OR_PASS).cast()),
    one_of(c"curfew_on_error", offset_of!(LocConf, on_error), addr_of_mut!(DENY_OR_PASS).cast()),
    flag(c"curfew_dry_run", offset_of!(LocConf, dry_run)),
    flag(c"curfew_headers", offset_of!(LocConf, headers)),
    directive(
        c"curfew_deny_status",
        ANYWHERE | NGX_CONF_TAKE1,
        ngx_conf_set_num_slot,
        NGX_HTTP_LOC_CONF_OFFSET,
        offset_of!(LocConf, deny_status),
        addr_of_mut!(STATUSES).cast(),
    ),
    text(c"curfew_deny_redirect", offset_of!(LocConf, deny_redirect)),
    text(c"curfew_challenge", offset_of!(LocConf, challenge)),
    directive(
        c"curfew_status_json",
        LOCATION | NGX_CONF_NOARGS,
        set_status_json,
        NGX_HTTP_LOC_CONF_OFFSET,
        0,
        null_mut(),
    ),
    directive(c"curfew_admin", LOCATION | NGX_CONF_NOARGS, set_admin, NGX_HTTP_LOC_CONF_OFFSET, 0, null_mut()),
    ngx_command_t::empty(),
];
