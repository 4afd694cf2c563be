//! Rules for the sources that no other tool checks.

use std::fs;
use std::path::{Path, PathBuf};

/// Most lines of a file; a longer file likely has a second concern.
const LINES_MAX: usize = 400;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut pending: Vec<_> =
        ["init", "crates", "xtask", "tests"].map(|dir| root().join(dir)).into();
    let mut sources = Vec::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            sources.push((path, text));
        }
    }
    assert!(sources.len() > 30, "sources were not found");
    sources
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{}", path.display());
    }
}

#[test]
fn no_file_is_too_long() {
    for (path, text) in sources() {
        assert!(text.lines().count() <= LINES_MAX, "{}", path.display());
    }
}

/// The attribute that lifts the lint occurs in every file of `init/src/rt`, and nowhere else.
#[test]
fn unsafe_code_lives_in_one_room() {
    let lifted = concat!("allow(unsafe", "_code)");
    for (path, text) in sources() {
        let is_room = path.starts_with(root().join("init/src/rt"));
        assert_eq!(text.contains(lifted), is_room, "{}", path.display());
    }
}

/// These macros panic if they cannot write, and wait for ever if nobody reads.
#[test]
fn words_are_told_in_one_way() {
    let macros = ["print!(", "println!(", "eprint!(", "eprintln!(", "dbg!("];
    let is_test = |path: &Path| {
        let parts = path.components().map(|part| part.as_os_str().to_string_lossy());
        parts.into_iter().any(|part| part.starts_with("tests") || part == "sample.rs")
    };
    for (path, text) in sources() {
        let is_guest = path.starts_with(root().join("init"));
        if is_guest || is_test(path.strip_prefix(root()).unwrap()) {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in macros {
            let mut found = code.match_indices(word);
            let is_macro =
                |at: usize| !code[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            let is_there = found.any(|(at, _)| is_macro(at));
            assert!(!is_there, "{}: {word}…) panics; call files::tell", path.display());
        }
    }
}

#[test]
fn nothing_is_left_undone() {
    let marks = [["TO", "DO"], ["FIX", "ME"], ["todo", "!("], ["unimplemented", "!("]];
    for (path, text) in sources() {
        for mark in marks.map(|mark| mark.concat()) {
            assert!(!text.contains(&mark), "{}: {mark}", path.display());
        }
    }
}
