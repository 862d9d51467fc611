//! The reader as a whole: on small files made here, on real samples, and against the plain reference.

mod json;
mod recorded;

use super::*;
use clap::ValueEnum;
use proptest::prelude::*;
use std::collections::HashSet;
use std::io::Write;
use std::sync::atomic::Ordering;
use tempfile::TempDir;

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
struct Counts {
    events: u64,
    unparsed: u64,
    nokey: u64,
}

fn options(files: &[&Path]) -> Options {
    let files = files.iter().map(|path| path.to_path_buf()).collect();
    Options { files, format: FormatChoice::Auto, key: None, time: None, columns: None }
}

fn count(input: Input) -> Result<Counts, InputError> {
    let mut counts = Counts::default();
    input.read(|line| {
        match line.what {
            What::Event { .. } => counts.events += 1,
            What::NoKey => counts.nokey += 1,
            What::Unparsed => counts.unparsed += 1,
        }
        true
    })?;
    Ok(counts)
}

/// All lines, as text: `file:number key@time`.
fn read(options: &Options) -> Result<Vec<String>, InputError> {
    let mut lines = Vec::new();
    Input::open(options)?.read(|Line { number, file, what }| {
        lines.push(match what {
            What::Event { time_ms, key } => format!("{file}:{number} {}@{time_ms}", String::from_utf8_lossy(key)),
            What::NoKey => format!("{file}:{number} nokey"),
            What::Unparsed => format!("{file}:{number} unparsed"),
        });
        true
    })?;
    Ok(lines)
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn read_text(text: &str, change: impl FnOnce(&mut Options)) -> Result<Vec<String>, String> {
    let folder = Folder::new();
    let path = folder.write("log", text);
    let mut options = options(&[&path]);
    change(&mut options);
    let shown = path.display().to_string();
    read(&options).map_err(|error| error.to_string().replace(&shown, "LOG"))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn clf_line(host: &str, second: u32) -> String {
    format!("{host} - - [01/Jan/1970:00:00:{second:02} +0000] \"GET / HTTP/1.1\" 200 5\n")
}

#[test]
fn several_files_are_one_log() {
    let folder = Folder::new();
    let first = folder.write("a", clf_line("a", 1) + "\n\r\n" + &clf_line("b", 2));
    let empty = folder.write("b", "");
    let last = folder.write("c", clf_line("c", 0).trim_end());
    let mut options = options(&[&empty, &first, &last]);
    assert_eq!(read(&options).unwrap(), ["1:1 a@1000", "1:4 b@2000", "2:1 c@0"]);
    let input = Input::open(&options).unwrap();
    assert_eq!((input.format_name(), input.key_name(), input.can_reopen()), ("common", "ip", true));
    assert_eq!(input.total_bytes().unwrap(), 3 + 3 * clf_line("a", 1).len() as u64 - 1);
    let progress = input.progress();
    assert_eq!(count(input).unwrap().events, 3);
    assert_eq!(progress.load(Ordering::Relaxed), 3 + 3 * clf_line("a", 1).len() as u64 - 1);
    options.format = FormatChoice::Clf;
    assert_eq!(read(&options).unwrap().len(), 3);
}

#[test]
fn packed_files_are_known_by_their_first_bytes_and_members_are_joined() {
    let zstd = |text: &str| zstd::encode_all(text.as_bytes(), 1).unwrap();
    let (one, two) = (clf_line("a", 1), clf_line("b", 2));
    // The members meet in the middle of a line.
    let (left, right) = one.split_at(9);
    let folder = Folder::new();
    for packed in [
        [gzip(left.as_bytes()), gzip(right.as_bytes()), gzip(two.as_bytes())].concat(),
        [zstd(left), zstd(right), zstd(&two)].concat(),
        [vec![0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 7, 7], zstd(&one), zstd(&two)].concat(),
    ] {
        let path = folder.write("log.txt", &packed);
        assert_eq!(read(&options(&[&path])).unwrap(), ["0:1 a@1000", "0:2 b@2000"]);
        let input = Input::open(&options(&[&path])).unwrap();
        assert_eq!(input.total_bytes(), Some(packed.len() as u64));
    }
}

/// A zstd frame with the text as it is, packed with a window of so many bytes.
fn frame(text: &str, window_log: u8, mantissa: u8) -> Vec<u8> {
    let last_raw_block = (text.len() as u32) << 3 | 1;
    let window = (window_log - 10) << 3 | mantissa;
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, window][..], &last_raw_block.to_le_bytes()[..3], text.as_bytes()].concat()
}

