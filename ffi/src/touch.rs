//! Keys, and the question that every request asks.

use std::ffi::c_char;

use curfew_engine::{Batched, Binding, Cause, Key, Left, Table, Tick, Verdict};

use crate::boundary::{Answer, Inputs, Output, Outputs, bytes, guarded, set_text, text, value};
use crate::handles::{curfew_table, with};
use crate::status::curfew_status;
use crate::types::{
    curfew_binding, curfew_cause, curfew_key, curfew_state, curfew_subject, curfew_tick, curfew_verdict,
};

/// Bytes of a key as text, with its final zero.
pub const CURFEW_KEY_TEXT_SIZE: u32 = 33;

impl curfew_key {
    pub(crate) fn to_engine(self) -> Key {
        Key::from_bytes(self.bytes)
    }

    pub(crate) fn from_engine(key: Key) -> curfew_key {
        curfew_key { bytes: key.to_bytes() }
    }
}

/// # Safety
/// `from` is null or points to a key.
pub(crate) unsafe fn key(from: *const curfew_key) -> Answer<Key> {
    // SAFETY: passed on.
    Ok(unsafe { value(from) }?.to_engine())
}

impl curfew_verdict {
    #[inline]
    pub(crate) fn of(verdict: &Verdict) -> curfew_verdict {
        let mut out = curfew_verdict {
            struct_size: size_of::<curfew_verdict>(),
            passes: u32::from(verdict.passes()),
            state: curfew_state::CURFEW_UNKNOWN as u32,
            cause: curfew_cause::CURFEW_CAUSE_NONE as u32,
            mismatch: 0,
            policy: 0,
            reserved: 0,
            ended_at: 0,
            idle_left_ms: 0,
            lifetime_left_ms: 0,
            token_left_ms: 0,
            end_left_ms: 0,
            age_ms: 0,
        };
        match verdict {
            Verdict::Active(left) => out.alive(curfew_state::CURFEW_ACTIVE, left),
            Verdict::Grace(left) => out.alive(curfew_state::CURFEW_GRACE, left),
            Verdict::Ended(end) => {
                out.state = curfew_state::CURFEW_ENDED as u32;
                out.cause = end.cause as u32;
                out.ended_at = end.at.as_millis();
            }
            Verdict::Mismatch(mismatch) => {
                out.state = curfew_state::CURFEW_MISMATCH as u32;
                out.cause = if mismatch.ended { Cause::Binding as u32 } else { 0 };
                out.mismatch = 1;
            }
            Verdict::Unknown => {}
        }
        out
    }

    #[inline]
    fn alive(&mut self, state: curfew_state, left: &Left) {
        self.state = state as u32;
        self.mismatch = u32::from(left.mismatch());
        self.policy = u32::from(left.policy().number());
        self.idle_left_ms = left.idle().as_millis();
        self.lifetime_left_ms = left.lifetime().as_millis();
        self.token_left_ms = left.token().as_millis();
        self.end_left_ms = left.end().as_millis();
        self.age_ms = left.age().as_millis();
    }
}

/// The key of a session id: `length` bytes, any bytes, at most a megabyte. About 0.1 us. The id is not
/// kept. The same id has the same key in every process that has the region open, and none in another
/// region.
///
/// # Safety
/// `id` points to `length` bytes; `key` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_derive_key(
    table: curfew_table,
    id: *const u8,
    length: usize,
    key: *mut curfew_key,
) -> curfew_status {
    // SAFETY: as the header asks.
    unsafe { derive(table, id, length, key, |table, id| curfew_key::from_engine(table.key(id))) }
}

/// The digest of whom sessions belong to: a user's name or number, `length` bytes; zero for none.
///
/// # Safety
/// `name` points to `length` bytes; `subject` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_derive_subject(
    table: curfew_table,
    name: *const u8,
    length: usize,
    subject: *mut curfew_subject,
) -> curfew_status {
    // SAFETY: as the header asks.
    unsafe { derive(table, name, length, subject, |table, name| table.subject(name).as_u64()) }
}

