//! The layers of `src/`: each uses only those above it.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::fs;
use std::path::{Path, PathBuf};

/// From the top. `lib.rs` tells them in this order.
const LAYERS: &[&str] = &[
    "protocol", "clock", "storage", "engine", "check", "import", "settings", "client", "download",
    "send", "server",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path.strip_prefix(&root).unwrap().to_owned(), text)
    };
    found.into_iter().map(read).collect()
}

fn layer_of(path: &Path) -> Option<usize> {
    let first = path.iter().next()?.to_str()?.trim_end_matches(".rs");
    LAYERS.iter().position(|layer| *layer == first)
}

#[test]
fn a_layer_uses_only_those_above_it() {
    let mut seen = 0;
    for (path, text) in all_sources() {
        let Some(own) = layer_of(&path) else { continue };
        seen += 1;
        for (below, layer) in LAYERS.iter().enumerate().skip(own + 1) {
            let name = format!("crate::{layer}");
            assert!(!text.contains(&name), "{} uses {name}, layer {below}", path.display());
        }
    }
    assert!(seen > 20, "the sources were not found");
}

#[test]
fn the_protocol_knows_no_runtime_no_files_and_no_clock() {
    let foreign =
        ["tokio", "hyper::", "std::fs", "std::net", "SystemTime::now", "Instant", "getrandom"];
    for (path, text) in all_sources() {
        if layer_of(&path) == Some(0) {
            for name in foreign {
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                let mut uses = code.filter(|line| line.contains(name));
                assert_eq!(uses.next(), None, "{} uses {name}", path.display());
            }
        }
    }
}

#[test]
fn only_one_module_asks_the_clock_of_the_system() {
    for (path, text) in all_sources() {
        let asks = text.contains("SystemTime::now");
        assert!(!asks || path == Path::new("clock.rs"), "{} asks the clock", path.display());
    }
}
