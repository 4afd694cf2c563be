//! Machines that boot for ever, because QEMU is a script that sleeps: `chrootvm ps`, `stop` and
//! `restart`, `--detach`, `--report`, and the line about the boot.

mod detach;
mod report;

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use machine::kernel::vmlinux::samples::vmlinux;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::script;

const CHROOTVM: &str = env!("CARGO_BIN_EXE_chrootvm");

/// Deadline of a wait for something that takes a moment.
const DEADLINE: Duration = Duration::from_secs(60);

/// A program that answers questions about options. If it is started as QEMU or virtiofsd, it
/// waits for the file `end` in its directory, and fails.
const SLEEPER: &str = "#!/bin/sh
case \"$*\" in
*-kernel*|*rootfs*|*--fd*) until [ -e \"${0%/*}/end\" ]; do sleep 0.1; done; exit 1 ;;
*) echo --shared-dir --readonly ;;
esac
";

/// Runs `chrootvm WORDS`.
fn chrootvm(words: &[&str]) -> Output {
    let mut command = Command::new(CHROOTVM);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    wait(&mut process);
    process.wait_with_output().unwrap()
}

/// Waits until `process` has ended. Kills it, and fails, if it does not end in time.
fn wait(process: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            process.kill().unwrap();
            panic!("process {} has not ended within {DEADLINE:?}", process.id());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asserts that `output` has this status and standard output, and that standard error contains
/// `part`, or is empty if that is empty.
fn assert_is(output: &Output, status: i32, stdout: &str, part: &str, name: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{name}: {output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "{name}");
    assert!(stderr.contains(part) && stderr.is_empty() == part.is_empty(), "{name}: {stderr}");
}

/// A running chrootvm, killed when this value is dropped.
struct Machine {
    name: String,
    process: Child,
}

impl Machine {
    /// Starts a machine with a name that begins with `name`; `words` follow ROOTFS. Returns when
    /// it is listed and answers.
    fn start(dir: &Path, name: &str, words: &[&str]) -> Self {
        let (name, mut command) = Self::command(dir, name, words);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self { name, process: command.spawn().unwrap() }.listed()
    }

    /// The name and the command of [`Machine::start`].
    fn command(dir: &Path, name: &str, words: &[&str]) -> (String, Command) {
        let cache = dir.join("cache/virtinitrd/kernel");
        fs::create_dir_all(cache.join("6.1.1-x")).unwrap();
        fs::write(cache.join("6.1.1-x/vmlinux"), vmlinux(Some(0x100_0010))).unwrap();
        // A second machine in the same directory finds the link.
        let _ = symlink("6.1.1-x", cache.join("current"));
        let program = dir.join(format!("program-{name}"));
        script::write(&program, SLEEPER);
        fs::create_dir_all(dir.join("root/bin")).unwrap();
        fs::write(dir.join("root/bin/init"), "").unwrap();
        let name = format!("{name}-{}", std::process::id());
        let mut command = Command::new(CHROOTVM);
        command.args(["--kernel-builtin", "--name", &name]);
        for option in ["--qemu", "--virtiofsd", "--init"] {
            command.arg(option).arg(&program);
        }
        command.env("XDG_CACHE_HOME", dir.join("cache")).arg(dir.join("root")).args(words);
        command.stdin(Stdio::null());
        (name, command)
    }

    /// Waits until the machine is listed.
    fn listed(self) -> Self {
        let deadline = Instant::now() + DEADLINE;
        while self.row().is_none_or(|row| row == "- - - (does not answer)") {
            assert!(Instant::now() < deadline, "{} is not listed", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
        self
    }

    /// Its row in the output of `chrootvm ps`, from STATE on.
    fn row(&self) -> Option<String> {
        let listed = String::from_utf8(chrootvm(&["ps"]).stdout).unwrap();
        let row = listed.lines().find(|line| line.starts_with(&format!("{} ", self.name)))?;
        Some(row.split_whitespace().skip(2).collect::<Vec<_>>().join(" "))
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        wait(&mut self.process)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended
        let _ = self.process.wait();
    }
}

#[test]
fn machines_are_listed_and_stopped_whatever_they_run() {
    let dir = tempfile::tempdir().unwrap();
    let rootfs = dir.path().canonicalize().unwrap().join("root");
    for (name, words, row) in [
        ("command", &["--", "sleep", "9"][..], "sleep 9"),
        ("init", &["init"], "/bin/init"),
        ("default", &[], "/bin/sh"),
    ] {
        let mut machine = Machine::start(dir.path(), name, words);
        let expected = format!("booting - - {} {row}", rootfs.display());
        assert_eq!(machine.row().unwrap(), expected, "{name}");
        let stopped = chrootvm(&["stop", &machine.name]);
        assert_is(&stopped, 0, "", "", name);
        // The name is free at once, and chrootvm has ended as after SIGTERM.
        assert_eq!(machine.row(), None, "{name}");
        assert_eq!(machine.end().code(), Some(128 + Signal::SIGTERM as i32), "{name}");
    }
}

#[test]
fn a_machine_without_a_command_runs_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::start(dir.path(), "others", &["init"]);
    let output = chrootvm(&["exec", &machine.name, "--", "true"]);
    assert_is(&output, 125, "", "started with INIT or --console", "exec");
}

/// The files are there before the guest boots. Here, the test plays the guest, and writes to them.
#[test]
fn logs_are_found_by_the_name_of_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    let words = ["--logs", logs.to_str().unwrap(), "--", "true"];
    let mut machine = Machine::start(dir.path(), "logging", &words);
    fs::write(logs.join("stdout.log"), "one\ntwo\n").unwrap();
    for (name, words, stdout) in [
        ("all", &["logs", &machine.name][..], "one\ntwo\n"),
        ("tail", &["logs", "--tail=1", &machine.name], "two\n"),
        ("one stream", &["logs", "--stream=stderr", &machine.name], ""),
    ] {
        assert_is(&chrootvm(words), 0, stdout, "", name);
    }
    let mut command = Command::new(CHROOTVM);
    command.args(["logs", "-f", &machine.name]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut follower = command.spawn().unwrap();
    let mut first = [0; 4];
    follower.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(first, *b"one\n");
    fs::write(logs.join("stdout.log"), "one\ntwo\nthree\n").unwrap();
    assert_is(&chrootvm(&["stop", &machine.name]), 0, "", "", "stop");
    machine.end();
    wait(&mut follower);
    assert_is(&follower.wait_with_output().unwrap(), 0, "two\nthree\n", "", "follow");
}

#[test]
fn a_machine_without_logs_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::start(dir.path(), "quiet", &["--", "true"]);
    let output = chrootvm(&["logs", &machine.name]);
    assert_is(&output, 125, "", "it keeps no log files; start it as `chrootvm --logs DIR", "logs");
}

#[test]
fn a_machine_without_a_workload_restarts_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::start(dir.path(), "restart", &["--", "true"]);
    let gone = format!("gone-{}", std::process::id());
    for (name, words, part) in [
        ("boots", &["restart", &machine.name][..], "it still boots"),
        ("unknown", &["restart", &gone], "of yours runs; `chrootvm ps` lists them"),
        ("no name", &["restart"], "required"),
    ] {
        assert_is(&chrootvm(words), 125, "", part, name);
    }
    machine.signal(Signal::SIGSTOP);
    let output = chrootvm(&["restart", "--timeout", "100ms", &machine.name]);
    assert_is(&output, 124, "", "has not started again within 100ms", "timeout");
    machine.signal(Signal::SIGCONT);
    machine.signal(Signal::SIGTERM);
    machine.end();
}