/// The digest of what sessions are bound to, and requests present: the thumbprint of a client
/// certificate, a DPoP key, a device id, `length` bytes; zero for none.
///
/// # Safety
/// `what` points to `length` bytes; `binding` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_derive_binding(
    table: curfew_table,
    what: *const u8,
    length: usize,
    binding: *mut curfew_binding,
) -> curfew_status {
    // SAFETY: as the header asks.
    unsafe { derive(table, what, length, binding, |table, what| table.binding(what).as_u64()) }
}

/// # Safety
/// `from` points to `length` bytes; `to` can be written.
unsafe fn derive<T: Copy>(
    table: curfew_table,
    from: *const u8,
    length: usize,
    to: *mut T,
    how: impl Fn(&Table, &[u8]) -> T,
) -> curfew_status {
    guarded(|| {
        // SAFETY: passed on.
        let (output, digest) =
            unsafe { (Output::new(to)?, bytes(from, length, |id| with(table, |table| how(table, id)))??) };
        output.set(digest);
        Ok(())
    })
}

/// Writes a key as 32 hexadecimal digits and a zero, into a buffer of `size` bytes, of which
/// `CURFEW_KEY_TEXT_SIZE` are needed.
///
/// # Safety
/// `key` is null or points to a key; `to` can be written for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_key_text(key: *const curfew_key, to: *mut c_char, size: usize) -> curfew_status {
    // SAFETY: as the header asks.
    guarded(|| unsafe { set_text(self::key(key)?.to_string().as_bytes(), to, size) })
}

/// Reads a key that `curfew_key_text` wrote, in letters of either case. Answers `CURFEW_INVALID_ARGUMENT` for anything else.
///
/// # Safety
/// `from` ends with a zero; `key` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_key_parse(from: *const c_char, key: *mut curfew_key) -> curfew_status {
    // SAFETY: as the header asks.
    let (output, digits) = unsafe { (Output::new(key), text(from, CURFEW_KEY_TEXT_SIZE as usize)) };
    guarded(|| {
        let (output, digits) = (output?, digits?);
        let mut bytes = [0; 16];
        if digits.len() != 2 * bytes.len() {
            return Err(curfew_status::CURFEW_INVALID_ARGUMENT);
        }
        let digit = |byte: u8| (byte as char).to_digit(16).ok_or(curfew_status::CURFEW_INVALID_ARGUMENT);
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        output.set(curfew_key { bytes });
        Ok(())
    })
}

/// Decides whether a session may go on at `now`, and counts as activity if it may. The one call of the
/// hot path: takes no lock, allocates nothing, makes no system call; except that a wrong binding under
/// `CURFEW_MISMATCH_END` ends the session.
///
/// `binding` is what the request proved to have; zero for nothing. `CURFEW_OK` means that there is a
/// verdict, not that it is favourable: a request passes if `verdict->passes`.
///
/// # Safety
/// `key` is null or points to a key; `verdict` as every output struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_touch(
    table: curfew_table,
    key: *const curfew_key,
    binding: curfew_binding,
    now: curfew_tick,
    verdict: *mut curfew_verdict,
) -> curfew_status {
    // SAFETY: as the header asks.
    let (key, output) = unsafe { (self::key(key), Output::sized(verdict)) };
    judge(output, || {
        let (binding, now) = (Binding::from_u64(binding), Tick::from_millis(now));
        let key = key?;
        with(table, |table| table.touch(key, binding, now))
    })
}

/// Answers as `curfew_touch` would, and changes nothing. For requests that are no activity.
///
/// # Safety
/// As for `curfew_touch`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_peek(
    table: curfew_table,
    key: *const curfew_key,
    binding: curfew_binding,
    now: curfew_tick,
    verdict: *mut curfew_verdict,
) -> curfew_status {
    // SAFETY: as the header asks.
    let (key, output) = unsafe { (self::key(key), Output::sized(verdict)) };
    judge(output, || {
        let key = key?;
        with(table, |table| table.peek(key, Binding::from_u64(binding), Tick::from_millis(now)))
    })
}

