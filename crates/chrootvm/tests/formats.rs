//! Every format of README's table of images, as a source and as an output.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

/// Endings of README's table of images; `NAME/` is a directory.
const ENDINGS: &[&str] = &[
    "erofs", "ext4", "squashfs", "cpio", "cpio.gz", "cpio.zst", "cpio.xz", "cpio.lz4", "tar",
    "tar.gz", "tar.zst", "tar.xz", "d",
];

fn image(arguments: &[&str]) -> Output {
    let mut image = Command::new(env!("CARGO_BIN_EXE_chrootvm"));
    image.arg("image").args(arguments).output().unwrap()
}

/// Output of a command, which must succeed without a message.
fn prints(arguments: &[&str]) -> String {
    let output = image(arguments);
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn path<'a>(dir: &'a Path, name: &'a str) -> String {
    dir.join(name).to_str().unwrap().to_owned()
}

/// An image of this format at a path that is returned.
fn build(source: &str, dir: &Path, name: &str, ending: &str) -> String {
    let out = path(dir, &format!("{name}.{ending}"));
    // The name does not show that a directory is meant.
    let format: &[&str] = if ending == "d" { &["--format", "dir"] } else { &[] };
    let output = image(&[&["build", source, "-o", &out][..], format].concat());
    assert!(output.status.success(), "{source} as {ending}: {output:?}");
    out
}

/// An image is made of each format, and looks the same whatever it was made of.
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
        // And back, by a format that keeps all.
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