#[test]
fn a_zstd_file_may_have_the_widest_window_and_one_that_is_wider_is_not_called_damaged() {
    let folder = Folder::new();
    let path = folder.write("a.zst", frame(&clf_line("a", 1), 31, 0));
    assert_eq!(read(&options(&[&path])).unwrap(), ["0:1 a@1000"]);
    let path = folder.write("b.zst", frame(&clf_line("a", 1), 31, 1));
    let error = read(&options(&[&path])).unwrap_err().to_string();
    let command = format!("zstd -dc --long=31 {} | curfew replay -", path.display());
    assert!(error.contains("memory") && error.ends_with(&command) && !error.contains("damaged"), "{error}");
}

#[test]
fn a_damaged_archive_is_an_error_after_the_lines_before() {
    let text: String = (0..200_000).map(|i| clf_line(&format!("{:x}", i * 7919), i % 60)).collect();
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
    zstd.include_checksum(true).unwrap();
    zstd.write_all(text.as_bytes()).unwrap();
    let zstd = zstd.finish().unwrap();
    let folder = Folder::new();
    for (packing, packed) in [("gzip", gzip(text.as_bytes())), ("zstd", zstd)] {
        let mut flipped = packed.clone();
        let half = packed.len() / 2;
        flipped[half..half + 64].fill(0x55);
        for damaged in [&packed[..packed.len() - 5], &packed[..half], &flipped] {
            let path = folder.write("log", damaged);
            let mut seen = 0;
            let input = Input::open(&options(&[&path])).unwrap();
            let error = input
                .read(|_| {
                    seen += 1;
                    true
                })
                .unwrap_err();
            assert!(matches!(&error, InputError::Damaged { line, .. } if *line == seen && seen > 1000), "{error}");
            assert!(error.to_string().contains(packing), "{error}");
        }
    }
}

#[test]
fn a_damaged_archive_says_where_it_breaks_even_when_that_is_within_the_first_look() {
    let text: String = (0..500).map(|i| clf_line(&format!("{:x}", i * 7919), i % 60)).collect();
    let packed = gzip(text.as_bytes());
    let folder = Folder::new();
    let error = read(&options(&[&folder.write("log", &packed[..packed.len() - 5])])).unwrap_err();
    assert!(matches!(&error, InputError::Damaged { line: 499 | 500, .. }), "{error}");
}

#[test]
fn what_is_not_read_here_says_how_to_pipe_it_in() {
    let folder = Folder::new();
    let mut tar = vec![0; 512];
    tar[..5].copy_from_slice(b"a.log");
    tar[257..262].copy_from_slice(b"ustar");
    tar.extend(clf_line("a", 1).bytes());
    let gz = gzip(&tar);
    for (head, tool) in [
        (&b"\xfd7zXZ\0..."[..], "xzcat"),
        (b"BZh91AY&SY", "bzcat"),
        (b"PK\x03\x04....", "unzip -p"),
        (&tar, "tar -xOf"),
        (&gz, "tar -xOf"),
        (b"\xff\xfea\0\n\0", "iconv -f UTF-16 -t UTF-8"),
        (b"\xfe\xff\0a\0\n", "iconv -f UTF-16 -t UTF-8"),
    ] {
        let path = folder.write("my log", head);
        let error = read(&options(&[&path])).unwrap_err().to_string();
        assert!(error.ends_with(&format!("{tool} '{}' | curfew replay -", path.display())), "{error}");
    }
}

#[test]
fn a_first_line_too_long_to_look_at_and_binary_data_are_said_to_be_so() {
    let long = "x".repeat(4 * lines::LONGEST) + "\n" + &clf_line("a", 1);
    let error = read_text(&long, |_| {}).unwrap_err();
    assert!(error.starts_with("the first line of LOG is longer than 1 MiB"), "{error}");
    let lines = read_text(&long, |options| options.format = FormatChoice::Clf).unwrap();
    assert_eq!(lines, ["0:1 unparsed", "0:2 a@1000"]);
    assert_eq!(read_text("\x7fELF\0\n\0\n", |_| {}).unwrap_err(), "LOG is not a log: it is binary, not text");
}

