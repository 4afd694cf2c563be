//! `--report` of machines that boot for ever.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Machine, wait};

/// Starts a machine that reports to `file`; `words` are more options.
fn reporting(dir: &Path, name: &str, file: &str, words: &[&str]) -> Machine {
    let file = dir.join(file);
    let option = ["--report", file.to_str().unwrap()];
    let words = [&option, words, &["--", "sleep", "9"]].concat();
    let (name, mut command) = Machine::command(dir, name, &words);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    Machine { name, process: command.spawn().unwrap() }
}

fn report(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_signal_and_a_time_limit_are_reported() {
    for (name, words, signal, status, expected) in [
        ("signal", &[][..], Some(Signal::SIGTERM), 143, ("interrupted", Value::from(15))),
        ("limit", &["--timeout=1s"], None, 124, ("time-limit", Value::Null)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut machine = reporting(dir.path(), name, "report", words);
        if let Some(signal) = signal {
            machine = machine.listed();
            assert!(!dir.path().join("report").exists(), "it is written at the end");
            machine.signal(signal);
        }
        assert_eq!(wait(&mut machine.process).code(), Some(status), "{name}");
        let report = report(&dir.path().join("report"));
        let found = (report["ending"].as_str().unwrap(), report["signal"].clone());
        assert_eq!(found, expected, "{name}: {report}");
        assert_eq!(report["status"], status, "{report}");
        assert_eq!(report["name"], *machine.name, "{report}");
        let kernel = report["kernel"]["path"].as_str().unwrap();
        assert!(kernel.ends_with("virtinitrd/kernel/6.1.1-x/vmlinux"), "{report}");
        let error = report["error"].as_str().unwrap_or_default();
        assert_eq!(error.contains("has not ended within 1s"), name == "limit", "{report}");
        assert_eq!(report["console"], "", "{report}");
    }
}

/// The directory of the report goes while the machine runs.
#[test]
fn a_report_that_is_lost_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("results")).unwrap();
    let mut machine = reporting(dir.path(), "lost", "results/report", &[]).listed();
    fs::remove_dir(dir.path().join("results")).unwrap();
    machine.signal(Signal::SIGTERM);
    assert_eq!(wait(&mut machine.process).code(), Some(125));
    let mut stderr = String::new();
    std::io::Read::read_to_string(machine.process.stderr.as_mut().unwrap(), &mut stderr).unwrap();
    assert!(stderr.contains("error: --report: write ") && stderr.contains("No such"), "{stderr}");
}
