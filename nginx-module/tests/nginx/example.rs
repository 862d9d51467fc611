//! The configuration in examples/ works as it stands, but for its addresses and places.

use crate::harness::{Site, module};

#[test]
fn the_example_guards_an_application_with_its_own_login() {
    let site = Site::new();
    let folder = site.folder.path().display().to_string();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/nginx/nginx.conf");
    let mut text = std::fs::read_to_string(example).unwrap();
    for (theirs, ours) in [
        ("modules/ngx_http_curfew_module.so", module().display().to_string()),
        ("/run/curfew/", format!("{folder}/run/")),
        ("/var/log/nginx/", format!("{folder}/")),
        ("127.0.0.1:8000", site.app.address.to_string()),
        ("127.0.0.1:8080", site.address().to_string()),
        ("worker_processes auto;", format!("worker_processes 3; daemon off; pid {folder}/pid;")),
        ("http {\n", format!("http {{\n proxy_temp_path {folder}/proxy; client_body_temp_path {folder}/body;\n")),
    ] {
        assert!(text.contains(theirs), "{theirs}");
        text = text.replace(theirs, &ours);
    }
    if !nix::unistd::geteuid().is_root() {
        text = text.replace("user www-data;", "");
    }
    std::fs::write(site.path("nginx.conf"), text).unwrap();
    let nginx = site.start_as_it_is();

    assert_eq!(nginx.get("/", &[]).status, 401);
    let to_a_page = nginx.get("/", &[("Accept", "text/html")]);
    assert!(to_a_page.status == 302 && to_a_page.header("Location").unwrap().ends_with("/login"));
    nginx.log_in("abc");
    assert_eq!(nginx.with_id("/", "abc").status, 200);
    assert!(nginx.with_id("/session", "abc").body.contains("\"status\":\"ACTIVE\""));
    assert_eq!(nginx.with_id("/logout", "abc").status, 200);
    assert_eq!(nginx.with_id("/", "abc").status, 401);
    assert!(nginx.with_id("/session", "abc").body.contains("\"status\":\"LOGGED_OUT\""));
}