/// `curfew_derive_key` and `curfew_touch` in one.
///
/// # Safety
/// `id` points to `length` bytes; `verdict` as every output struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_touch_id(
    table: curfew_table,
    id: *const u8,
    length: usize,
    binding: curfew_binding,
    now: curfew_tick,
    verdict: *mut curfew_verdict,
) -> curfew_status {
    let (binding, now) = (Binding::from_u64(binding), Tick::from_millis(now));
    // SAFETY: as the header asks.
    let output = unsafe { Output::sized(verdict) };
    judge(output, || {
        let touch = |id: &[u8]| with(table, |table| table.touch(table.key(id), binding, now));
        // SAFETY: as the header asks.
        unsafe { bytes(id, length, touch) }?
    })
}

/// `curfew_derive_key` and `curfew_peek` in one.
///
/// # Safety
/// As for `curfew_touch_id`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_peek_id(
    table: curfew_table,
    id: *const u8,
    length: usize,
    binding: curfew_binding,
    now: curfew_tick,
    verdict: *mut curfew_verdict,
) -> curfew_status {
    let (binding, now) = (Binding::from_u64(binding), Tick::from_millis(now));
    // SAFETY: as the header asks.
    let output = unsafe { Output::sized(verdict) };
    judge(output, || {
        let peek = |id: &[u8]| with(table, |table| table.peek(table.key(id), binding, now));
        // SAFETY: as the header asks.
        unsafe { bytes(id, length, peek) }?
    })
}

#[inline]
fn judge(output: Answer<Output<curfew_verdict>>, how: impl FnOnce() -> Answer<Verdict>) -> curfew_status {
    guarded(|| {
        let output = output?;
        output.set_sized(curfew_verdict::of(&how()?));
        Ok(())
    })
}

/// Touches `count` sessions, asking for their memory ahead of time, which with many sessions is two to three
/// times as fast as one by one. Each is answered as `curfew_touch` would answer it, in order.
///
/// `bindings` may be null, if nothing was presented with any. `verdicts` has room for as many; the first
/// one's `struct_size` counts for all. The arrays must not overlap (`CURFEW_INVALID_ARGUMENT`).
///
/// # Safety
/// `keys` points to `count` keys, `bindings` to `count` bindings or is null; `verdicts` as every output
/// array.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_touch_many(
    table: curfew_table,
    keys: *const curfew_key,
    bindings: *const curfew_binding,
    count: usize,
    now: curfew_tick,
    verdicts: *mut curfew_verdict,
) -> curfew_status {
    // SAFETY: as the header asks.
    let (inputs, presented, outputs) = unsafe {
        let presented = if bindings.is_null() { 0 } else { count };
        (Inputs::new(keys, count), Inputs::new(bindings, presented), Outputs::new(verdicts, count))
    };
    guarded(|| {
        let (inputs, presented, outputs) = (inputs?, presented?, outputs?);
        if count > 0 && (outputs.overlaps(keys, count) || (!bindings.is_null() && outputs.overlaps(bindings, count))) {
            return Err(curfew_status::CURFEW_INVALID_ARGUMENT);
        }
        let now = Tick::from_millis(now);
        with(table, |table| {
            // As large as need be: to make it ready for more than there are costs more than a touch.
            match count {
                0..=16 => in_batches::<16>(table, &inputs, &presented, &outputs, count, now),
                17..=64 => in_batches::<64>(table, &inputs, &presented, &outputs, count, now),
                _ => in_batches::<256>(table, &inputs, &presented, &outputs, count, now),
            }
        })
    })
}

/// Touches `count` sessions, of which `SIZE` are handed to the engine at a time.
fn in_batches<const SIZE: usize>(
    table: &Table,
    keys: &Inputs<curfew_key>,
    presented: &Inputs<curfew_binding>,
    verdicts: &Outputs<curfew_verdict>,
    count: usize,
    now: Tick,
) {
    let mut batch = [Batched::new(Key::from_bytes([0; 16]), Binding::NONE); SIZE];
    for first in (0..count).step_by(SIZE) {
        let batch = &mut batch[..SIZE.min(count - first)];
        for (nth, touch) in batch.iter_mut().enumerate() {
            let binding = presented.get(first + nth).map_or(Binding::NONE, Binding::from_u64);
            if let Some(key) = keys.get(first + nth) {
                *touch = Batched::new(key.to_engine(), binding);
            }
        }
        table.touch_many(batch, now);
        for (nth, touch) in batch.iter().enumerate() {
            verdicts.set(first + nth, curfew_verdict::of(&touch.verdict));
        }
    }
}