#[test]
fn a_number_of_columns_that_does_not_fit_is_noted() {
    let folder = Folder::new();
    let path = folder.write("log", "ann,1,x\n");
    for (names, note) in [("k,time", true), ("k,time,x", false)] {
        let columns = Some(names.split(',').map(String::from).collect());
        let input = Input::open(&Options { columns, key: Some("k".into()), ..options(&[&path]) }).unwrap();
        let said = input.format_note().unwrap().contains("the first line has 3 fields and --columns has 2");
        assert_eq!(said, note, "{:?}", input.format_note());
    }
}

#[test]
fn a_missing_last_file_is_said_at_once() {
    let folder = Folder::new();
    let (there, gone) = (folder.write("a", clf_line("a", 1)), folder.0.path().join("gone"));
    let error = Input::open(&options(&[&there, &gone])).err().unwrap().to_string();
    assert!(error.starts_with(&format!("cannot open {}", gone.display())), "{error}");
    let error = Input::open(&options(&[&there, folder.0.path()])).err().unwrap().to_string();
    assert!(error.ends_with("is a directory; name the log files in it"), "{error}");
    assert!(matches!(Input::open(&options(&[])), Err(InputError::NoFiles)));
    let stdin = Path::new("-");
    assert!(matches!(Input::open(&options(&[&there, stdin, stdin])), Err(InputError::StdinTwice)));
}

#[test]
fn the_sink_can_stop_early() {
    let folder = Folder::new();
    let path = folder.write("log", clf_line("a", 1).repeat(9));
    let mut seen = 0;
    Input::open(&options(&[&path, &path]))
        .unwrap()
        .read(|_| {
            seen += 1;
            seen < 4
        })
        .unwrap();
    assert_eq!(seen, 4);
}

#[test]
fn an_input_may_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Input>();
    is_send::<InputError>();
}

#[test]
fn a_huge_line_is_one_unparsed_line() {
    let text = clf_line("a", 1) + &"x".repeat(3 << 20) + "\n" + &clf_line("b", 2);
    assert_eq!(read_text(&text, |_| {}).unwrap(), ["0:1 a@1000", "0:2 unparsed", "0:3 b@2000"]);
}

#[test]
fn crlf_nul_and_bytes_that_are_not_utf_8_do_no_harm() {
    let folder = Folder::new();
    let line = clf_line("a", 1);
    let text = [line.trim_end().as_bytes(), b"\r\n\0\0\n\xff\xfe - - [x\n\r\n", clf_line("b", 1).as_bytes()].concat();
    let path = folder.write("log", text);
    assert_eq!(read(&options(&[&path])).unwrap(), ["0:1 a@1000", "0:2 unparsed", "0:3 unparsed", "0:5 b@1000"]);
}

#[test]
fn a_virtual_host_is_told_by_the_first_lines() {
    let text: String = (0..5).map(|i| format!("example.org:443 {}", clf_line("10.0.0.1", i))).collect();
    let folder = Folder::new();
    let path = folder.write("log", &text);
    let input = Input::open(&options(&[&path])).unwrap();
    assert_eq!(input.format_name(), "common with virtual host");
    assert_eq!(input.format_note(), Some("format common with virtual host: 5 of the first 5 lines read so"));
    assert_eq!(read(&options(&[&path])).unwrap()[0], "0:1 10.0.0.1@0");
}

#[test]
fn files_with_and_without_a_virtual_host_are_one_log() {
    let folder = Folder::new();
    let plain: String = (0..5).map(|i| clf_line("10.0.0.1", i)).collect();
    let hosted: String = (0..4).map(|i| format!("example.org:443 {}", clf_line("10.0.0.1", i))).collect();
    let (first, second, both) =
        (folder.write("a", &plain), folder.write("b", &hosted), folder.write("c", hosted.clone() + &plain));
    for files in [&[&*first, &*second][..], &[&*second, &*first], &[&*both]] {
        let lines = read(&options(files)).unwrap();
        assert!(lines.len() == 9 && lines.iter().all(|line| line.contains(" 10.0.0.1@")), "{lines:?}");
    }
    let input = Input::open(&options(&[&both])).unwrap();
    assert_eq!(input.format_note(), Some("format common: 9 of the first 9 lines read so; 4 of them with virtual host"));
}

