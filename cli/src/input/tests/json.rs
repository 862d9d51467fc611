//! The reader on logs of JSON.

use super::*;

#[test]
fn caddy_and_traefik_are_known_by_their_fields() {
    let caddy =
        r#"{"ts":1.5,"request":{"remote_ip":"h","client_ip":"c","headers":{"User-Agent":["curl"]}},"user_id":""}"#;
    let traefik =
        r#"{"ClientHost":"h","ClientUsername":"-","StartUTC":"1970-01-01T00:00:01.5Z","request_User-Agent":"curl"}"#;
    let folder = Folder::new();
    for (text, name, ip) in [(caddy, "json (caddy)", "c"), (traefik, "json (traefik)", "h")] {
        let path = folder.write("log", text);
        let mut options = options(&[&path]);
        assert_eq!(Input::open(&options).unwrap().format_name(), name);
        assert_eq!(read(&options).unwrap(), [format!("0:1 {ip}@1500")]);
        options.key = Some("user".into());
        assert_eq!(read(&options).unwrap(), ["0:1 nokey"]);
        options.key = Some("ip+ua".into());
        assert_eq!(read(&options).unwrap(), [format!("0:1 {ip}\tcurl@1500")]);
    }
    let path = folder.write("log", caddy);
    let by_path = Options { key: Some("request.headers.User-Agent".into()), ..options(&[&path]) };
    assert_eq!(read(&by_path).unwrap(), ["0:1 curl@1500"]);
}

#[test]
fn a_json_key_may_come_late() {
    let text = "{\"ts\":1}\n".repeat(2000) + "{\"ts\":2,\"sid\":\"a\"}\n";
    let lines = read_text(&text, |options| options.key = Some("sid".into())).unwrap();
    assert_eq!(lines.last().unwrap(), "0:2001 a@2000");
}

#[test]
fn a_time_in_json_may_be_any_whole_number_that_it_may_be_as_text() {
    let text = "{\"ts\":17154720171715472017,\"sid\":\"a\"}\n{\"ts\":\"17154720171715472017\",\"sid\":\"a\"}\n";
    let lines = read_text(text, |options| options.key = Some("sid".into())).unwrap();
    assert_eq!(lines, ["0:1 a@17154720171715", "0:2 a@17154720171715"]);
}

#[test]
fn a_json_field_may_have_dots_in_its_name_and_lie_in_a_list() {
    let folder = Folder::new();
    let says = |text: &str, key: &str, time: Option<&str>| {
        let path = folder.write("log", text);
        let options = Options { key: Some(key.into()), time: time.map(String::from), ..options(&[&path]) };
        let note = Input::open(&options).unwrap().format_note().unwrap().to_string();
        (read(&options).unwrap().concat(), note)
    };
    let dots = r#"{"kubernetes":{"labels":{"app.kubernetes.io/name":"x"}},"ts":1}"#;
    for (text, key, time, line) in [
        (dots, "kubernetes.labels.app.kubernetes.io/name", None, "0:1 x@1000"),
        (r#"{"ts":1,"users":[{"name":"ann"},{"name":"bob"}]}"#, "users.name", None, "0:1 ann@1000"),
        (r#"{"t":[{"at":1}],"ip":"h"}"#, "ip", Some("t.at"), "0:1 h@1000"),
        (r#"{"t":[1],"ip":"h"}"#, "ip", Some("t"), "0:1 h@1000"),
        (r#"{"time":[1],"ip":"h"}"#, "ip", None, "0:1 h@1000"),
        (r#"{"meta":{"x.time":1},"ip":"h"}"#, "ip", Some("meta.x.time"), "0:1 h@1000"),
    ] {
        let (read, note) = says(text, key, time);
        assert!(read == line && !note.contains("none of the first lines"), "{text}: {read}, {note}");
    }
    let listed = read_text(r#"{"ts":1,"users":[{"name":"ann"}]}"#, |_| {}).unwrap_err();
    assert!(listed.ends_with("there are: ts, users.name"), "{listed}");
}

#[test]
fn a_json_line_with_very_many_fields_takes_no_longer_than_many_with_few() {
    let fields: String = (0..85_000).map(|i| format!("\"f{i}\":1,")).collect();
    let begun = std::time::Instant::now();
    let lines = read_text(&format!("{{{fields}\"ts\":1,\"ip\":\"a\"}}"), |_| {}).unwrap();
    assert_eq!(lines, ["0:1 a@1000"]);
    assert!(begun.elapsed().as_secs() < 4, "{:?}", begun.elapsed());
}
