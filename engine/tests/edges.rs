//! Cases that random histories on a few keys do not reach: long chains, numbers that come round
//! again, and clocks that disagree where two sessions of one subject meet.

use curfew_engine::{Binding, Cause, Config, Policy, Span, Start, Table, Tick, Verdict};

fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

#[test]
fn an_old_id_is_followed_through_every_rotation_of_its_overlap() {
    let table = Table::private(&Config::new(100)).unwrap();
    let policy = table.set_policy("p", &Policy::new().idle(Span::from_mins(15)), Tick::ZERO).unwrap();
    let key = |number: u8| table.key(&[number]);
    table.start(key(0), &Start::under(policy), at(0)).unwrap();
    for number in 0..12 {
        table.rotate(key(number), key(number + 1), ms(1000), at(u64::from(number))).unwrap();
        let first = table.touch(key(0), Binding::NONE, at(u64::from(number)));
        assert!(matches!(first, Verdict::Active(_)), "after {} rotations: {first:?}", number + 1);
    }
    assert!(matches!(table.touch(key(0), Binding::NONE, at(1000)), Verdict::Ended(end) if end.cause == Cause::Rotated));
    assert!(matches!(table.touch(key(11), Binding::NONE, at(1010)), Verdict::Active(_)));
}
