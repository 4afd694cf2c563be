//! Extended attributes from a source to every format, through `chrootvm image`.

use std::path::Path;
use std::process::{Command, Output};

/// Formats, and whether they have extended attributes.
const FORMATS: &[(&str, bool)] =
    &[("erofs", true), ("ext4", true), ("squashfs", true), ("tar", true), ("cpio", false)];

fn image(arguments: &[&str], directory: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chrootvm"));
    command.arg("image").args(arguments).current_dir(directory).output().unwrap()
}

/// Runs a command that must succeed, and returns its standard error.
fn made(arguments: &[&str], directory: &Path) -> String {
    let output = image(arguments, directory);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {words}");
    words
}

/// Writes an archive of two files with attributes of macOS and of Linux.
fn archive(path: &Path) {
    let mut builder = tar::Builder::new(std::fs::File::create(path).unwrap());
    for name in ["one", "two"] {
        let records: [(&str, &[u8]); 3] = [
            ("SCHILY.xattr.com.apple.provenance", b"\x01\x00"),
            ("SCHILY.xattr.user.a%3Db", b"1"),
            ("RHT.security.selinux", b"system_u:object_r:etc_t:s0"),
        ];
        builder.append_pax_extensions(records).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, std::io::empty()).unwrap();
    }
    builder.finish().unwrap();
}

#[test]
fn attributes_of_other_systems_are_left_out_with_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    archive(&dir.path().join("mac.tar"));
    for &(format, has_attributes) in FORMATS {
        let name = format!("out.{format}");
        let words = made(&["build", "mac.tar", "-o", &name], dir.path());
        let told: Vec<_> = words.lines().filter(|line| line.contains("com.apple")).collect();
        assert_eq!(told.len(), 1, "{format}: {words}");
        assert!(told[0].ends_with("one and 1 more"), "{format}: {words}");
        let output = image(&["diff", "mac.tar", &name], dir.path());
        assert_eq!(output.status.success(), has_attributes, "{format}: {output:?}");
        // `diff` compares attributes: equal images have the same ones.
        let output = image(&["diff", "mac.tar", &name, "--xattrs", "none"], dir.path());
        assert!(output.status.success(), "{format}: {output:?}");
    }
    made(&["build", "mac.tar", "-o", "out/"], dir.path());
}

#[test]
fn xattrs_chooses_the_attributes_to_keep() {
    let dir = tempfile::tempdir().unwrap();
    archive(&dir.path().join("mac.tar"));
    for (words, same) in [
        (&["--xattrs", "all"][..], &[][..]),
        (&["--xattrs", "none"], &["--xattrs", "none"]),
        (&["--xattrs", "user."], &["--xattrs", "user."]),
        (&["--xattrs", "user.,security."], &[]),
        (&["--xattrs", "user.", "--xattrs", "security."], &[]),
    ] {
        let build = [&["build", "mac.tar", "-o", "out.erofs"], words].concat();
        made(&build, dir.path());
        // The image has exactly the chosen attributes.
        for (a, b) in [("mac.tar", "out.erofs"), ("out.erofs", "mac.tar")] {
            let diff = [&["diff", a, b], same].concat();
            assert!(image(&diff, dir.path()).status.success(), "{words:?}");
        }
        let is_all = image(&["diff", "mac.tar", "out.erofs"], dir.path()).status.success();
        assert_eq!(is_all, same.is_empty(), "{words:?}");
    }
    for words in [&["--xattrs", "com.apple."][..], &["--xattrs", "all,user."], &["--xattrs", ""]] {
        let build = [&["build", "mac.tar", "-o", "bad.erofs"], words].concat();
        let output = image(&build, dir.path());
        assert!(!output.status.success(), "{words:?}");
        assert!(!dir.path().join("bad.erofs").exists(), "{words:?}");
    }
}

/// Every subcommand that reads has the limit, and its error names the option for it.
#[test]
fn every_subcommand_limits_unpacked_archives() {
    let dir = tempfile::tempdir().unwrap();
    archive(&dir.path().join("a.tar"));
    made(&["build", "a.tar", "-o", "a.tar.gz"], dir.path());
    for command in [
        &["build", "a.tar.gz", "-o", "b.erofs"][..],
        &["ls", "a.tar.gz"],
        &["cat", "a.tar.gz", "one"],
        &["inspect", "a.tar.gz"],
        &["verify", "a.tar.gz"],
        &["diff", "a.tar.gz", "a.tar.gz"],
    ] {
        let output = image(&[command, &["--max-size", "1k"]].concat(), dir.path());
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{command:?}");
        assert!(words.contains("--max-size"), "{command:?}: {words}");
        made(&[command, &["--max-size", "1M"]].concat(), dir.path());
    }
}
