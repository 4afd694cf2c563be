//! Every format in the table of README, as a source and as an output.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

/// Endings in the table of formats in README; `d` stands for a directory.
const ENDINGS: &[&str] = &[
    "erofs", "ext4", "squashfs", "cpio", "cpio.gz", "cpio.zst", "cpio.xz", "cpio.lz4", "tar",
    "tar.gz", "tar.zst", "tar.xz", "d",
];

fn image(arguments: &[&str]) -> Output {
    let mut image = Command::new(env!("CARGO_BIN_EXE_chrootvm"));
    image.arg("image").args(arguments).output().unwrap()
}

/// Runs a command that must succeed without a message, and returns its output.
fn prints(arguments: &[&str]) -> String {
    let output = image(arguments);
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn path<'a>(dir: &'a Path, name: &'a str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

/// Builds an image of `source` in the format with this `ending`, and returns its path.
fn build(source: &str, dir: &Path, name: &str, ending: &str) -> String {
    let out = path(dir, &format!("{name}.{ending}"));
    // The name alone does not choose a directory.
    let format: &[&str] = if ending == "d" { &["--format", "dir"] } else { &[] };
    let output = image(&[&["build", source, "-o", &out][..], format].concat());
    assert!(output.status.success(), "{source} as {ending}: {output:?}");
    out
}

/// Every format keeps all files, as an output and as a source.
#[test]
fn every_format_is_a_source_and_an_image() {
    let dir = tempfile::tempdir().unwrap();
    let source = path(dir.path(), "source");
    fs::create_dir_all(dir.path().join("source/sub/empty")).unwrap();
    fs::write(dir.path().join("source/sub/file"), "contents\n").unwrap();
    fs::hard_link(dir.path().join("source/sub/file"), dir.path().join("source/same")).unwrap();
    symlink("sub/file", dir.path().join("source/link")).unwrap();
    let listing = prints(&["ls", &source]);
    assert_eq!(listing.lines().count(), 6, "{listing}");
    for ending in ENDINGS {
        let first = build(&source, dir.path(), "first", ending);
        assert_eq!(prints(&["ls", &first]), listing, "{ending}");
        assert_eq!(prints(&["cat", &first, "sub/file"]), "contents\n", "{ending}");
        assert_eq!(prints(&["diff", &source, &first]), "", "{ending}");
        prints(&["verify", &first]);
        prints(&["inspect", &first]);
        // Convert it to tar, which keeps everything.
        let again = build(&first, dir.path(), &format!("of-{ending}"), "tar");
        assert_eq!(prints(&["diff", &source, &again]), "", "{ending}");
    }
}

/// `NAME/` is a directory by its ending.
#[test]
fn a_slash_means_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("source")).unwrap();
    fs::write(dir.path().join("source/file"), "x").unwrap();
    let out = path(dir.path(), "out/");
    let output = image(&["build", &path(dir.path(), "source"), "-o", &out]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read(dir.path().join("out/file")).unwrap(), b"x");
}
