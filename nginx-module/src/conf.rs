//! The directives: what they set, how a level inherits from the one above, and what is refused.
//!
//! Most are set by nginx's own functions, which know duplicates and bad values. What is unset has
//! nginx's marks for that (-1, null), so that a level takes it from the one above.

use std::ffi::{CStr, c_char, c_void};
use std::mem::offset_of;
use std::path::PathBuf;
use std::ptr::{addr_of, addr_of_mut, null_mut};

use curfew_engine::{Config, GraceMode, OnFull, OnLimit, OnMismatch, Policy, Retain, Span};
use nginx_sys::{
    NGX_CONF_1MORE, NGX_CONF_2MORE, NGX_CONF_FLAG, NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_CONF_TAKE12, NGX_HTTP_LIF_CONF,
    NGX_HTTP_LOC_CONF, NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF, NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_SRV_CONF,
    NGX_LOG_EMERG, NGX_LOG_ERR, NGX_LOG_INFO, NGX_LOG_NOTICE, NGX_LOG_WARN, ngx_command_t, ngx_conf_enum_t,
    ngx_conf_num_bounds_t, ngx_conf_set_enum_slot, ngx_conf_set_flag_slot, ngx_conf_set_num_slot, ngx_conf_t,
    ngx_flag_t, ngx_http_complex_value_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t, ngx_http_core_module,
    ngx_http_request_t, ngx_http_set_complex_value_slot, ngx_int_t, ngx_parse_time, ngx_str_t, ngx_uint_t,
};
use ngx::ngx_conf_log_error;

use crate::nginx::{add_cleanup, bytes, constant, fence, in_pool, text_in_pool};
use crate::zone::Zone;
use crate::{admin, ambiguity, module, page};

/// Text with variables, as a directive has it; null when the directive is not there.
pub(crate) type Value = *mut ngx_http_complex_value_t;

const OK: *mut c_char = null_mut();
/// `NGX_CONF_ERROR`: refused, and why was logged.
const REFUSED: *mut c_char = std::ptr::without_provenance_mut(usize::MAX);
const UNSET: ngx_int_t = -1;
const UNSET_CHOICE: ngx_uint_t = ngx_uint_t::MAX;
/// Policies of a region.
const MOST_POLICIES: usize = 64;

/// What the `http` level says.
#[derive(Default)]
pub(crate) struct MainConf {
    /// Boxed, because the levels below and nginx point at them.
    #[expect(clippy::vec_box)]
    pub(crate) zones: Vec<Box<Zone>>,
    pub(crate) policies: Vec<(String, Policy)>,
    /// The level at which ends are logged, one of nginx's; 0 for not at all.
    pub(crate) log_level: Option<ngx_uint_t>,
    /// Whether there is a place where what is sent to the client counts as activity.
    pub(crate) counts_sent: bool,
    /// Whether it was said that what has ended may begin again.
    has_warned: bool,
}

/// `zone=app policy=staff`, by name and place: both may be defined further down.
#[derive(Clone, Copy)]
struct Target {
    zone: ngx_str_t,
    policy: ngx_str_t,
}

/// What a location says.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct LocConf {
    guard: ngx_flag_t,
    target: *const Target,
    zone: *const Zone,
    policy: usize,
    pub(crate) id: Value,
    pub(crate) subject: Value,
    pub(crate) binding: Value,
    pub(crate) expires: Value,
    pub(crate) activity: Value,
    pub(crate) activity_at: ngx_uint_t,
    streams: ngx_flag_t,
    pub(crate) stream_activity: ngx_uint_t,
    pub(crate) start: Value,
    pub(crate) rotate: Value,
    pub(crate) reauthenticated: Value,
    pub(crate) end: ngx_uint_t,
    /// `end` stands in an `if` of its own.
    pub(crate) ends_on_condition: bool,
    pub(crate) unknown: ngx_uint_t,
    pub(crate) no_id: ngx_uint_t,
    pub(crate) on_error: ngx_uint_t,
    dry_run: ngx_flag_t,
    headers: ngx_flag_t,
    pub(crate) deny_status: ngx_int_t,
    pub(crate) deny_redirect: Value,
    pub(crate) challenge: Value,
    answers: ngx_flag_t,
}

