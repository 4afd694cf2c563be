//! `chrootvm kernel`, with a source whose Makefile has the targets of the kernel's Makefile.
//!
//! `make kernel` builds a real kernel; these tests cover the errors and the list, and
//! `chrootvm kernel config`.

// The configuration is for x86-64 only.
#![cfg(target_arch = "x86_64")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

/// Runs `chrootvm kernel` with its files below `home`.
fn kernel(home: &Path, arguments: &[&str]) -> Output {
    let mut chrootvm = Command::new(env!("CARGO_BIN_EXE_chrootvm"));
    chrootvm.arg("kernel").args(arguments).env("XDG_CACHE_HOME", home).output().unwrap()
}

/// Makes a kernel source, whose Makefile is the version and then `makefile`.
fn source(dir: &Path, makefile: &str) -> String {
    let head = "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 2\nEXTRAVERSION =\n";
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("Makefile"), format!("{head}{makefile}")).unwrap();
    dir.to_str().unwrap().to_owned()
}

/// Target that configures: the `.config` is the whole input.
const CONFIGURE: &str = "allnoconfig:\n\tcp $(KCONFIG_ALLCONFIG) $(O)/.config\n";

#[test]
fn a_kernel_that_fails_to_build_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let program = "vmlinux:\n\tcp /proc/self/exe $(O)/vmlinux\n";
    for (name, makefile, expected) in [
        ("no configuration", String::new(), "make failed"),
        (
            "a lost line",
            "allnoconfig:\n\tgrep -v CONFIG_PVH $(KCONFIG_ALLCONFIG) > $(O)/.config\n".into(),
            "CONFIG_PVH=y has no effect",
        ),
        (
            "a compiler error",
            format!("{CONFIGURE}vmlinux:\n\techo it broke >&2; exit 3\n"),
            "it broke",
        ),
        ("a kernel without PVH entry", format!("{CONFIGURE}{program}"), "it has no PVH entry"),
    ] {
        let source = source(&dir.path().join("source"), &makefile);
        let init = env!("CARGO_BIN_EXE_chrootvm"); // no machine boots it
        let output = kernel(&home, &["build", "--source", &source, "--init", init]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{name}: {error}");
        assert!(error.contains(expected), "{name}: {error}");
        let listed = kernel(&home, &["ls"]);
        assert!(listed.status.success() && listed.stdout.is_empty(), "{name}");
    }
}

#[test]
fn a_source_without_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("Makefile"), "all:\n").unwrap();
    let output = kernel(dir.path(), &["build", "--source", source.to_str().unwrap()]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{error}");
    assert!(error.contains("is not a kernel source"), "{error}");
}

#[test]
fn the_list_marks_the_current_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let kernels = dir.path().join("virtinitrd/kernel");
    for (key, contents) in [("6.1.1-a", "1"), ("6.1.2-b", "22")] {
        fs::create_dir_all(kernels.join(key)).unwrap();
        fs::write(kernels.join(key).join("vmlinux"), contents).unwrap();
    }
    symlink("6.1.2-b", kernels.join("current")).unwrap();
    let output = kernel(dir.path(), &["ls"]);
    let kernels = kernels.display();
    let expected =
        format!("          1 {kernels}/6.1.1-a/vmlinux\n*         2 {kernels}/6.1.2-b/vmlinux\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[test]
fn the_options_that_a_configuration_lacks_are_printed() {
    let dir = tempfile::tempdir().unwrap();
    let all = kernel(dir.path(), &["config"]);
    let fragment = String::from_utf8(all.stdout).unwrap();
    assert!(all.status.success() && fragment.contains("CONFIG_VIRTIO_FS=y\n"), "{fragment}");
    let path = dir.path().join(".config");
    let file = path.to_str().unwrap();
    let without = |names: &[&str]| -> String {
        let is_named = |line: &str| names.iter().any(|name| *line == format!("CONFIG_{name}=y"));
        let kept = fragment.lines().filter(|line| !is_named(line));
        kept.chain(["CONFIG_X86=y"]).flat_map(|line| [line, "\n"]).collect()
    };
    for (name, names, status, expected) in [
        ("all", &[][..], 0, ""),
        ("a comfort", &["TMPFS_XATTR"], 0, "CONFIG_TMPFS_XATTR=y\n"),
        ("a need", &["DEVTMPFS"], 1, "CONFIG_DEVTMPFS=y\n"),
        ("its menu too", &["VIRTIO_FS"], 1, "CONFIG_FUSE_FS=y\nCONFIG_VIRTIO_FS=y\n"),
    ] {
        fs::write(&path, without(names)).unwrap();
        for given in [file, dir.path().to_str().unwrap()] {
            let output = kernel(dir.path(), &["config", "--check", given]);
            let printed = String::from_utf8(output.stdout).unwrap();
            let lines = printed.lines().filter(|line| !line.starts_with('#'));
            let lines: String = lines.flat_map(|line| [line, "\n"]).collect();
            assert_eq!((output.status.code(), &*lines), (Some(status), expected), "{name}");
        }
    }
    fs::write(&path, "no configuration\n").unwrap();
    let output = kernel(dir.path(), &["config", "--check", file]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{error}");
    assert!(error.contains("no line CONFIG_NAME=VALUE"), "{error}");
}
