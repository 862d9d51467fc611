//! Of an HTTP/2 connection one stream ends, and the others go on.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::harness::{Site, eventually};
use crate::open::app::OpenApp;
use crate::open::stage::{Stage, with_open};

#[test]
fn of_an_http_2_connection_only_the_stream_of_the_session_ends() {
    let place = Site::new();
    let app = OpenApp::start();
    let http = with_open(&app, "idle=15m", "").replace("listen $LISTEN;", "listen $LISTEN $HTTP2;");
    let nginx = place.start(&http);
    let stage = Stage { nginx, app };
    for id in ["abc", "other"] {
        let response = stage.nginx.by_http_2(&format!("/login?sid={id}"), "");
        assert_eq!(response.status, 200);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(stage.nginx.site.address()).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut bodies = Vec::new();
        for id in ["abc", "other"] {
            let request = http::Request::get("http://localhost/events").header("cookie", format!("sid={id}"));
            let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            bodies.push(response.into_body());
        }
        stage.nginx.by_http_2("/logout", "abc");
        let mut abc = bodies.remove(0);
        let error = loop {
            match abc.data().await {
                Some(Ok(bytes)) => abc.flow_control().release_capacity(bytes.len()).unwrap(),
                Some(Err(error)) => break error,
                None => panic!("an end that is no end of the response"),
            }
        };
        assert!(error.is_reset(), "{error}");
        let mut other = bodies.remove(0);
        for _ in 0..5 {
            let bytes = other.data().await.unwrap().unwrap();
            other.flow_control().release_capacity(bytes.len()).unwrap();
        }
        let request = http::Request::get("http://localhost/").header("cookie", "sid=other");
        let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200, "and the connection is as good as before");
    });
    drop(runtime);
    stage.is_clean();
}

#[test]
fn a_stream_of_an_http_2_connection_on_which_nothing_else_happens_is_reset_all_the_same() {
    let place = Site::new();
    let app = OpenApp::start();
    let http = with_open(&app, "idle=15m", "").replace("listen $LISTEN;", "listen $LISTEN $HTTP2;");
    let stage = Stage { nginx: place.start(&http), app };
    for id in ["abc", "other"] {
        assert_eq!(stage.nginx.by_http_2(&format!("/login?sid={id}"), "").status, 200);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(stage.nginx.site.address()).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut waits = Vec::new();
        for id in ["abc", "other"] {
            let request = http::Request::get("http://localhost/hold").header("cookie", format!("sid={id}"));
            waits.push(client.send_request(request.body(()).unwrap(), true).unwrap().0);
        }
        while stage.app.open.load(Ordering::Relaxed) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stage.nginx.by_http_2("/logout", "abc");
        let ended = tokio::time::timeout(Duration::from_secs(30), waits.remove(0)).await.expect("the client is told");
        assert!(ended.unwrap_err().is_reset());
    });
    drop(runtime);
    stage.is_clean();
}

#[test]
fn an_event_stream_breaks_off_for_its_client_by_either_version_of_http() {
    let app = OpenApp::start();
    // What curl says of a response that broke off, and of a stream that was reset.
    for (http2, by, code) in [("", "--http1.1", 18), ("$HTTP2", "--http2-prior-knowledge", 92)] {
        let place = Site::new();
        let http = with_open(&app, "idle=15m", "").replace("listen $LISTEN;", &format!("listen $LISTEN {http2};"));
        let nginx = place.start(&http);
        let log_in_or_out = |path: &str, id: &str| {
            let mut command = std::process::Command::new("curl");
            command.args(["-s", by, "-b", &format!("sid={id}"), &format!("http://{}{path}", nginx.site.address())]);
            assert!(command.output().expect("curl is installed: make setup").status.success());
        };
        log_in_or_out("/login?sid=abc", "");
        let output = nginx.site.path("events");
        let mut command = std::process::Command::new("curl");
        command.args([
            "-sN",
            "-m",
            "60",
            by,
            "-b",
            "sid=abc",
            &format!("http://{}/events", nginx.site.address()),
            "-o",
        ]);
        let mut client = command.arg(&output).spawn().unwrap();
        let read = || std::fs::read_to_string(&output).unwrap_or_default();
        eventually("events come", || read().matches("data: tick").count() > 3);
        log_in_or_out("/logout", "abc");
        assert_eq!(client.wait().unwrap().code(), Some(code), "{by}");
    }
    eventually("the application is left alone", || app.open.load(Ordering::Relaxed) == 0);
}