pub(crate) mod choice {
    //! Values of the directives that have some to choose from.
    use super::ngx_uint_t;
    pub(crate) const DENY: ngx_uint_t = 0;
    pub(crate) const PASS: ngx_uint_t = 1;
    pub(crate) const START: ngx_uint_t = 2;
    pub(crate) const START_LITERAL: ngx_uint_t = 3;
    pub(crate) const OFF: ngx_uint_t = 0;
    pub(crate) const LOGOUT: ngx_uint_t = 1;
    pub(crate) const REVOKED: ngx_uint_t = 2;
    pub(crate) const RESPONSE: ngx_uint_t = 0;
    pub(crate) const REQUEST: ngx_uint_t = 1;
    pub(crate) const CLIENT: ngx_uint_t = 1;
    pub(crate) const BOTH: ngx_uint_t = 2;
}

impl LocConf {
    const UNSET: LocConf = LocConf {
        guard: UNSET,
        target: std::ptr::null(),
        zone: std::ptr::null(),
        policy: usize::MAX,
        id: null_mut(),
        subject: null_mut(),
        binding: null_mut(),
        expires: null_mut(),
        activity: null_mut(),
        activity_at: UNSET_CHOICE,
        streams: UNSET,
        stream_activity: UNSET_CHOICE,
        start: null_mut(),
        rotate: null_mut(),
        reauthenticated: null_mut(),
        end: UNSET_CHOICE,
        ends_on_condition: false,
        unknown: UNSET_CHOICE,
        no_id: UNSET_CHOICE,
        on_error: UNSET_CHOICE,
        dry_run: UNSET,
        headers: UNSET,
        deny_status: UNSET,
        deny_redirect: null_mut(),
        challenge: null_mut(),
        answers: UNSET,
    };

    /// Whether requests are checked here.
    pub(crate) fn is_guarded(&self) -> bool {
        self.guard == 1 && self.answers != 1
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run == 1
    }

    /// Whether requests that go on are ended with their session.
    pub(crate) fn has_streams(&self) -> bool {
        self.streams == 1
    }

    pub(crate) fn has_headers(&self) -> bool {
        self.headers == 1
    }

    /// The zone, where there is anything to do with one.
    pub(crate) fn zone(&self) -> Option<&Zone> {
        // SAFETY: the zones live in the main configuration, as long as this one does.
        unsafe { self.zone.as_ref() }
    }

    /// The number of the policy among those of the configuration.
    pub(crate) fn policy(&self) -> usize {
        self.policy
    }

    /// The first directive that needs a zone, a policy or an id, and which of these it needs.
    fn needs(&self) -> Option<(&'static str, bool, bool)> {
        if self.is_guarded() {
            return Some(("curfew", true, true));
        }
        if !self.start.is_null() {
            return Some(("curfew_start", true, false));
        }
        if !self.rotate.is_null() {
            return Some(("curfew_rotate", false, true));
        }
        if !self.reauthenticated.is_null() {
            return Some(("curfew_reauthenticated", false, true));
        }
        if self.end != choice::OFF {
            return Some(("curfew_end", false, true));
        }
        if self.answers == 1 {
            return Some(("curfew_status_json", false, true));
        }
        None
    }

    /// Whether an id that has no session begins one.
    pub(crate) fn begins_unknown(&self) -> bool {
        matches!(self.unknown, choice::START | choice::START_LITERAL)
    }

    /// Whether an id that has ended may begin again here before the time that the policy says.
    fn forgets_what_it_must_not(&self, main: &MainConf) -> bool {
        let evicts = main.policies.get(self.policy).is_some_and(|(_, policy)| policy.on_full == OnFull::EvictEnded);
        let survives = self.zone().is_some_and(Zone::survives_a_restart);
        let begins = self.is_guarded() && self.begins_unknown();
        // Where the application sees what nobody knows any more, and may renew it.
        let renews = !self.is_guarded() && self.unknown == choice::PASS && !self.start.is_null();
        (begins || renews) && (evicts || !survives)
    }

