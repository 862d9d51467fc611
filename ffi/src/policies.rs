//! Policies.

use std::ffi::c_char;

use curfew_engine::{GraceMode, OnFull, OnLimit, OnMismatch, Policy, PolicyId, Retain, Span, Tick};

use crate::boundary::{Answer, Output, explained, guarded, read, set_text, text};
use crate::handles::{curfew_table, with};
use crate::status::{Refusal, curfew_status};
use crate::types::{curfew_error, curfew_policy, curfew_tick};

/// Policies are numbered from zero; a region has at most this many.
pub const CURFEW_MOST_POLICIES: u32 = 64;
/// Longest name of a policy, with its final zero.
pub const CURFEW_POLICY_NAME_SIZE: u32 = 32;

fn one_of<T: Copy>(choices: &[T], number: u32) -> Answer<T> {
    choices.get(number as usize).copied().ok_or(curfew_status::CURFEW_UNSUPPORTED)
}

pub(crate) fn policy_id(number: u32) -> Answer<PolicyId> {
    u8::try_from(number).map(PolicyId::from_number).map_err(|_| curfew_status::CURFEW_UNKNOWN_POLICY)
}

impl curfew_policy {
    fn to_engine(self) -> Answer<Policy> {
        let span = Span::from_millis;
        Ok(Policy {
            idle: span(self.idle_ms),
            lifetime: span(self.lifetime_ms),
            grace: span(self.grace_ms),
            grace_mode: one_of(&[GraceMode::Reauth, GraceMode::Resume], self.grace_mode)?,
            on_mismatch: one_of(&[OnMismatch::Deny, OnMismatch::End, OnMismatch::Log], self.on_mismatch)?,
            max_per_subject: self.max_per_subject,
            on_limit: one_of(&[OnLimit::Deny, OnLimit::EndOldest, OnLimit::EndLeastRecent], self.on_limit)?,
            retain: one_of(&[Retain::UntilHardLimit, Retain::For(span(self.retain_ms))], self.retain_mode)?,
            on_full: one_of(&[OnFull::Refuse, OnFull::EvictEnded], self.on_full)?,
        })
    }

    fn from_engine(policy: &Policy) -> curfew_policy {
        let (retain_mode, retain) = match policy.retain {
            Retain::UntilHardLimit => (0, Span::OFF),
            Retain::For(span) => (1, span),
        };
        curfew_policy {
            struct_size: size_of::<curfew_policy>(),
            idle_ms: policy.idle.as_millis(),
            lifetime_ms: policy.lifetime.as_millis(),
            grace_ms: policy.grace.as_millis(),
            retain_ms: retain.as_millis(),
            retain_mode,
            grace_mode: policy.grace_mode as u32,
            on_mismatch: policy.on_mismatch as u32,
            max_per_subject: policy.max_per_subject,
            on_limit: policy.on_limit as u32,
            on_full: policy.on_full as u32,
        }
    }
}

/// # Safety
/// `from` is null or ends with a zero.
unsafe fn name(from: *const c_char) -> Answer<String> {
    // SAFETY: passed on.
    let bytes = unsafe { text(from, CURFEW_POLICY_NAME_SIZE as usize) }.map_err(|status| match status {
        curfew_status::CURFEW_INVALID_ARGUMENT => curfew_status::CURFEW_BAD_NAME,
        other => other,
    })?;
    String::from_utf8(bytes).map_err(|_| curfew_status::CURFEW_BAD_NAME)
}

/// Adds the policy `name`, or changes it for all sessions that live under it, at once; `policy_number`
/// gets the number by which sessions name it.
///
/// A session that had ended under the old policy before `now` stays ended. Setting a policy to what it
/// is does nothing, so every process may set its policies when it starts. Answers
/// `CURFEW_NO_LIMIT`, `CURFEW_TOO_LONG`, `CURFEW_BAD_NAME`, `CURFEW_TOO_MANY_POLICIES`, or
/// `CURFEW_POLICY_BUSY` when it changed three times and `curfew_advance` has not caught up. `error` may be
/// null.
///
/// # Safety
/// `name` ends with a zero; `policy` and `error` as everywhere; `policy_number` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_set_policy(
    table: curfew_table,
    name: *const c_char,
    policy: *const curfew_policy,
    now: curfew_tick,
    error: *mut curfew_error,
    policy_number: *mut u32,
) -> curfew_status {
    // SAFETY: as the header asks.
    unsafe {
        explained(error, || {
            let output = Output::new(policy_number)?;
            let name = self::name(name)?;
            let policy = read(policy)?.to_engine()?;
            let set = with(table, |table| table.set_policy(&name, &policy, Tick::from_millis(now)))?;
            output.set(u32::from(set.map_err(Refusal::from)?.number()));
            Ok(())
        })
    }
}

/// The number of the policy `name`. Answers `CURFEW_UNKNOWN_POLICY` when there is none.
///
/// # Safety
/// `name` ends with a zero; `policy_number` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_find_policy(
    table: curfew_table,
    name: *const c_char,
    policy_number: *mut u32,
) -> curfew_status {
    // SAFETY: as the header asks.
    let (output, name) = unsafe { (Output::new(policy_number), self::name(name)) };
    guarded(|| {
        let (output, name) = (output?, name?);
        let found = with(table, |table| table.policy_id(&name))?.ok_or(curfew_status::CURFEW_UNKNOWN_POLICY)?;
        output.set(u32::from(found.number()));
        Ok(())
    })
}

/// What a policy says now. Answers `CURFEW_UNKNOWN_POLICY` when there is none of this number: numbers
/// below `CURFEW_MOST_POLICIES` are all that need be tried to see every policy.
///
/// # Safety
/// `policy` as every output struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_get_policy(
    table: curfew_table,
    policy_number: u32,
    policy: *mut curfew_policy,
) -> curfew_status {
    // SAFETY: as the header asks.
    let output = unsafe { Output::sized(policy) };
    guarded(|| {
        let output = output?;
        let id = policy_id(policy_number)?;
        let policy = with(table, |table| table.policy(id))?.ok_or(curfew_status::CURFEW_UNKNOWN_POLICY)?;
        output.set_sized(curfew_policy::from_engine(&policy));
        Ok(())
    })
}

/// The name of a policy, into a buffer of `size` bytes; `CURFEW_POLICY_NAME_SIZE` are always enough.
/// Answers `CURFEW_UNKNOWN_POLICY` when there is none of this number.
///
/// # Safety
/// `name` can be written for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_policy_name(
    table: curfew_table,
    policy_number: u32,
    name: *mut c_char,
    size: usize,
) -> curfew_status {
    guarded(|| {
        let id = policy_id(policy_number)?;
        let found = with(table, |table| table.policies().find(|(other, ..)| *other == id))?;
        let (_, text, _) = found.ok_or(curfew_status::CURFEW_UNKNOWN_POLICY)?;
        // What stands in a region is not trusted to be a text.
        let text: Vec<u8> = text.into_bytes().into_iter().filter(|byte| *byte != 0).collect();
        let most = text.len().min(CURFEW_POLICY_NAME_SIZE as usize - 1);
        // SAFETY: as the header asks.
        unsafe { set_text(&text[..most], name, size) }
    })
}