#[test]
fn programs_read_the_list_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::start(dir.path(), "json", &["--", "sleep", "9"]);
    let output = chrootvm(&["ps", "--json"]);
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let row = rows.iter().find(|row| row["name"] == machine.name.as_str()).unwrap();
    assert_eq!(row["pid"], machine.process.id());
    assert_eq!((&row["state"], &row["command"]), (&"booting".into(), &"sleep 9".into()));
    assert!(row["uptime"].is_null() && row["restarts"].is_null(), "{row}");
}

#[test]
fn one_bad_name_does_not_keep_other_machines_running() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Machine::start(dir.path(), "first", &["init"]);
    let mut second = Machine::start(dir.path(), "second", &["--", "true"]);
    let (gone, pid) = (format!("gone-{}", std::process::id()), second.process.id().to_string());
    // The process id of a machine is no name if the machine has another one.
    for (name, words, status, part) in [
        ("no name", &["stop"][..], 125, "required"),
        ("bad name", &["stop", "../x"], 125, "letters, digits"),
        ("bad limit", &["stop", "--timeout", "soon", "x"], 125, "number of seconds"),
        ("process id", &["stop", &pid], 125, "no machine"),
        (
            "several",
            &["stop", &first.name, &first.name, &gone, &second.name],
            125,
            "of yours runs; `chrootvm ps` lists them",
        ),
    ] {
        assert_is(&chrootvm(words), status, "", part, name);
    }
    for machine in [&mut first, &mut second] {
        assert_eq!(machine.end().code(), Some(128 + Signal::SIGTERM as i32));
    }
}

