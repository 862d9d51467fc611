//! The reader on real samples, and against the plain reference.

use super::*;

/// The folder with recorded logs, which is not part of the project.
fn data() -> Option<PathBuf> {
    let folder = std::env::var_os("CURFEW_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    if !folder.is_dir() {
        println!("skipped: there is no folder {}; name one in CURFEW_DATA", folder.display());
        return None;
    }
    Some(folder)
}

/// What each sample is read as, with which key, and its events, unparsed lines and lines without key.
/// `Err` is part of the message with which it is refused.
type Expected = Result<(&'static str, u64, u64, u64), &'static str>;

#[rustfmt::skip]
const SAMPLES: &[(&str, &str, Expected)] = &[
    ("apache_combined.crowdsec.log", "ip", Ok(("combined", 7, 2, 0))),
    ("apache_combined.crowdsec.log", "ip+ua", Ok(("combined", 7, 2, 0))),
    ("apache_combined.elastic.log", "ip", Ok(("combined", 50, 0, 0))),
    ("apache_combined.rla.log", "ip", Ok(("combined", 5, 0, 0))),
    ("apache_combined_ldapuser.ezpaarse.log", "user", Ok(("combined", 2, 0, 0))),
    ("apache_common.rla.log", "ip", Ok(("common", 10, 0, 0))),
    ("apache_common.rla.log", "user", Ok(("common", 0, 0, 10))),
    ("apache_common_authuser.ezpaarse.log", "user", Ok(("common", 49, 0, 1))),
    ("apache_vhost_combined.ezpaarse.log", "ip", Ok(("combined with virtual host", 2, 0, 0))),
    ("apache_vhost_combined.ezpaarse.log", "user", Ok(("combined with virtual host", 1, 0, 1))),
    ("aws_alb.crowdsec.log", "ip", Err("was not recognised")),
    ("aws_s3.webreadr.log", "ip", Err("was not recognised")),
    ("caddy_json.crowdsec.log", "ip", Ok(("json (caddy)", 10, 0, 1))),
    ("caddy_json.crowdsec.log", "request.headers.User-Agent", Ok(("json (caddy)", 10, 0, 1))),
    ("caddy_json.crowdsec.log", "user", Ok(("json (caddy)", 1, 0, 10))),
    ("caddy_json_userid.crowdsec.log", "user", Ok(("json (caddy)", 0, 0, 6))),
    ("cloudfront.crowdsec.log", "ip", Err("was not recognised")),
    ("cloudfront.webreadr.tsv", "ip", Err("was not recognised")),
    ("envoy_json_crawl.crowdsec.log", "ip", Err("was not recognised")),
    ("envoy_json_cri.crowdsec.log", "ip", Err("was not recognised")),
    ("ezproxy.ul.ezpaarse.log", "ident", Ok(("common", 1, 0, 0))),
    ("ezproxy.univ_limoges.ezpaarse.log", "ip", Err("was not recognised")),
    ("ezproxy.univ_lyon.ezpaarse.log", "user", Ok(("common", 1, 0, 0))),
    ("ezproxy.univ_rennes1.ezpaarse.log", "user", Ok(("common", 3, 0, 0))),
    ("ezproxy.univ_strasbourg.ezpaarse.log", "ip", Err("was not recognised")),
    ("ezproxy.upmc.ezpaarse.log", "user", Ok(("common", 1, 0, 0))),
    ("haproxy_http.crowdsec.log", "ip", Err("was not recognised")),
    ("iis_csv.webreadr.log", "ip", Err("was not recognised")),
    ("nginx_combined.crowdsec.log", "user", Ok(("combined", 1, 2, 6))),
    ("nginx_combined.erddap.log", "ip", Ok(("combined", 50, 0, 0))),
    ("nginx_proxy_manager.crowdsec.log", "ip", Err("was not recognised")),
    ("squid_native.webreadr.log", "ip", Err("was not recognised")),
    ("traefik_clf.crowdsec.log", "ip+ua", Ok(("combined", 7, 0, 0))),
    ("traefik_json.crowdsec.log", "ip", Ok(("json (traefik)", 6, 1, 0))),
    ("traefik_json_50.crowdsec.log", "ip", Ok(("json (traefik)", 50, 0, 0))),
    ("traefik_json_50.crowdsec.log", "user", Ok(("json (traefik)", 0, 0, 50))),
    ("zeek_http.webreadr.tsv", "ip", Err("was not recognised")),
];

#[test]
fn every_sample_is_read_as_its_kind_says() {
    let Some(folder) = data() else { return };
    for &(name, key, expected) in SAMPLES {
        let path = folder.join("formats").join(name);
        let options = Options { key: Some(key.into()), ..options(&[&path]) };
        let got = Input::open(&options).map_err(|error| error.to_string()).map(|input| {
            let format = input.format_name().to_string();
            (format, count(input).unwrap())
        });
        match (expected, got) {
            (Ok((format, events, unparsed, nokey)), Ok((got, counts))) => {
                assert_eq!((format, Counts { events, unparsed, nokey }), (got.as_str(), counts), "{name} by {key}");
            }
            (Err(part), Err(error)) => assert!(error.contains(part), "{name} by {key}: {error}"),
            (_, got) => panic!("{name} by {key}: {got:?}"),
        }
    }
    let known: HashSet<_> = SAMPLES.iter().map(|&(name, ..)| std::ffi::OsString::from(name)).collect();
    for entry in std::fs::read_dir(folder.join("formats")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(known.contains(&name) || name == "SOURCES.md", "{name:?} is not in the list");
    }
}

/// Counts, distinct keys and events earlier than one before them.
fn summary(options: &Options) -> [u64; 5] {
    let (mut counts, mut keys, mut late, mut latest) = (Counts::default(), HashSet::new(), 0, i64::MIN);
    let input = Input::open(options).unwrap();
    input
        .read(|line| {
            match line.what {
                What::Event { time_ms, key } => {
                    counts.events += 1;
                    late += u64::from(time_ms < latest);
                    latest = latest.max(time_ms);
                    keys.insert(key.to_vec());
                }
                What::NoKey => counts.nokey += 1,
                What::Unparsed => counts.unparsed += 1,
            }
            true
        })
        .unwrap();
    [counts.events, counts.unparsed, counts.nokey, keys.len() as u64, late]
}

fn typed(format: FormatChoice) -> &'static str {
    match format {
        FormatChoice::Auto => "auto",
        FormatChoice::Clf => "clf",
        FormatChoice::Json => "json",
        FormatChoice::Csv => "csv",
        FormatChoice::Tsv => "tsv",
    }
}

