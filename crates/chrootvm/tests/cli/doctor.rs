//! `chrootvm --doctor` on the host of the test.

use std::path::Path;
use std::process::{Command, Output};

/// Output and report of `chrootvm --doctor`, with `path` as PATH if it is given.
fn doctor(path: Option<&Path>) -> (Output, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chrootvm"));
    command.arg("--doctor");
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let output = command.output().unwrap();
    let report = String::from_utf8(output.stdout.clone()).unwrap();
    (output, report)
}

/// The line of the report about `subject`.
fn line<'a>(report: &'a str, subject: &str) -> &'a str {
    let mut lines = report.lines();
    lines.find(|line| line.split_whitespace().nth(1) == Some(subject)).unwrap()
}

#[test]
fn the_report_agrees_with_installed_programs() {
    let (output, report) = doctor(None);
    let missing = report.lines().any(|line| line.starts_with("missing"));
    assert_eq!(output.status.code(), Some(i32::from(missing)), "{report}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let virtiofsd = machine::process::virtiofsd::find(None).is_ok();
    assert_eq!(!line(&report, "virtiofsd").starts_with("missing"), virtiofsd, "{report}");

    let qemu = line(&report, "QEMU");
    match Command::new("qemu-system-x86_64").arg("--version").output() {
        Ok(answer) => {
            let text = String::from_utf8(answer.stdout).unwrap();
            let version = text.split_whitespace().nth(3).unwrap();
            assert!(qemu.contains(&format!("version {version},")), "{qemu}\n{text}");
        }
        Err(_) if qemu.contains("qemu-kvm") => {}
        Err(_) => assert!(qemu.starts_with("missing"), "{qemu}"),
    }
}

/// ROOTFS adds a line about its kernels.
#[test]
fn a_root_adds_its_kernels() {
    let empty = tempfile::tempdir().unwrap();
    let mut chrootvm = Command::new(env!("CARGO_BIN_EXE_chrootvm"));
    let output = chrootvm.arg("--doctor").arg(empty.path()).output().unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    let missing = report.lines().any(|line| line.starts_with("missing"));
    assert_eq!(output.status.code(), Some(i32::from(missing)), "{report}");
    let kernel = line(&report, "kernel");
    assert!(kernel.contains(empty.path().to_str().unwrap()), "{kernel}");
}

#[test]
fn a_missing_qemu_fails_and_its_package_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let (output, report) = doctor(Some(empty.path()));
    let qemu = line(&report, "QEMU");
    if Path::new("/usr/libexec/qemu-kvm").exists() {
        assert!(qemu.contains("/usr/libexec/qemu-kvm"), "{qemu}");
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(qemu.starts_with("missing") && qemu.contains(" qemu-"), "{qemu}");
}
