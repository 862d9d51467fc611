//! Operation sequences against the reference model: `engine/tests/model.rs`, with a fuzzer to choose.

#![no_main]

#[path = "../../engine/tests/common/model.rs"]
mod model;

use curfew_engine::{Cause, GraceMode, OnFull, OnLimit, OnMismatch, Policy, Retain, Span};
use curfew_fuzz::Bytes;
use libfuzzer_sys::fuzz_target;
use model::{KEYS, Op, POLICIES, run};

/// As many as a history may have: each step compares everything.
const STEPS: usize = 200;
/// Where clocks begin: the epoch, the edges of the wheel's levels, and close to the end of time.
const ORIGINS: [u64; 6] = [0, (1 << 12) - 1, (1 << 36) + 12_345, (1 << 47) - 1, (1 << 48) - 2 - 100_000, (1 << 48) - 2];

fn span(bytes: &mut Bytes<'_>) -> u64 {
    match bytes.below(7) {
        0 => 0,
        1 => 1 + bytes.below(3),
        2 => 5 + bytes.below(75),
        3 => 4096,
        4 => 60_000 + bytes.below(7000),
        5 => 40_000_000_000,
        _ => bytes.below(1 << 24),
    }
}

fn policy(bytes: &mut Bytes<'_>) -> Policy {
    let (idle, lifetime) = (span(bytes), span(bytes));
    Policy {
        // One of the two there must be.
        idle: Span::from_millis(if idle + lifetime == 0 { 7 } else { idle }),
        lifetime: Span::from_millis(lifetime),
        grace: Span::from_millis(span(bytes)),
        grace_mode: [GraceMode::Reauth, GraceMode::Resume][bytes.index(2)],
        on_mismatch: [OnMismatch::Deny, OnMismatch::End, OnMismatch::Log][bytes.index(3)],
        max_per_subject: bytes.below(4) as u32,
        on_limit: [OnLimit::Deny, OnLimit::EndOldest, OnLimit::EndLeastRecent][bytes.index(3)],
        retain: if bytes.below(2) == 0 { Retain::UntilHardLimit } else { Retain::For(Span::from_millis(span(bytes))) },
        on_full: [OnFull::Refuse, OnFull::EvictEnded][bytes.index(2)],
    }
}

fn option<T>(bytes: &mut Bytes<'_>, some: impl Fn(&mut Bytes<'_>) -> T) -> Option<T> {
    (bytes.below(2) == 1).then(|| some(bytes))
}

fn op(bytes: &mut Bytes<'_>, back: bool) -> Op {
    let key = |bytes: &mut Bytes<'_>| bytes.index(KEYS);
    let small = |bytes: &mut Bytes<'_>| bytes.below(3) as u8;
    match bytes.below(13) {
        0 => Op::Forward(span(bytes)),
        1 if back => Op::Back(span(bytes)),
        1 => Op::Forward(span(bytes)),
        2 => Op::Start {
            key: key(bytes),
            policy: bytes.index(POLICIES),
            subject: small(bytes),
            binding: small(bytes),
            token: span(bytes),
        },
        3 => Op::Touch { key: key(bytes), binding: small(bytes) },
        4 => Op::TouchAll { binding: small(bytes) },
        5 => Op::Reauthenticate { key: key(bytes), token: option(bytes, span) },
        6 => Op::Rotate { old: key(bytes), new: key(bytes), overlap: span(bytes) },
        7 => Op::End { key: key(bytes), cause: [Cause::Logout, Cause::Revoked, Cause::Evicted][bytes.index(3)] },
        8 => Op::EndSubject { subject: 1 + bytes.below(2) as u8 },
        9 => Op::EndAll { policy: option(bytes, |bytes| bytes.index(POLICIES)), idle_for: option(bytes, span) },
        10 => Op::SetPolicy { which: bytes.index(POLICIES), policy: policy(bytes) },
        11 => Op::Advance { budget: [0, 1, 2, 3, 4, 100_000][bytes.index(6)] },
        _ => Op::Repair,
    }
}

fuzz_target!(|data: &[u8]| {
    let bytes = &mut Bytes::new(data);
    let (capacity, origin, back) = (1 + bytes.index(7), ORIGINS[bytes.index(6)], bytes.below(2) == 1);
    let policies: Vec<_> = (0..POLICIES).map(|_| policy(bytes)).collect();
    let mut ops = Vec::new();
    while !bytes.is_empty() && ops.len() < STEPS {
        ops.push(op(bytes, back));
    }
    // What a plain test would say, for an input that broke something.
    if std::env::var_os("CURFEW_TELL").is_some() {
        eprintln!("run({capacity}, &{policies:?}, {origin}, &{ops:#?});");
    }
    run(capacity, &policies, origin, &ops);
});