fn reference(script: &Path, log: &Path, arguments: &[&str]) -> Option<[u64; 5]> {
    let python =
        std::process::Command::new("python3").arg(script).arg(log).args(arguments).args(["--idle", "900"]).output();
    let output = python.inspect_err(|error| println!("skipped: python3 does not run: {error}")).ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let numbers: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    Some(["events", "unparsed", "nokey", "keys", "out_of_order"].map(|name| numbers[name].as_u64().unwrap()))
}

#[test]
fn real_logs_give_what_the_reference_gives() {
    let Some(folder) = data() else { return };
    let script = folder.join("../tools/replay_oracle.py");
    if !script.is_file() {
        return println!("skipped: there is no {}", script.display());
    }
    for (name, format, key, time) in [
        ("ezproxy-edp-2013-01-23.clf.log", FormatChoice::Clf, "user", None),
        ("ezproxy-edp-2013-01-23.clf.log", FormatChoice::Auto, "ip", None),
        ("ezproxy-edp-2013-01-23.clf.log", FormatChoice::Auto, "ident", None),
        ("basjes-bots-2015-10.combined.log.gz", FormatChoice::Auto, "ip", None),
        ("erddap-2024-05.raw-with-stray-lines.log.gz", FormatChoice::Auto, "ip", None),
        ("erddap-2024-05.nginx-combined.log.gz", FormatChoice::Auto, "ip", None),
        ("ezproxy-npg-2012-11-30.clf.log.gz", FormatChoice::Auto, "user", None),
        ("otto-20-sessions-2022-08.csv", FormatChoice::Csv, "session", Some(("ts_ms", "epoch_ms"))),
        ("nasa-1995-08-01.tsv.gz", FormatChoice::Tsv, "host", Some(("time", "epoch"))),
    ] {
        let log = folder.join("logs").join(name);
        let kind = match format {
            FormatChoice::Auto => "clf",
            named => typed(named),
        };
        let mut arguments = vec!["--format", kind, "--key", key];
        let mut options = Options { format, key: Some(key.into()), ..options(&[&log]) };
        if let Some((field, kind)) = time {
            arguments.extend(["--time", field, "--timefmt", kind]);
            options.time = Some(field.into());
        }
        let Some(expected) = reference(&script, &log, &arguments) else { return };
        assert_eq!(summary(&options), expected, "{name} by {key}");
    }
}