    /// Takes over what the level above says and this one does not.
    fn merge(&mut self, above: &LocConf) {
        fn pick<T: PartialEq + Copy>(mine: &mut T, above: T, unset: T, default: T) {
            if *mine == unset {
                *mine = if above == unset { default } else { above };
            }
        }
        pick(&mut self.guard, above.guard, UNSET, 0);
        if self.target.is_null() {
            self.target = above.target;
        }
        for (mine, above) in [
            (&mut self.id, above.id),
            (&mut self.subject, above.subject),
            (&mut self.binding, above.binding),
            (&mut self.expires, above.expires),
            (&mut self.activity, above.activity),
            (&mut self.start, above.start),
            (&mut self.rotate, above.rotate),
            (&mut self.reauthenticated, above.reauthenticated),
            (&mut self.deny_redirect, above.deny_redirect),
            (&mut self.challenge, above.challenge),
        ] {
            pick(mine, above, null_mut(), null_mut());
        }
        pick(&mut self.activity_at, above.activity_at, UNSET_CHOICE, choice::RESPONSE);
        pick(&mut self.streams, above.streams, UNSET, 1);
        pick(&mut self.stream_activity, above.stream_activity, UNSET_CHOICE, choice::CLIENT);
        pick(&mut self.end, above.end, UNSET_CHOICE, choice::OFF);
        pick(&mut self.unknown, above.unknown, UNSET_CHOICE, choice::DENY);
        pick(&mut self.no_id, above.no_id, UNSET_CHOICE, choice::DENY);
        pick(&mut self.on_error, above.on_error, UNSET_CHOICE, choice::DENY);
        pick(&mut self.dry_run, above.dry_run, UNSET, 0);
        pick(&mut self.headers, above.headers, UNSET, 0);
        pick(&mut self.deny_status, above.deny_status, UNSET, 401);
    }

    /// Finds the zone and the policy that are meant; the only ones there are need no name.
    fn resolve(&mut self, main: &MainConf) -> Result<(), String> {
        // SAFETY: the names lie in the configuration's pool.
        let (zone, policy) = match unsafe { self.target.as_ref() } {
            Some(target) => unsafe { (bytes(target.zone), bytes(target.policy)) },
            None => (&b""[..], &b""[..]),
        };
        let (zone, policy) = (String::from_utf8_lossy(zone), String::from_utf8_lossy(policy));
        self.zone = match &main.zones[..] {
            [only] if zone.is_empty() => &raw const **only,
            zones => zones.iter().find(|one| one.name == zone).map_or(std::ptr::null(), |one| &raw const **one),
        };
        self.policy = match &main.policies[..] {
            [_] if policy.is_empty() => 0,
            policies => policies.iter().position(|(name, _)| *name == policy).unwrap_or(usize::MAX),
        };
        if self.zone.is_null() && !zone.is_empty() {
            return Err(format!("there is no curfew_zone \"{zone}\""));
        }
        if self.policy == usize::MAX && !policy.is_empty() {
            return Err(format!("there is no curfew_policy \"{policy}\""));
        }
        for (directive, value) in [
            ("curfew_id", self.id),
            ("curfew_start", self.start),
            ("curfew_rotate", self.rotate),
            ("curfew_subject", self.subject),
            ("curfew_binding", self.binding),
        ] {
            if let Some(name) = ambiguity::cut_name(value) {
                let variable = String::from_utf8_lossy(name);
                return Err(format!(
                    "\"{directive}\": nginx reads \"${variable}\" here, because names of variables have no \"-\" and no \
                     \".\"; write \"_\" for \"-\" in the name of a header, take a cookie by a map, as the documentation of \
                     curfew_id says, and write \"${{{variable}}}\" if that is meant"
                ));
            }
        }
        let Some((directive, needs_policy, needs_id)) = self.needs() else { return Ok(()) };
        let named = "name it: curfew zone=... policy=... (and \"curfew off\" below it where nothing is checked)";
        if self.zone.is_null() {
            return Err(format!("\"{directive}\" needs a zone; {named}"));
        }
        if needs_policy && self.policy == usize::MAX {
            return Err(format!("\"{directive}\" needs a policy; {named}"));
        }
        if needs_id && self.id.is_null() {
            return Err(format!("\"{directive}\" needs curfew_id, at the same level or one above"));
        }
        Ok(())
    }
}