#[test]
fn a_machine_that_does_not_react_is_killed_after_the_time_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Machine::start(dir.path(), "silent", &["--", "true"]);
    machine.signal(Signal::SIGSTOP);
    let output = chrootvm(&["stop", &machine.name]);
    assert_is(
        &output,
        125,
        "",
        "does not answer: its chrootvm may be stopped; to kill it",
        "waits",
    );
    let output = chrootvm(&["stop", "--timeout", "100ms", &machine.name]);
    assert_is(&output, 124, "", "has not ended within 100ms; it is ended at once", "kills");
    assert_eq!(machine.end().signal(), Some(Signal::SIGKILL as i32));
}

/// Starts a machine whose standard error is a terminal of type `term`; `words` follow ROOTFS. The
/// second value reads the terminal.
fn on_terminal(dir: &Path, term: &str, words: &[&str]) -> (Machine, File) {
    // Wide enough for every path.
    let size = Winsize { ws_row: 24, ws_col: 5000, ws_xpixel: 0, ws_ypixel: 0 };
    // Unlike those of openpty(3), these descriptors stay out of the programs of other tests, which
    // would keep the terminal open.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = openpt(flags).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let peer = ioctl_tiocgptpeer(&terminal, flags).unwrap();
    tcsetwinsize(&peer, size).unwrap();
    let (name, mut command) = Machine::command(dir, "terminal", words);
    command.stdout(Stdio::null()).stderr(peer).env("TERM", term);
    let process = command.spawn().unwrap();
    (Machine { name, process }.listed(), terminal.into())
}

/// Reads the terminal until it shows `part`, or, if that is `None`, until no program has it open.
fn read_until(terminal: &mut File, text: &mut String, part: Option<&str>) {
    let mut chunk = [0; 1024];
    while part.is_none_or(|part| !text.contains(part)) {
        let limit = PollTimeout::try_from(DEADLINE).unwrap();
        let ready = poll(&mut [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)], limit);
        assert_eq!(ready, Ok(1), "{part:?}: {text}");
        match terminal.read(&mut chunk) {
            Ok(count @ 1..) => text.push_str(&String::from_utf8_lossy(&chunk[..count])),
            // A terminal that nobody has open is EIO.
            Ok(_) | Err(_) => return assert_eq!(part, None, "{text}"),
        }
    }
}

#[test]
fn a_boot_is_shown_on_a_terminal_until_it_ends() {
    let (command, init) = ("waiting for its kernel and /init", "nothing on its console yet");
    for (name, words, state, end, last) in [
        ("stop", &["--", "true"][..], command, &["stop"][..], "\r\x1b[K"),
        ("message", &["--", "true"], command, &[], "\r\x1b[Kerror: "),
        ("stop of INIT", &["init"], init, &["stop"], "\r\x1b[K"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (mut machine, mut terminal) = on_terminal(dir.path(), "xterm", words);
        let mut text = String::new();
        let line = format!("\r\x1b[Kbooting {}", dir.path().join("root").display());
        read_until(&mut terminal, &mut text, Some(&line));
        match end {
            [] => fs::write(dir.path().join("end"), "").unwrap(),
            words => assert_is(&chrootvm(&[words, &[&machine.name]].concat()), 0, "", "", name),
        }
        machine.end();
        read_until(&mut terminal, &mut text, None);
        let (_, rest) = text.rsplit_once(state).expect(name);
        assert!(rest.starts_with(last), "{name}: {text:?}");
        assert_eq!(rest == last, !end.is_empty(), "{name}: {text:?}");
    }
}

#[test]
fn no_boot_is_shown_to_those_who_do_not_want_it() {
    for (name, term, words) in [
        ("quiet", "xterm", &["--quiet", "--", "true"][..]),
        ("verbose", "xterm", &["--verbose", "--", "true"]),
        ("a terminal that cannot erase", "dumb", &["--", "true"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (mut machine, mut terminal) = on_terminal(dir.path(), term, words);
        // Longer than the time after which the line appears.
        std::thread::sleep(Duration::from_secs(1));
        assert_is(&chrootvm(&["stop", &machine.name]), 0, "", "", name);
        machine.end();
        let mut text = String::new();
        read_until(&mut terminal, &mut text, None);
        assert!(!text.contains("booting"), "{name}: {text:?}");
    }
}
