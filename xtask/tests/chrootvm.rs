//! The command line of chrootvm, as a shell sees it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use xtask::vmlinux::samples::vmlinux;

#[test]
fn only_trouble_has_the_status_of_trouble() {
    for (arguments, status) in [
        (&["--help"][..], 0),
        (&["-h"], 0),
        (&["--version"], 0),
        (&[], 125),
        (&["--no-such-option"], 125),
        (&["--memory", "much", "/"], 125),
        (&["--rw", "--overlay", "/", "--", "true"], 125),
        (&["/no/such/directory", "--", "true"], 125),
    ] {
        let mut chrootvm = Command::new(env!("CARGO_BIN_EXE_xtask"));
        let output = chrootvm.arg("chrootvm").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        // Help is what was asked for, an error is not.
        assert_eq!(output.stderr.is_empty(), status == 0, "{arguments:?}");
        assert_eq!(output.stdout.is_empty(), status != 0, "{arguments:?}");
    }
}

#[test]
fn who_reads_what_is_told_may_have_enough_of_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "").unwrap();
    let path = dir.path().to_str().unwrap();
    for (arguments, status) in [
        (&["inspect", path][..], 0),
        (&["ls", path], 0),
        (&["verify", path], 0),
        (&["diff", path, "src"], 1),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut image = Command::new(env!("CARGO_BIN_EXE_xtask"));
        let output = image.arg("image").args(arguments).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

/// `chrootvm ARGUMENTS --kernel-builtin DIR/root -- true`, with `DIR/cache` and
/// a program that is none of those it stands for, but has their options.
fn builtin(dir: &Path, arguments: &[&str]) -> Output {
    let program = dir.join("program");
    fs::write(&program, "#!/bin/sh\necho --shared-dir --readonly\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(dir.join("root")).unwrap();
    let mut chrootvm = Command::new(env!("CARGO_BIN_EXE_xtask"));
    chrootvm.arg("chrootvm").args(arguments).arg("--kernel-builtin");
    for option in ["--qemu", "--virtiofsd", "--init"] {
        chrootvm.arg(option).arg(&program);
    }
    chrootvm.env("XDG_CACHE_HOME", dir.join("cache"));
    chrootvm.arg(dir.join("root")).args(["--", "true"]).output().unwrap()
}

#[test]
fn a_kernel_that_was_not_built_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let output = builtin(dir.path(), &[]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{error}");
    let image = dir.path().join("cache/virtinitrd/kernel/current/vmlinux");
    for part in ["--kernel-builtin", "cargo xtask kernel", image.to_str().unwrap()] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn the_built_kernel_is_the_only_one_and_has_no_modules() {
    for other in [["--kernel", "/x"], ["--modules", "/x"], ["--module", "x"]] {
        let dir = tempfile::tempdir().unwrap();
        let output = builtin(dir.path(), &other);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{error}");
        assert!(error.contains("cannot be used with") && error.contains(other[0]), "{error}");
    }
}

#[test]
fn the_built_kernel_is_booted_without_modules() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache/virtinitrd/kernel");
    fs::create_dir_all(cache.join("6.1.1-x")).unwrap();
    fs::write(cache.join("6.1.1-x/vmlinux"), vmlinux(Some(0x100_0010))).unwrap();
    symlink("6.1.1-x", cache.join("current")).unwrap();
    let output = builtin(dir.path(), &["--overlay", "--net", "user", "--dry-run"]);
    let script = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let kernel = format!(" -kernel {} ", cache.join("6.1.1-x/vmlinux").display());
    assert!(script.contains(&kernel), "{script}");
    assert!(script.contains(" pack ") && !script.contains("--module"), "{script}");
}