#[test]
fn lines_made_to_be_awkward_give_what_the_reference_gives() {
    let Some(folder) = data() else { return };
    let script = folder.join("../tools/replay_oracle.py");
    if !script.is_file() {
        return println!("skipped: there is no {}", script.display());
    }
    let stamps = [
        "1/jan/2024:1:2:3 +0000",
        " 1/Jan/2024:01:02:03 Z",
        "01/Jan/2024:01:02:60 +0000",
        "31/Feb/2024:01:02:03 +0000",
        "01/Jan/2024:01:02:03  -03:30",
        "01/Jan/2024:01:02:03",
        "x] \"[01/Jan/2024:01:02:03 +0000",
        "01/Jan/2024:01:02:03 +2400",
    ];
    let heads = [
        "h - u",
        "h - a b",
        "h - a [b",
        "h - a [b] c",
        "h -  ",
        "h - ",
        "h -",
        " h - u",
        "h\u{a0} - u",
        "h\u{3000}i - u",
        "h\u{200b} - u",
        "h\x1c - u",
        "- - -",
        "h - - ",
        "é - ü",
        "h\t- - u",
        "h - [ [",
        "h - x [y] \" z",
    ];
    let mut clf = String::new();
    for head in heads {
        for stamp in stamps.iter().chain(&["01/Jan/2024:01:02:03 +0100"]) {
            clf += &format!("{head} [{stamp}] \"GET /\"\r\n{head} [{stamp}] GET\n");
        }
    }
    let mut clf = clf.into_bytes();
    clf.extend(b"\xff\xfe - \xc2 [01/Jan/2024:01:02:03 +0100] \"\n \n\r\n\r\r\n\0 - - [01/Jan/2024:01:02:03 +0100] \"");
    let csv = b"time,k,x\n1,a,b\n1,\"a\nb\",c\n1,\"a\"\"b\"\n\n\r\n\"1\",a\"b\n2,\"a\"b\n1.5,-\n1,\n,a\nx,a\n1\n 3 ,a\n1e3,a\nnan,a\ninf,a\n\"\"\n";
    let tsv = b"time\tk\tx\n1\t\"a\n2\t\"\n3\n\t\n4\t-\r\n\n5\ta\tb\tc\n";
    let iso = b"time,k\n2024-01-01T00:00:00Z,a\n2024-01-01 00:00:00,b\n2024-01-01T00:00:00.0005+01:00,c\n2024-02-30T00:00:00Z,d\n2024-01-01T00:00:00.001500,e\n2023-12-31T23:59:59.1234567Z,f\nx,g\n";
    let folder = Folder::new();
    for (name, text, format, arguments) in [
        ("a.log", &clf[..], FormatChoice::Clf, &["--key", "ip"][..]),
        ("b.log", &clf, FormatChoice::Clf, &["--key", "user"]),
        ("c.csv", csv, FormatChoice::Csv, &["--key", "k"]),
        ("d.tsv", tsv, FormatChoice::Tsv, &["--key", "k"]),
        ("e.csv", iso, FormatChoice::Csv, &["--key", "k", "--timefmt", "iso"]),
    ] {
        let log = folder.write(name, text);
        let options = Options { format, key: Some(arguments[1].into()), ..options(&[&log]) };
        let Some(expected) = reference(&script, &log, &[arguments, &["--format", typed(format)]].concat()) else {
            return;
        };
        assert_eq!(summary(&options), expected, "{name}");
    }
}
