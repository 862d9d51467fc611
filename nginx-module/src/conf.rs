//! The configuration: what each level says, how it inherits from the one above, and what cannot be.
//!
//! What is unset has nginx's marks for that (-1, null), so that a level takes it from the one above.

mod answers;
mod directives;
mod source;
mod warnings;

use std::ffi::{c_char, c_void};
use std::ptr::{addr_of, null_mut};

use curfew_engine::Policy;
use nginx_sys::{
    NGX_LOG_EMERG, ngx_conf_t, ngx_flag_t, ngx_http_complex_value_t, ngx_http_conf_ctx_t, ngx_http_request_t,
    ngx_int_t, ngx_str_t, ngx_uint_t,
};
use ngx::ngx_conf_log_error;

use crate::nginx::{add_cleanup, bytes, fence, in_pool};
use crate::zone::Zone;
use crate::{ambiguity, module};

use answers::{answer, core_of};
pub(crate) use directives::{DIRECTIVES, MOST_POLICIES};
pub(crate) use source::COOKIE;
use warnings::Warnings;
pub(crate) use warnings::look_at_all;

/// Text with variables, or a cookie by its name, as a directive has it; null when the directive is not there.
pub(crate) type Value = *mut ngx_http_complex_value_t;

const OK: *mut c_char = null_mut();
/// `NGX_CONF_ERROR`: refused, and why was logged.
const REFUSED: *mut c_char = std::ptr::without_provenance_mut(usize::MAX);
const UNSET: ngx_int_t = -1;
const UNSET_CHOICE: ngx_uint_t = ngx_uint_t::MAX;

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
    warnings: Warnings,
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
    /// The condition on which `start` begins one; it belongs to that, and is none if it is null.
    pub(crate) start_if: Value,
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
    /// What of this module answers here.
    answers: ngx_uint_t,
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
    pub(crate) const STATUS_JSON: ngx_uint_t = 1;
    pub(crate) const ADMIN: ngx_uint_t = 2;
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
        start_if: null_mut(),
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
        answers: UNSET_CHOICE,
    };

    /// Whether requests are checked here.
    pub(crate) fn is_guarded(&self) -> bool {
        self.guard == 1 && self.answers != choice::STATUS_JSON
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
        if self.answers == choice::STATUS_JSON {
            return Some(("curfew_status_json", false, true));
        }
        None
    }

    /// Whether an id that has no session begins one.
    pub(crate) fn begins_unknown(&self) -> bool {
        matches!(self.unknown, choice::START | choice::START_LITERAL)
    }

    /// Takes over what the level above says and this one does not.
    fn merge(&mut self, above: &LocConf) {
        fn pick<T: PartialEq + Copy>(mine: &mut T, above: T, unset: T, default: T) {
            if *mine == unset {
                *mine = if above == unset { default } else { above };
            }
        }
        pick(&mut self.guard, above.guard, UNSET, 0);
        if self.start.is_null() {
            (self.start, self.start_if) = (above.start, above.start_if);
        }
        if self.target.is_null() {
            self.target = above.target;
        }
        for (mine, above) in [
            (&mut self.id, above.id),
            (&mut self.subject, above.subject),
            (&mut self.binding, above.binding),
            (&mut self.expires, above.expires),
            (&mut self.activity, above.activity),
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
            ("curfew_start", self.start_if),
            ("curfew_rotate", self.rotate),
            ("curfew_subject", self.subject),
            ("curfew_binding", self.binding),
            ("curfew_expires", self.expires),
            ("curfew_activity", self.activity),
            ("curfew_reauthenticated", self.reauthenticated),
        ] {
            if let Some(name) = ambiguity::cut_name(value) {
                let variable = String::from_utf8_lossy(name);
                return Err(format!(
                    "\"{directive}\": nginx reads \"${variable}\" here, because names of variables have no \"-\" and no \
                     \".\"; write \"_\" for \"-\" in the name of a header, cookie=name or upstream_cookie=name with the whole \
                     name of a cookie, and \"${{{variable}}}\" if that is meant"
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
            mine.ends_on_condition = mine.end != UNSET_CHOICE && core_of(cf).noname() != 0;
            if let Err(message) = answer(cf, mine, above) {
                return refuse(cf, &message);
            }
            mine.merge(above);
            let main = main_of(cf);
            main.counts_sent |= mine.is_guarded() && mine.has_streams() && mine.stream_activity == choice::BOTH;
            if let Err(message) = mine.resolve(main) {
                return refuse(cf, &message);
            }
            warnings::look_at_level(cf, main, mine);
            OK
        })
    }
}

fn refuse(cf: *mut ngx_conf_t, message: &str) -> *mut c_char {
    ngx_conf_log_error!(NGX_LOG_EMERG, cf, "{}", message);
    REFUSED
}