/// What a request's location says.
///
/// # Safety
/// `r` must be a live request.
pub(crate) unsafe fn of_request<'a>(r: *mut ngx_http_request_t) -> &'a LocConf {
    // SAFETY: a request's location has a configuration of each http module, which outlives it.
    unsafe { &*(*(*r).loc_conf.add((*addr_of!(module::ngx_http_curfew_module)).ctx_index)).cast::<LocConf>() }
}

/// What its configuration says at the `http` level.
///
/// # Safety
/// `r` must be a live request.
pub(crate) unsafe fn of_request_main<'a>(r: *mut ngx_http_request_t) -> &'a MainConf {
    // SAFETY: as above.
    unsafe { &*(*(*r).main_conf.add((*addr_of!(module::ngx_http_curfew_module)).ctx_index)).cast::<MainConf>() }
}

/// What a configuration says at its `http` level; `None` when it has no such level.
///
/// # Safety
/// `cycle` must be null or a cycle whose configuration was read.
pub(crate) unsafe fn of_cycle<'a>(cycle: *const nginx_sys::ngx_cycle_t) -> Option<&'a MainConf> {
    // SAFETY: as above; the configuration of the http block is a `ngx_http_conf_ctx_t`.
    unsafe {
        let index = (*addr_of!(module::ngx_http_curfew_module)).ctx_index;
        let conf_ctx = cycle.as_ref()?.conf_ctx;
        let http = (*conf_ctx.add((*addr_of!(nginx_sys::ngx_http_module)).index)).cast::<ngx_http_conf_ctx_t>();
        (*http.as_ref()?.main_conf.add(index)).cast::<MainConf>().as_ref()
    }
}

/// As [`of_cycle`], while it is being read.
pub(crate) unsafe fn main_of<'a>(cf: *mut ngx_conf_t) -> &'a mut MainConf {
    // SAFETY: directives and merges of http modules run with the http context.
    unsafe {
        let http = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        &mut *(*(*http).main_conf.add((*addr_of!(module::ngx_http_curfew_module)).ctx_index)).cast::<MainConf>()
    }
}

pub(crate) unsafe extern "C" fn create_main(cf: *mut ngx_conf_t) -> *mut c_void {
    unsafe extern "C" fn drop_it(place: *mut c_void) {
        // SAFETY: the place holds what was boxed below, or null.
        unsafe {
            let conf = *place.cast::<*mut MainConf>();
            if !conf.is_null() {
                fence(null_mut(), (), || drop(Box::from_raw(conf)));
            }
        }
    }
    // SAFETY: nginx calls this with the configuration that it reads; a null pointer is a valid one.
    unsafe {
        let log = (*cf).log;
        fence(log, null_mut(), || {
            let Some(place) = add_cleanup::<*mut MainConf>((*cf).pool, drop_it) else { return null_mut() };
            *place = Box::into_raw(Box::new(MainConf::default()));
            (*place).cast()
        })
    }
}

pub(crate) unsafe extern "C" fn create_loc(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx calls this with the configuration that it reads.
    let pool = unsafe { (*cf).pool };
    in_pool(pool, LocConf::UNSET).map_or(null_mut(), <*mut LocConf>::cast)
}

pub(crate) unsafe extern "C" fn merge_loc(cf: *mut ngx_conf_t, above: *mut c_void, mine: *mut c_void) -> *mut c_char {
    // SAFETY: nginx calls this with two configurations that `create_loc` has made.
    unsafe {
        let (above, mine) = (&*above.cast::<LocConf>(), &mut *mine.cast::<LocConf>());
        fence((*cf).log, REFUSED, || {
            mine.ends_on_condition = mine.end != UNSET_CHOICE && is_condition(cf);
            mine.merge(above);
            let main = main_of(cf);
            main.counts_sent |= mine.is_guarded() && mine.has_streams() && mine.stream_activity == choice::BOTH;
            if let Err(message) = mine.resolve(main) {
                return refuse(cf, &message);
            }
            if !main.has_warned && mine.forgets_what_it_must_not(main) {
                main.has_warned = true;
                let message = "by \"curfew_unknown\", what has ended may begin again once it is forgotten: give the \
                               curfew_zone a path=, and do not use on_full=evict_ended";
                ngx_conf_log_error!(NGX_LOG_WARN, cf, "{}", message);
            }
            OK
        })
    }
}

