//! The tool in C of `examples/c`, as a process of its own on the region that nginx has: sessions are looked at
//! and ended from the command line.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Site, eventually, is_root};
use crate::open::app::OpenApp;
use crate::open::stage::{Stage, ends, with_open};

struct Tool {
    program: PathBuf,
    region: PathBuf,
}

impl Tool {
    /// Builds it where the user whom the region belongs to can read it. It has the library in it, as that may
    /// lie where this user cannot.
    fn build(place: &Site, region: &Path) -> Tool {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let profile = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.args(["rustc", "--quiet", "--locked", "-p", "curfew-ffi", "--lib", "--crate-type", "staticlib"]);
        cargo.arg("--target-dir").arg(profile.parent().unwrap()).current_dir(root);
        assert!(cargo.status().unwrap().success(), "the library is not built");

        // What a static program needs besides is in the file for pkg-config.
        let needs = std::fs::read_to_string(root.join("ffi/curfew.pc.in")).unwrap();
        let needs = needs.lines().find_map(|line| line.strip_prefix("Libs.private: ")).unwrap();
        let program = place.path("sessions");
        let mut cc = Command::new("cc");
        cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program);
        cc.arg("-I").arg(root.join("include")).arg(root.join("examples/c/sessions.c"));
        cc.arg(profile.join("libcurfew.a")).args(needs.split(' '));
        assert!(cc.status().expect("a C compiler is installed: make setup").success(), "the tool is not built");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Tool { program, region: region.to_owned() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(&self.region).args(arguments);
        command
    }

    /// Runs it as the user whom the region belongs to, as `sudo -u` does; says with what it exits, and what it
    /// prints.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = self.command(arguments);
        if is_root() {
            let region = self.region.metadata().unwrap();
            command.uid(region.uid()).gid(region.gid());
        }
        let output = command.output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        (output.status.code().expect("it exits"), String::from_utf8(output.stdout).unwrap())
    }
}

#[test]
fn the_tool_in_c_ends_all_that_a_user_has_open() {
    const STREAMS: usize = 1000;
    let place = Site::new();
    let region = place.path("app.region");
    let tool = Tool::build(&place, &region);
    std::fs::write(place.path("html/large"), vec![b'x'; 1 << 20]).unwrap();
    let app = OpenApp::start();
    let zone = format!("curfew_zone zone=app:4m path={};", region.display());
    let http = with_open(&app, "idle=15m", "curfew_subject $http_x_user;").replace("curfew_zone zone=app:1m;", &zone);
    // The system hands connections out, so that each worker has its share.
    let http = http.replace("listen $LISTEN;", "listen $LISTEN reuseport;");
    let stage = Stage { nginx: place.start(&http), app };
    for number in 0..10 {
        assert_eq!(stage.nginx.get(&format!("/login?sid=s{number}"), &[("X-User", "alice")]).status, 200);
    }
    assert_eq!(stage.nginx.get("/login?sid=bobs", &[("X-User", "bob")]).status, 200);
    let mut bobs = stage.open("/slow/large", "bobs");
    let mut streams: Vec<_> =
        (0..STREAMS).map(|number| stage.open("/slow/large", &format!("s{}", number % 10))).collect();

    if is_root() {
        let refused = tool.command(&["list"]).output().unwrap();
        let why = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(2) && why.contains("belongs to"), "not even root's: {why}");
    }
    let is_active = |line: &&str| line.contains(" active ");
    let (code, list) = tool.run(&["list"]);
    assert_eq!((code, list.lines().filter(is_active).count()), (0, 11), "{list}");
    assert_eq!(tool.run(&["end-subject", "nobody"]), (1, "0\n".into()));

    assert_eq!(tool.run(&["end-subject", "alice"]), (0, "10\n".into()));
    streams.iter_mut().for_each(|stream| _ = ends(stream));
    eventually("each is in the log", || {
        stage.nginx.log("access.log").lines().filter(|line| line.contains(" 200 REVOKED ")).count() == STREAMS
    });
    let (code, events) = tool.run(&["events"]);
    let cuts: Vec<_> = events.lines().filter(|line| line.contains(" cut revoked ")).collect();
    assert_eq!((code, cuts.len()), (0, STREAMS));
    assert!(cuts.iter().all(|line| !line.ends_with(" bytes=0")), "some had been sent of each");
    assert_eq!(events.lines().filter(|line| line.contains(" ended revoked ")).count(), 10);
    assert!(stage.nginx.get("/admin", &[]).body.contains(&format!("\"cut\":{STREAMS}")));
    let log = stage.nginx.error_log();
    let workers: BTreeSet<_> = log
        .lines()
        .filter_map(|line| line.split_once("curfew: ended while open")?.0.split_once('#')?.0.rsplit(' ').next())
        .collect();
    assert!(workers.len() >= 2, "{workers:?}");
    assert_eq!(tool.run(&["end-subject", "alice"]), (1, "0\n".into()));

    // What bob has open goes on, until his session is ended by its key.
    assert!(bobs.read(&mut [0; 10]).unwrap() > 0);
    let (_, list) = tool.run(&["list"]);
    let left: Vec<_> = list.lines().filter(is_active).collect();
    assert_eq!(left.len(), 1, "{list}");
    let key = left[0].split(' ').next().unwrap();
    assert_eq!(tool.run(&["end", key]), (0, String::new()));
    ends(&mut bobs);
    stage.is_clean();
}
