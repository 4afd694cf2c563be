//! Paths that patterns leave out of a directory of the host.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use files::notes::Notes;
use rustix::fs::{Mode, OFlags};

use crate::edit::ignore::Patterns;
use crate::source::{self, ReadOptions};

#[test]
fn patterns_leave_paths_of_a_directory_out() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    for path in ["docs/deep/er", "src", "target/debug", "empty"] {
        fs::create_dir_all(at(path)).unwrap();
    }
    for path in ["README.md", "docs/README.md", "docs/deep/er/x", "src/main.rs", "target/debug/app"]
    {
        fs::write(at(path), path).unwrap();
    }
    fs::hard_link(at("src/main.rs"), at("docs/hard")).unwrap();
    symlink("src", at("link")).unwrap();
    let all = "README.md docs docs/README.md docs/deep docs/deep/er docs/deep/er/x docs/hard empty \
               link src src/main.rs target target/debug target/debug/app";
    #[rustfmt::skip]
    let cases = [
        ("no pattern",        "",                      all),
        ("directories",       "docs\ntarget",          "README.md empty link src src/main.rs"),
        ("file and link",     "*.md\nlink\ntarget\ndocs/*", "docs empty src src/main.rs"),
        ("brought back",      "*\n!docs/README.md",    "docs docs/README.md"),
        ("brought back deep", "**\n!**/x",             "docs docs/deep docs/deep/er docs/deep/er/x"),
        ("nothing to bring",  "**\n!nothing/*",        ""),
        ("whole directory",   "**\n!target\n!empty",   "empty target target/debug target/debug/app"),
        ("a hard link",       "**\n!docs/hard",        "docs docs/hard"),
    ];
    for (name, text, expected) in cases {
        let filter = Some(Arc::new(Patterns::parse(text).unwrap()));
        let options = ReadOptions { filter, ..ReadOptions::default() };
        let tree = source::open(dir.path(), &options, &mut Notes::default()).unwrap().tree;
        let mut found = Vec::new();
        tree.walk(&mut |path, _| {
            found.push(String::from_utf8_lossy(path).into_owned());
            Ok(())
        })
        .unwrap();
        assert_eq!(found.split_off(1).join(" "), expected, "{name}");
    }
}

/// A directory below which nothing can stay is not read: this one has a path that is too long.
#[test]
fn a_directory_that_is_left_out_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let name = "d".repeat(250);
    let mut at = fs::File::open(dir.path()).unwrap();
    for _ in 0..17 {
        rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        at = rustix::fs::openat(&at, &name, flags, Mode::empty()).unwrap().into();
    }
    let read = |text: &str| {
        let filter = Some(Arc::new(Patterns::parse(text).unwrap()));
        let options = ReadOptions { filter, ..ReadOptions::default() };
        source::open(dir.path(), &options, &mut Notes::default()).map(|found| found.tree.len())
    };
    let error = format!("{:#}", read("x").unwrap_err());
    assert!(error.contains("4095 bytes"), "{error}");
    assert_eq!(read("d*").unwrap(), 1);
    assert_eq!(read("d*\n!*/x").unwrap(), 2, "the directory is read, and removed as it is empty");
    assert!(read("d*\n!**/x").is_err());
}