/// Whether the level that is being merged is an `if`.
unsafe fn is_condition(cf: *mut ngx_conf_t) -> bool {
    // SAFETY: merges of http modules run with the context of the level, which has a core configuration.
    unsafe {
        let http = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        let core = *(*http).loc_conf.add((*addr_of!(ngx_http_core_module)).ctx_index);
        (*core.cast::<ngx_http_core_loc_conf_t>()).noname() != 0
    }
}

fn refuse(cf: *mut ngx_conf_t, message: &str) -> *mut c_char {
    ngx_conf_log_error!(NGX_LOG_EMERG, cf, "{}", message);
    REFUSED
}

/// The words of a directive, its name first.
unsafe fn words<'a>(cf: *mut ngx_conf_t) -> &'a mut [ngx_str_t] {
    // SAFETY: while a directive is set, `args` is an array of strings that lie in the pool.
    unsafe { (*(*cf).args).as_slice_mut::<ngx_str_t>() }
}

unsafe extern "C" fn set_zone(cf: *mut ngx_conf_t, _: *mut ngx_command_t, _: *mut c_void) -> *mut c_char {
    // SAFETY: nginx calls this for a directive at the http level.
    unsafe {
        fence((*cf).log, REFUSED, || {
            let (mut named, mut path) = (None, None);
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
                } else {
                    return refuse(cf, &format!("invalid parameter \"{word}\"; there are zone=name:size and path="));
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
            let Some(config) = Config::fitting(parsed as u64) else {
                return refuse(cf, &format!("zone \"{name}\" is too small; the least is zone={name}:256k"));
            };
            let main = main_of(cf);
            if main.zones.iter().any(|zone| zone.name == name) {
                return refuse(cf, &format!("zone \"{name}\" is defined twice"));
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
            if name.len() > 31 || name.contains('=') {
                return refuse(cf, "the name of a curfew_policy comes first, and has at most 31 bytes");
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

type Handler = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;

/// Lets a location be answered by the module itself.
unsafe fn set_handler(cf: *mut ngx_conf_t, conf: *mut c_void, handler: Handler, by_session: bool) -> *mut c_char {
    // SAFETY: nginx calls the directive with the configuration of a location.
    unsafe {
        let conf = &mut *conf.cast::<LocConf>();
        let http = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        let core = *(*http).loc_conf.add((*addr_of!(ngx_http_core_module)).ctx_index);
        let core = &mut *core.cast::<ngx_http_core_loc_conf_t>();
        if core.handler.is_some() {
            return refuse(cf, "something else answers in this location already");
        }
        core.handler = Some(handler);
        conf.answers = ngx_flag_t::from(by_session);
        OK
    }
}

unsafe extern "C" fn set_status_json(cf: *mut ngx_conf_t, _: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    // SAFETY: as nginx calls it.
    unsafe { fence((*cf).log, REFUSED, || set_handler(cf, conf, page::handle, true)) }
}

unsafe extern "C" fn set_admin(cf: *mut ngx_conf_t, _: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    // SAFETY: as nginx calls it.
    unsafe { fence((*cf).log, REFUSED, || set_handler(cf, conf, admin::handle, false)) }
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
    ngx_conf_num_bounds_t { post_handler: Some(nginx_sys::ngx_conf_check_num_bounds), low: 400, high: 599 };

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
    text(c"curfew_id", offset_of!(LocConf, id)),
    text(c"curfew_subject", offset_of!(LocConf, subject)),
    text(c"curfew_binding", offset_of!(LocConf, binding)),
    text(c"curfew_expires", offset_of!(LocConf, expires)),
    text(c"curfew_activity", offset_of!(LocConf, activity)),
    one_of(c"curfew_activity_at", offset_of!(LocConf, activity_at), addr_of_mut!(COUNTS_AT).cast()),
    flag(c"curfew_streams", offset_of!(LocConf, streams)),
    one_of(c"curfew_stream_activity", offset_of!(LocConf, stream_activity), addr_of_mut!(STREAM_ACTIVITY).cast()),
    text(c"curfew_start", offset_of!(LocConf, start)),
    text(c"curfew_rotate", offset_of!(LocConf, rotate)),
    text(c"curfew_reauthenticated", offset_of!(LocConf, reauthenticated)),
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
