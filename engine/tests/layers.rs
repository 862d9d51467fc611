//! The arrows of the architecture: which module may know which. Read from the sources, so that a
//! new import in the wrong direction fails here and not in somebody's head.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Each module of the engine, and those it may import. What is not listed may not be imported.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("atomic", &[]),
    ("layout", &[]),
    ("cause", &["time"]),
    ("error", &["cause", "time"]),
    ("moment", &["error", "time"]),
    ("policy", &["error", "time"]),
    ("state", &["cause", "policy", "time"]),
    ("key", &[]),
    ("crash", &["layout"]),
    ("owner", &["atomic", "crash", "layout"]),
    ("region", &["atomic", "crash", "layout", "owner", "region"]),
    ("moving", &["atomic", "layout", "region"]),
    ("lock", &["atomic", "crash", "region"]),
    ("index", &["atomic", "layout", "region"]),
    ("wheel", &["layout", "region", "time"]),
    ("record", &["atomic", "key", "layout", "cause", "region", "state", "time"]),
    ("policies", &["atomic", "error", "layout", "policy", "region", "state", "time", "lock"]),
    ("events", &["atomic", "cause", "key", "layout", "lock", "policies", "region", "time"]),
    ("subjects", &["atomic", "index", "key", "layout", "lock", "record", "region"]),
    (
        "shard",
        &[
            "atomic", "cause", "events", "index", "key", "layout", "lock", "policies", "policy", "record", "region",
            "shard", "state", "subjects", "time", "wheel",
        ],
    ),
    ("backing", &["atomic", "error", "key", "layout", "moment", "moving", "owner", "region"]),
    (
        "snapshot",
        &[
            "atomic", "backing", "cause", "error", "events", "key", "layout", "moment", "moving", "policies", "policy",
            "record", "region", "snapshot", "state", "table", "time", "wheel",
        ],
    ),
    (
        "table",
        &[
            "atomic", "backing", "cause", "error", "events", "index", "key", "layout", "policies", "policy", "record",
            "region", "shard", "state", "subjects", "table", "time", "wheel",
        ],
    ),
];

fn imports(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]") && !line.starts_with("#[cfg(all(test,"))
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.match_indices("crate::").map(move |(at, found)| &line[at + found.len()..]))
        .map(|rest| rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or(""))
        .filter(|module| module.chars().next().is_some_and(char::is_lowercase))
}

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            let module = match path.parent().unwrap().file_name().unwrap().to_str().unwrap() {
                "src" => path.file_stem().unwrap().to_str().unwrap().to_owned(),
                parent => parent.to_owned(),
            };
            found.push((module, fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn imports_inside_the_engine_run_one_way() {
    let allowed: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut seen = 0;
    for (module, text) in files.iter().filter(|(module, _)| module != "lib" && module != "models") {
        let may = allowed.get(module.as_str()).unwrap_or_else(|| panic!("{module} has no place in the layers"));
        for import in imports(text) {
            seen += 1;
            assert!(may.contains(&import), "{module} imports {import}, which is not below it");
        }
    }
    assert!(seen > 50, "the test reads imports");
}

#[test]
fn the_index_and_the_wheel_do_not_know_each_other() {
    let allowed: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    assert!(!allowed["index"].contains(&"wheel") && !allowed["wheel"].contains(&"index"));
    assert!(!allowed["wheel"].contains(&"record"));
}

#[test]
fn the_layers_have_no_circle() {
    let allowed: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let mut placed: Vec<&str> = Vec::new();
    while placed.len() < allowed.len() {
        let next = allowed.iter().find(|(module, below)| {
            !placed.contains(*module) && below.iter().all(|one| one == *module || placed.contains(one))
        });
        placed.push(next.expect("some module has only placed ones below it").0);
    }
}

#[test]
fn the_engine_depends_on_no_other_part_of_the_project() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    assert!(!manifest.contains("path ="), "{manifest}");
    assert!(!manifest.contains("workspace = true }") && !manifest.contains("curfew-cli"));
}

#[test]
fn unsafe_code_is_in_the_files_that_are_allowed_to_have_it_and_nowhere_else() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let with_unsafe = files.iter().filter(|(module, text)| module != "lib" && text.contains("unsafe "));
    let mut openings: Vec<_> = with_unsafe.map(|(_, text)| text.lines().next().unwrap()).collect();
    openings.sort_unstable();
    let home = "//! Where the search for a digest begins: a group of the index, and the records of its places.";
    let region =
        "//! The memory of a region, as words. The only `unsafe` of the engine is here, and in `region/home.rs`.";
    assert_eq!(openings, [region, home], "region.rs and region/home.rs");
}
