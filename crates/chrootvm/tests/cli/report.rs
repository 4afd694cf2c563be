//! `--report` of runs that fail before their machine, and FILEs that cannot be written.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const CHROOTVM: &str = env!("CARGO_BIN_EXE_chrootvm");

/// ROOTFS of all runs; there is none, so no machine starts.
const MISSING: &str = "./missing-root";

/// Runs `script` in `dir`; in it, `"$@"` is a run of [`MISSING`] without the option itself.
fn run(dir: &Path, script: &str) -> Output {
    let mut shell = Command::new("timeout");
    shell.args(["60", "sh", "-c", script, "sh"]).arg(CHROOTVM).arg("-q").current_dir(dir);
    shell.output().unwrap()
}

/// Names of the files in `dir`.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_run_that_fails_before_its_machine_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("\"$@\" --report out --name m {MISSING} -- sh -c 'exit 3'");
    let output = run(dir.path(), &script);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    let text = fs::read_to_string(dir.path().join("out")).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    for (member, expected) in [
        ("version", Value::from(1)),
        ("name", "m".into()),
        ("rootfs", MISSING.into()),
        ("command", vec!["sh", "-c", "exit 3"].into()),
        ("init", Value::Null),
        ("kernel", Value::Null),
        ("status", 125.into()),
        ("ending", "failed".into()),
        ("signal", Value::Null),
        ("phases", Value::Object(serde_json::Map::new())),
        ("console", Value::Null),
    ] {
        assert_eq!(report[member], expected, "{member}: {text}");
    }
    // The message is the one on standard error.
    assert_eq!(stderr, format!("error: {}\n", report["error"].as_str().unwrap()));
    assert_eq!(names(dir.path()), ["out"]);
}

#[test]
fn a_report_goes_where_the_caller_says() {
    let run_of = |option: &str| format!("\"$@\" --report {option} {MISSING} init");
    for (name, script, file, lines) in [
        ("replaced", format!("echo old >out; {}", run_of("out")), "out", 1),
        ("stdout", format!("{} >out", run_of("-")), "out", 1),
        ("appended", format!("echo 1 >out; {} 3>>out", run_of("/dev/fd/3")), "out", 2),
        ("fifo", format!("mkfifo p; cat p >out & {}; wait", run_of("p")), "out", 1),
        ("xml", run_of("out.xml"), "out.xml", 7),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let output = run(dir.path(), &script);
        let text = fs::read_to_string(dir.path().join(file)).unwrap();
        assert_eq!(text.lines().count(), lines, "{name}: {text} {output:?}");
        let last = text.lines().last().unwrap();
        match name {
            "xml" => assert!(text.contains("<error type=\"failed\" message=\""), "{text}"),
            _ => {
                let report: Value = serde_json::from_str(last).unwrap();
                assert_eq!((&report["init"], &report["status"]), (&"init".into(), &125.into()));
            }
        }
    }
}

#[test]
fn a_file_that_cannot_be_written_is_an_error() {
    for (words, part) in [
        ("--report gone/out", "--report: write gone/out: ENOENT: No such file or directory"),
        ("--report .", "--report: write .: Is a directory"),
        ("--report /dev/fd/9", "--report: write /dev/fd/9: No such file or directory"),
        ("--detach --report -", "--report: standard output is not that of a machine"),
        ("--dry-run --report out", "cannot be used with"),
        ("--doctor --report out", "cannot be used with"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let output = run(dir.path(), &format!("\"$@\" {words} {MISSING} -- true"));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{words}: {stderr}");
        // Nothing else was looked at before.
        assert!(stderr.contains(part) && !stderr.contains("missing-root:"), "{words}: {stderr}");
        assert!(names(dir.path()).is_empty(), "{words}");
    }
    // The run has failed already; both errors are told.
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &format!("\"$@\" --report /dev/full {MISSING} -- true"));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("--report: write /dev/full: No space left"), "{stderr}");
    assert!(stderr.contains(MISSING) && output.status.code() == Some(125), "{stderr}");
}
