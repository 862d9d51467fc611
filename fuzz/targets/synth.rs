//! `curfew synth` with any options: every line is read back, with a time in order and within the days.

#![no_main]

use curfew_cli::probe::{self, Flow, Options, Said};
use curfew_fuzz::Bytes;
use libfuzzer_sys::fuzz_target;

const DAY: i64 = 86_400_000;

fuzz_target!(|data: &[u8]| {
    let bytes = &mut Bytes::new(data);
    let seed = bytes.below(u64::MAX);
    // What takes long is many of one kind; what differs is few of each.
    let (users, pollers, days) = (bytes.below(8) as u32, bytes.below(4) as u32, 1 + bytes.below(3) as u32);
    let start = (1970 + bytes.below(7031) as i16, 1 + bytes.below(12) as i8, 1 + bytes.below(31) as i8);
    let Ok(log) = probe::synth(seed, users, pollers, days, start) else { return };
    let date = jiff::civil::Date::new(start.0, start.1, start.2).expect("synth took it");
    let begin = date.at(0, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).expect("in range").timestamp().as_millisecond();
    let lines = log.iter().filter(|byte| **byte == b'\n').count();
    assert!(log.last().is_none_or(|byte| *byte == b'\n'));
    if lines == 0 {
        return;
    }
    let logins = log.split(|byte| *byte == b'\n').filter(|line| find(line, b"\"GET /login ")).count();
    for key in ["ip", "user", "ip+ua", "ident"] {
        let options = Options { format: "auto".into(), key: Some(key.into()), ..Options::default() };
        let flow = Flow { drip: usize::MAX, block: 1 << 18, longest: 1 << 20 };
        let (format, read) = probe::log(&log, &options, flow).expect("a log of known format");
        assert_eq!((format.as_str(), read.len()), ("combined", lines));
        let mut before = begin;
        let mut nobody = 0;
        for (at, (number, said)) in read.iter().enumerate() {
            assert_eq!(*number, at as u64 + 1);
            match said {
                Said::Event { time_ms, .. } => {
                    assert!((before..begin + i64::from(days) * DAY).contains(time_ms), "line {number}: {time_ms}");
                    before = *time_ms;
                }
                Said::NoKey => nobody += 1,
                Said::Unparsed => panic!("line {number} cannot be read"),
            }
        }
        let expected = match key {
            "user" => logins,
            "ident" => lines,
            _ => 0,
        };
        assert_eq!(nobody, expected, "key {key}");
    }
});

fn find(line: &[u8], text: &[u8]) -> bool {
    line.windows(text.len()).any(|window| window == text)
}