#[test]
fn a_syslog_prefix_is_said_and_an_unknown_one_makes_lines_unparsed() {
    let folder = Folder::new();
    let text: String = (0..5).map(|i| format!("May 12 08:00:0{i} web1 nginx: {}", clf_line("10.0.0.1", i))).collect();
    let path = folder.write("log", &text);
    assert_eq!(Input::open(&options(&[&path])).unwrap().format_name(), "common behind a syslog prefix");
    assert_eq!(read(&options(&[&path])).unwrap()[4], "0:5 10.0.0.1@4000");
    let path = folder.write("log", format!("{}web-1 | {}", clf_line("10.0.0.1", 1), clf_line("10.0.0.1", 2)));
    assert_eq!(read(&options(&[&path])).unwrap(), ["0:1 10.0.0.1@1000", "0:2 unparsed"]);
}

#[test]
fn each_csv_file_has_its_own_header() {
    let folder = Folder::new();
    let first = folder.write("a.csv", "time,ip\n1,a\n");
    let empty = folder.write("b.csv", "\n");
    let second = folder.write("c.csv", "\u{feff}\nip,x,time\r\n\"b\nc\",\"\",2\r\nd,,3\r\n,,4\r\ne,5\r\n");
    let all = options(&[&first, &empty, &second]);
    assert_eq!(read(&all).unwrap(), ["0:2 a@1000", "2:3 b\nc@2000", "2:5 d@3000", "2:6 nokey", "2:7 unparsed"]);
    assert_eq!(Input::open(&all).unwrap().format_note(), Some("format csv: by its first line; time from time"));
    let other = folder.write("d.csv", "when,ip\n1,a\n");
    let error = read(&options(&[&first, &other])).unwrap_err().to_string();
    assert!(
        error.ends_with("d.csv has no column `time`, which should hold the time (--time); there are: when, ip"),
        "{error}"
    );
}

#[test]
fn columns_stand_in_for_a_header() {
    let named = |options: &mut Options| {
        options.columns = Some(vec!["who".into(), "t".into()]);
        (options.key, options.time) = (Some("who".into()), Some("t".into()));
    };
    assert_eq!(read_text("a,1\nb,2\n", named).unwrap(), ["0:1 a@1000", "0:2 b@2000"]);
    assert_eq!(read_text("a\t1\n\"b\t2\n", named).unwrap(), ["0:1 a@1000", "0:2 \"b@2000"]);
}

#[test]
fn the_time_column_is_one_whose_values_are_times() {
    let text = "timestamp,time,ip\nsoon,1,a\n";
    assert_eq!(read_text(text, |_| {}).unwrap(), ["0:2 a@1000"]);
    let lines = read_text("ts_ms,session\n1659304800025,a\n", |options| options.key = Some("session".into()));
    assert_eq!(lines.unwrap(), ["0:2 a@1659304800025"]);
}

#[test]
fn a_duration_is_not_taken_for_the_time() {
    let json = r#"{"time":0.004,"@timestamp":"2024-05-12T00:00:00Z","ip":"a"}"#;
    assert_eq!(read_text(json, |_| {}).unwrap(), ["0:1 a@1715472000000"]);
    assert_eq!(read_text("time,date,ip\n12,1715472000,a\n", |_| {}).unwrap(), ["0:2 a@1715472000000"]);
    // One that is named is taken whatever it holds.
    let named = read_text(json, |options| options.time = Some("time".into())).unwrap();
    assert_eq!(named, ["0:1 a@4"]);
}

#[test]
fn keys_go_by_usual_names() {
    let key = |text: &str, key: &str| read_text(text, |options| options.key = Some(key.into()));
    let csv = "time,remote_addr,Username,ua\n1,h,ann,curl\n";
    assert_eq!(key(csv, "ip").unwrap(), ["0:2 h@1000"]);
    assert_eq!(key(csv, "user").unwrap(), ["0:2 ann@1000"]);
    assert_eq!(key(csv, "ip+ua").unwrap(), ["0:2 h\tcurl@1000"]);
    let nginx =
        r#"{"time_local":"01/Jan/1970:00:00:01 +0000","remote_addr":"h","remote_user":"ann","http_user_agent":"curl"}"#;
    assert_eq!(key(nginx, "ip").unwrap(), ["0:1 h@1000"]);
    assert_eq!(key(nginx, "user").unwrap(), ["0:1 ann@1000"]);
    assert_eq!(key(nginx, "ip+ua").unwrap(), ["0:1 h\tcurl@1000"]);
}

