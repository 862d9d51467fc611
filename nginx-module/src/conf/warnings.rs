//! What can be configured and is hardly meant: nginx says so, and goes on.

use std::ptr::addr_of;

use curfew_engine::{OnFull, OnLimit, Policy, Retain, Span};
use nginx_sys::{NGX_LOG_WARN, ngx_conf_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t, ngx_http_core_module};
use ngx::ngx_conf_log_error;

use super::source::of_the_response;
use super::{LocConf, MainConf, choice};
use crate::nginx::bytes;
use crate::zone::Zone;

/// What was seen of a configuration while it was read, and what was said of it.
#[derive(Default)]
pub(crate) struct Warnings {
    /// It was said that what has ended may begin again.
    forgets: bool,
    /// Policies of which it was said that they count nobody.
    uncounted: Vec<usize>,
    /// Zones in which an id that nobody knows, or knows any more, gets in somewhere.
    open: Vec<*const Zone>,
    /// Zones, and the policies under which sessions begin there.
    begun: Vec<(*const Zone, usize)>,
    /// Policies that say themselves what happens when there is no room.
    decided: Vec<usize>,
}

fn warn(cf: *mut ngx_conf_t, message: &str) {
    ngx_conf_log_error!(NGX_LOG_WARN, cf, "{}", message);
}

/// Looks at a policy, which is to be the next of `main`, with the parameters that it has.
pub(super) fn look_at_policy(cf: *mut ngx_conf_t, main: &mut MainConf, name: &str, policy: &Policy, given: &[String]) {
    let is_given = |parameter: &str| given.iter().any(|given| given == parameter);
    for (parameter, other, is_off) in [
        ("grace", "idle", policy.idle == Span::OFF),
        ("grace_mode", "grace", policy.grace == Span::OFF),
        ("on_limit", "max_per_subject", policy.max_per_subject == 0),
    ] {
        if is_given(parameter) && is_off {
            warn(cf, &format!("curfew_policy \"{name}\": \"{parameter}=\" does nothing without \"{other}=\""));
        }
    }
    if is_given("on_full") {
        main.warnings.decided.push(main.policies.len());
    }
}

/// Looks at a level that has taken over what the one above says.
pub(super) fn look_at_level(cf: *mut ngx_conf_t, main: &mut MainConf, level: &LocConf) {
    let begins_unknown = level.is_guarded() && level.begins_unknown();
    if level.unknown != choice::DENY {
        main.warnings.open.push(level.zone);
    }
    if level.start.is_null() && !begins_unknown {
        return;
    }
    let place = (level.zone, level.policy);
    if !main.warnings.begun.contains(&place) {
        main.warnings.begun.push(place);
    }
    let Some((name, policy)) = main.policies.get(level.policy) else { return };
    // Where the application sees what nobody knows any more, it may renew it.
    let renews = !level.is_guarded() && level.unknown == choice::PASS;
    if (begins_unknown || renews) && !main.warnings.forgets {
        let remedies = remedies(level, policy);
        if !remedies.is_empty() {
            main.warnings.forgets = true;
            let remedies = remedies.join(", ");
            let message = "by \"curfew_unknown\", what has ended may begin again once it is forgotten";
            return warn(cf, &format!("{message}: {remedies}"));
        }
    }
    let is_uncounted =
        policy.max_per_subject > 0 && names_nobody(level) && !main.warnings.uncounted.contains(&level.policy);
    // SAFETY: nginx merges levels with the context of the one that is merged.
    if is_uncounted && !unsafe { is_above_others(cf) } {
        main.warnings.uncounted.push(level.policy);
        let why = match level.subject.is_null() {
            true => "without curfew_subject",
            false => "before there is an answer that says curfew_subject",
        };
        warn(
            cf,
            &format!("sessions under curfew_policy \"{name}\" begin {why}: its max_per_subject= does not count them"),
        );
    }
}

/// What keeps in mind what has ended for as long as its id may come.
fn remedies(level: &LocConf, policy: &Policy) -> Vec<&'static str> {
    let has_lifetime = policy.lifetime != Span::OFF;
    let least = if has_lifetime { policy.lifetime } else { Span::DAY };
    let mut remedies = Vec::new();
    if !level.zone().is_some_and(Zone::survives_a_restart) {
        remedies.push("give the curfew_zone a path=");
    }
    if policy.on_full == OnFull::EvictEnded {
        remedies.push("do not use on_full=evict_ended");
    }
    if matches!(policy.retain, Retain::For(span) if span < least) {
        remedies.push(if has_lifetime {
            "let retain= be as long as lifetime="
        } else {
            "let retain= be a day or more"
        });
    }
    remedies
}

/// Whether no session that begins here can have a subject.
fn names_nobody(level: &LocConf) -> bool {
    // SAFETY: the text of a directive lives as long as the configuration.
    let subject = unsafe { level.subject.as_ref().map(|subject| bytes(subject.value)) };
    let asks_the_answer = |text: &[u8]| text.starts_with(b"upstream_cookie=") || of_the_response(text).is_some();
    subject.is_none_or(|text| level.start.is_null() && asks_the_answer(text))
}

/// Whether a level is a server's that has locations, which answer in its place.
unsafe fn is_above_others(cf: *mut ngx_conf_t) -> bool {
    // SAFETY: as in `is_condition`.
    unsafe {
        let http = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        let core = *(*http).loc_conf.add((*addr_of!(ngx_http_core_module)).ctx_index);
        let core = &*core.cast::<ngx_http_core_loc_conf_t>();
        core.name.len == 0 && core.noname() == 0 && !core.locations.is_null()
    }
}

/// Looks at the whole, once it was read.
pub(crate) fn look_at_all(cf: *mut ngx_conf_t, main: &MainConf) {
    let warnings = &main.warnings;
    let mut said = Vec::new();
    for (zone, number) in &warnings.begun {
        let Some((name, policy)) = main.policies.get(*number) else { continue };
        let displaces = policy.max_per_subject > 0 && policy.on_limit != OnLimit::Deny;
        let fills = displaces && policy.on_full == OnFull::Refuse && policy.retain != Retain::For(Span::OFF);
        // Where nobody gets in with an id that was forgotten, there is no reason to keep what nothing has room for.
        if !fills || warnings.open.contains(zone) || warnings.decided.contains(number) || said.contains(number) {
            continue;
        }
        said.push(*number);
        warn(
            cf,
            &format!(
                "curfew_policy \"{name}\": sessions that \"on_limit=\" has ended are remembered, so that one user who \
                 logs in again and again fills the zone: write on_full=evict_ended, or on_full=refuse if that is meant"
            ),
        );
    }
}
