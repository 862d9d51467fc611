//! The small figures. `CURFEW_BENCH_LARGE=1` adds a table of 10 million sessions.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use curfew_bench::sessions::{UNBOUND, draws, keys, lasting, table};
use curfew_engine::{Batched, Cause, Key, Retain, Span, Start, Table, Tick};

/// Keys that are gone through again and again.
const DRAWS: usize = 1 << 20;
/// A thousandth of a touch's time: what `now` moves on by at each.
const A_MILLISECOND: u64 = 1000;

/// Goes round through prepared keys, with the `now` of each.
struct Round<'a> {
    keys: &'a [Key],
    nth: usize,
}

impl Round<'_> {
    fn next(&mut self) -> (Key, Tick) {
        self.nth += 1;
        (self.keys[self.nth % self.keys.len()], Tick::from_millis(self.nth as u64 / A_MILLISECOND))
    }
}

fn one_by_one(group: &mut BenchmarkGroup<'_, WallTime>, sessions: usize, table: &Table, live: &[Key], strange: &[Key]) {
    group.throughput(Throughput::Elements(1));
    let mut round = Round { keys: live, nth: 0 };
    group.bench_function(BenchmarkId::new("touch, active", sessions), |b| {
        b.iter(|| {
            let (key, now) = round.next();
            table.touch(key, UNBOUND, now)
        });
    });
    group.bench_function(BenchmarkId::new("peek, active", sessions), |b| {
        b.iter(|| {
            let (key, now) = round.next();
            table.peek(key, UNBOUND, now)
        });
    });
    let mut round = Round { keys: strange, nth: 0 };
    group.bench_function(BenchmarkId::new("touch, unknown", sessions), |b| {
        b.iter(|| {
            let (key, now) = round.next();
            table.touch(key, UNBOUND, now)
        });
    });
}

fn batches(group: &mut BenchmarkGroup<'_, WallTime>, sessions: usize, table: &Table, live: &[Key]) {
    for size in [16, 256] {
        group.throughput(Throughput::Elements(size as u64));
        let mut batch = vec![Batched::new(live[0], UNBOUND); size];
        let mut round = Round { keys: live, nth: 0 };
        group.bench_function(BenchmarkId::new(format!("touch_many of {size}"), sessions), |b| {
            b.iter(|| {
                let mut now = Tick::ZERO;
                for one in &mut batch {
                    (one.key, now) = round.next();
                }
                table.touch_many(&mut batch, now);
                black_box(batch[size - 1].verdict)
            });
        });
    }
}

fn start_and_end(group: &mut BenchmarkGroup<'_, WallTime>, sessions: usize, table: &Table, strange: &[Key]) {
    group.throughput(Throughput::Elements(1));
    let start = Start::under(table.policy_id("bench").expect("the table was made with it"));
    let mut round = Round { keys: strange, nth: 0 };
    group.bench_function(BenchmarkId::new("start and end", sessions), |b| {
        b.iter_batched(
            || round.next(),
            |(key, now)| {
                table.start(key, &start, now).expect("there is room");
                table.end(key, Cause::Logout, now).expect("it was just started");
            },
            BatchSize::SmallInput,
        );
    });
}

/// Sessions that have ended and are remembered.
fn ended(group: &mut BenchmarkGroup<'_, WallTime>, sessions: usize, keys: &[Key], touched: &[Key]) {
    group.throughput(Throughput::Elements(1));
    let kept = table(sessions, keys, &lasting().retain(Retain::For(Span::DAY)), false).expect("a region");
    for key in keys {
        kept.end(*key, Cause::Logout, Tick::ZERO).expect("it was just started");
    }
    let mut round = Round { keys: touched, nth: 0 };
    group.bench_function(BenchmarkId::new("touch, ended", sessions), |b| {
        b.iter(|| {
            let (key, now) = round.next();
            kept.touch(key, UNBOUND, now)
        });
    });
}

fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table");
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let mut sizes = vec![100_000, 1_000_000];
    if std::env::var_os("CURFEW_BENCH_LARGE").is_some() {
        sizes.push(10_000_000);
    }
    for sessions in sizes {
        let started = keys(sessions, 0);
        let live = draws(&started, DRAWS, 1);
        let strange = keys(DRAWS, 2);
        {
            // Room for one more: the pair of start and end needs it.
            let table = table(sessions + 1, &started, &lasting(), false).expect("a region");
            one_by_one(&mut group, sessions, &table, &live, &strange);
            batches(&mut group, sessions, &table, &live);
            start_and_end(&mut group, sessions, &table, &strange);
        }
        ended(&mut group, sessions, &started, &live);
    }
    group.finish();

    let table = table(1, &[], &lasting(), false).expect("a region");
    let id = b"0123456789abcdef0123456789abcdef";
    criterion.bench_function("key of a 32-byte id", |b| b.iter(|| table.key(black_box(id))));
}

criterion_group!(benches, all);
criterion_main!(benches);