#[test]
fn a_port_behind_an_address_makes_nobody_another_person() {
    let key = |text: &str, key: &str| read_text(text, |options| options.key = Some(key.into())).unwrap();
    let address = "203.0.113.1:40000";
    for text in [
        format!("time,remote_addr,sid,ua\n1,{address},{address},curl\n"),
        format!("time\tRemote_Addr\tsid\tua\n1\t{address}\t{address}\tcurl\n"),
        format!("\n{{\"time\":1,\"remote_addr\":\"{address}\",\"sid\":\"{address}\",\"ua\":\"curl\"}}\n"),
    ] {
        assert_eq!(key(&text, "ip"), ["0:2 203.0.113.1@1000"], "{text}");
        assert_eq!(key(&text, "ip+ua"), ["0:2 203.0.113.1\tcurl@1000"], "{text}");
        // What is called so elsewhere is an address under its own name too.
        let named = if text.contains("Remote") { "Remote_Addr" } else { "remote_addr" };
        assert_eq!(key(&text, named), ["0:2 203.0.113.1@1000"], "{text}");
        assert_eq!(key(&text, "sid"), ["0:2 203.0.113.1:40000@1000"], "{text}");
    }
    let traefik = r#"{"ClientAddr":"[2001:db8::1]:80","StartUTC":"1970-01-01T00:00:01Z"}"#;
    assert_eq!(key(traefik, "ip"), ["0:1 2001:db8::1@1000"]);
}

#[test]
fn what_cannot_be_told_or_found_is_said_with_what_there_is() {
    let says = |text: &str, change: &dyn Fn(&mut Options), expected: &str| {
        let error = read_text(text, change).unwrap_err();
        assert_eq!(error, expected);
    };
    says(
        "hello\nworld\n",
        &|_| {},
        "the format of LOG was not recognised (tried clf, json, csv and tsv); its first line is \"hello\"; name the format with --format, and for csv or tsv without a header line name the columns with --columns",
    );
    assert!(read_text("#a\tb\n1\t2\n", |_| {}).unwrap_err().contains("not recognised"));
    says("", &|_| {}, "the log is empty: nothing is recorded in LOG; is it the right file?");
    says(
        &("x".repeat(4 * lines::LONGEST) + "\n1,2\n"),
        &|o| o.format = FormatChoice::Csv,
        "LOG has no header line; name its columns with --columns",
    );
    says(
        "when,who\nx,y\n",
        &|_| {},
        "no column of LOG has a usual name for the time; name it with --time; there are: when, who",
    );
    says(
        "time,who\n1,y\n",
        &|_| {},
        "no column of LOG has a usual name for the client's address; name one with --key; there are: time, who",
    );
    says(
        "time,who\n1,y\n",
        &|o| o.key = Some("x".into()),
        "LOG has no column `x`, which should hold the key (--key); there are: time, who",
    );
    says(
        "{\"a\":{\"b\":1}}",
        &|_| {},
        "no field of LOG has a usual name for the time; name it with --time; there are: a.b",
    );
    says(
        "{\"a\":1}",
        &|o| o.time = Some("b".into()),
        "LOG has no field `b`, which should hold the time (--time); there are: a",
    );
    says(
        "{\"ts\":1}",
        &|_| {},
        "no field of LOG has a usual name for the client's address; name one with --key; there are: ts",
    );
    says(
        "{\"ts\":1}",
        &|o| o.key = Some("user".into()),
        "no field of LOG has a usual name for the user; name one with --key; there are: ts",
    );
    says(
        "{\"ts\":1}",
        &|o| o.key = Some("sid".into()),
        "no line has the field `sid`, which --key asks for; the first lines have: ts",
    );
    says(
        &clf_line("a", 1),
        &|o| o.key = Some("ip+ua".into()),
        "the format common has no key `ip+ua`; it has: ip, user, ident",
    );
    says(
        &clf_line("a", 1),
        &|o| o.time = Some("x".into()),
        "--time means nothing for the format common; leave it out, or name another format with --format",
    );
}

#[test]
fn an_empty_log_of_a_named_format_has_no_lines() {
    for format in [FormatChoice::Clf, FormatChoice::Json] {
        assert!(read_text("\n", |options| options.format = format).unwrap().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_file_makes_any_format_panic(
        head in prop::sample::select(&["", "time,ip\n", "time\tip\n", "{\"ts\":1,\"ip\":\"a\"}\n", "\x1f\u{8b}", "a - - [01/Jan/1970:00:00:01 +0000] \"\n"][..]),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        format in prop::sample::select(FormatChoice::value_variants()),
    ) {
        let folder = Folder::new();
        let path = folder.write("log", [head.as_bytes(), &bytes].concat());
        let mut options = options(&[&path]);
        options.format = format;
        let _ = read(&options);
    }
}
