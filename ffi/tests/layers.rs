//! What the sources of the library may not have in them.

use std::fs;
use std::path::Path;

fn sources() -> impl Iterator<Item = (String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    fs::read_dir(directory).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
        (path.file_name().unwrap().to_string_lossy().into_owned(), code)
    })
}

#[test]
fn nothing_in_the_library_panics_on_purpose() {
    let mut seen = 0;
    for (name, code) in sources() {
        seen += 1;
        for word in [".unwrap()", ".expect(", "panic!(", "unreachable!(", "todo!(", "unimplemented!("] {
            assert!(!code.contains(word), "{name} has {word}");
        }
    }
    assert!(seen > 8, "the test reads the sources");
}

#[test]
fn every_function_that_c_calls_stops_panics_or_only_looks_up_a_name() {
    for (name, code) in sources().filter(|(name, _)| name != "names.rs") {
        for function in code.split("#[unsafe(no_mangle)]").skip(1) {
            let body = function.split("\n}\n").next().unwrap();
            let stops = ["guarded(", "explained(", "opened(", "judge(", "judge_watch(", "derive("]
                .iter()
                .any(|word| body.contains(word));
            let signature = body.lines().next().unwrap();
            assert!(stops, "{name}: {signature}");
        }
    }
}

#[test]
fn the_library_uses_only_the_public_face_of_the_engine() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    assert!(!manifest.contains("path = \"../"), "{manifest}");
}
