//! Machines in the background, which boot for ever or fail.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Machine, assert_is, chrootvm};

/// Starts a chrootvm that waits for a machine in the background, and returns it when that is listed;
/// `words` follow ROOTFS.
fn detached(dir: &Path, name: &str, words: &[&str]) -> Machine {
    let words = [&["--detach"], words].concat();
    let (name, mut command) = Machine::command(dir, name, &words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Machine { name, process: command.spawn().unwrap() }.listed()
}

/// What a chrootvm has printed that has ended, or ends soon.
fn output(machine: &mut Machine) -> Output {
    let status = machine.end();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    machine.process.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    machine.process.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
    Output { status, stdout, stderr }
}

#[test]
fn a_machine_ends_with_the_chrootvm_that_waits_for_it() {
    for (name, signal, words) in [
        ("interrupted", Signal::SIGINT, &["--", "true"][..]),
        ("terminated", Signal::SIGTERM, &["init"]),
        ("killed", Signal::SIGKILL, &["--wait", "healthy", "--", "true"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut machine = detached(dir.path(), name, words);
        machine.signal(signal);
        // The machine has ended when nobody can write to standard error.
        let output = output(&mut machine);
        assert_eq!(output.status.signal(), Some(signal as i32), "{name}");
        assert_eq!((output.stdout, output.stderr), (Vec::new(), Vec::new()), "{name}");
        assert_eq!(machine.row(), None, "{name}");
    }
}

#[test]
fn the_end_of_a_machine_that_did_not_start_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = detached(dir.path(), "fails", &["--", "true"]);
    let second = Machine::command(dir.path(), "fails", &["--detach", "--", "true"]).1.output();
    assert_is(&second.unwrap(), 125, "", "a machine of that name runs already", "taken");
    fs::write(dir.path().join("end"), "").unwrap();
    assert_is(&output(&mut machine), 125, "", "(exit status 1)", "fails");
    fs::remove_file(dir.path().join("end")).unwrap();

    let mut machine = detached(dir.path(), "dies", &["--", "true"]);
    let pid = chrootvm(&["ps", "--json"]).stdout;
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&pid).unwrap();
    let row = rows.iter().find(|row| row["name"] == machine.name.as_str()).unwrap();
    let pid = Pid::from_raw(i32::try_from(row["pid"].as_i64().unwrap()).unwrap());
    assert_ne!(pid.as_raw().unsigned_abs(), machine.process.id());
    // It has a session of its own.
    assert_eq!(nix::unistd::getsid(Some(pid)), Ok(pid));
    kill(pid, Signal::SIGKILL).unwrap();
    assert_is(&output(&mut machine), 137, "", "signal 9 has killed the chrootvm", "dies");

    for (name, words, part) in [
        ("terminal", &["--detach", "-t", "--", "true"][..], "cannot be used with"),
        ("INIT", &["--detach", "--wait", "healthy", "init"], "INIT has none"),
        ("condition", &["--wait", "x", "--", "true"], "invalid value 'x' for '--wait"),
    ] {
        let output = Machine::command(dir.path(), "bad", words).1.output().unwrap();
        assert_is(&output, 125, "", part, name);
    }
}
