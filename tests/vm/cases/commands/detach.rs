//! Machines in the background (`--detach`), and those who wait for one (`--wait`, sd_notify(3)).

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::command_run::CommandRun;
use crate::harness::processes::{Family, PATIENCE, Victim, all_gone, eventually, family, is_empty};
use crate::harness::programs::stdout_of;
use crate::harness::{Bed, Case, Machine};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("machine_outlives_its_starter",       machine_outlives_its_starter),
    ("machine_without_a_name_has_an_id",   machine_without_a_name_has_an_id),
    ("nothing_is_left_of_a_killed_one",    nothing_is_left_of_a_killed_one),
    ("failure_is_that_of_the_starter",     failure_is_that_of_the_starter),
    ("starter_that_cannot_tell_ends_it",   starter_that_cannot_tell_ends_it),
    ("init_has_started_with_its_console",  init_has_started_with_its_console),
    ("service_manager_is_told",            service_manager_is_told),
    ("command_is_not_healthy",             command_is_not_healthy),
];

/// Script of a command that runs longer than any test.
const LONG: &str = "echo up; exec sleep 600";

/// A name that no other test and no other run of this test uses.
fn name(test: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{test}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A machine with this command in the background. If the test fails, it ends after some minutes.
fn detached(bed: &Bed, words: &[&str]) -> Result<CommandRun> {
    Ok(bed.run(words)?.options(&["--detach", "--timeout", "5m"]))
}

/// A machine in the background, ended when this value is dropped.
struct Detached<'a> {
    bed: &'a Bed,
    name: String,
    pid: Pid,
    /// Owns the root of the machine.
    _root: Machine,
}

impl<'a> Detached<'a> {
    /// The machine that `run` starts as `name`.
    fn start(bed: &'a Bed, name: String, run: CommandRun) -> Result<Self> {
        let run = run.options(&["--name", &name]);
        let root = run.finish()?.says(0, &format!("{name}\n"), &[])?;
        let row = listed(bed, &name)?.context("ps does not list it")?;
        let pid = row["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        Ok(Self { bed, name, pid: Pid::from_raw(pid.context("pid")?), _root: root })
    }

    /// Waits until none of `processes` runs any more.
    fn is_gone(&self, processes: &Family) -> Result<()> {
        all_gone(processes)?;
        ensure!(listed(self.bed, &self.name)?.is_none(), "ps lists it");
        Ok(())
    }
}

impl Drop for Detached<'_> {
    fn drop(&mut self) {
        let mut stop = Command::new(self.bed.chrootvm());
        let _ = stop.args(["stop", "--timeout", "5s", &self.name]).output(); // it may have ended
    }
}

/// The object of the machine `name` in the output of `chrootvm ps --json`.
fn listed(bed: &Bed, name: &str) -> Result<Option<serde_json::Value>> {
    let text = stdout_of(Command::new(bed.chrootvm()).args(["ps", "--json"]))?;
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text)?;
    Ok(rows.into_iter().find(|row| row["name"] == name))
}

/// The starter has ended, and nobody has its streams open. The machine runs on, in the directory
/// and with the umask of the starter, and in a session of its own.
fn machine_outlives_its_starter(bed: &Bed) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let run = detached(bed, &["sh", "-c", LONG])?.variable("XDG_RUNTIME_DIR", dir.path());
    let run = run.through("umask 027; cd /; exec \"$@\"");
    let machine = Detached::start(bed, name("outlives"), run)?;
    let row = listed(bed, &machine.name)?.context("ps does not list it")?;
    ensure!(row["state"] == "running" && row["restarts"].is_null(), "{row}");
    let proc = format!("/proc/{}", machine.pid);
    let status = fs::read_to_string(format!("{proc}/status"))?;
    ensure!(status.contains("Umask:\t0027\n"), "{status}");
    ensure!(fs::read_link(format!("{proc}/cwd"))?.as_os_str() == "/");
    ensure!(nix::unistd::getsid(Some(machine.pid)) == Ok(machine.pid));

    let exec = |script| {
        let mut exec = Command::new(bed.chrootvm());
        stdout_of(exec.args(["exec", "-n", &machine.name, "--", "sh", "-c", script]))
    };
    ensure!(exec("echo $((6 * 7))")? == "42\n");
    eventually("its output is logged", || {
        let logs = stdout_of(Command::new(bed.chrootvm()).args(["logs", &machine.name]))?;
        Ok((logs == "up\n").then_some(()))
    })?;
    let restart = Command::new(bed.chrootvm()).args(["restart", &machine.name]).output()?;
    let problem = String::from_utf8_lossy(&restart.stderr);
    ensure!(restart.status.code() == Some(125) && problem.contains("no workload"), "{restart:?}");
    let processes = family(machine.pid)?;
    ensure!(processes.len() > 1, "{processes:?}");
    stdout_of(Command::new(bed.chrootvm()).args(["stop", &machine.name]))?;
    machine.is_gone(&processes)?;
    is_empty(dir.path())
}

fn machine_without_a_name_has_an_id(bed: &Bed) -> Result<()> {
    let starter = detached(bed, &["sh", "-c", LONG])?.finish()?;
    let pid = String::from_utf8(starter.stdout().to_vec())?;
    let _root = starter.says(0, &pid, &[])?;
    let pid = pid.trim_end();
    let row = listed(bed, pid)?.context("ps does not list it")?;
    ensure!(row["pid"].as_u64() == pid.parse().ok(), "{row}");
    stdout_of(Command::new(bed.chrootvm()).args(["stop", pid])).map(drop)
}

fn nothing_is_left_of_a_killed_one(bed: &Bed) -> Result<()> {
    let machine = Detached::start(bed, name("killed"), detached(bed, &["sh", "-c", LONG])?)?;
    let processes = family(machine.pid)?;
    ensure!(processes.len() > 1, "{processes:?}");
    kill(machine.pid, Signal::SIGKILL)?;
    machine.is_gone(&processes)
}

/// Of a command that has started, the status is not told any more.
fn failure_is_that_of_the_starter(bed: &Bed) -> Result<()> {
    detached(bed, &["/gone"])?.finish()?.says(127, "", &["/gone: not found"])?;
    let missing = detached(bed, &["true"])?.options(&["--workdir", "/gone"]).finish()?;
    missing.says(125, "", &["enter the working directory /gone: ENOENT"])?;
    let short = name("short");
    let short_run =
        detached(bed, &["sh", "-c", "exit 7"])?.options(&["--name", &short]).finish()?;
    short_run.says(0, &format!("{short}\n"), &[]).map(drop)
}

/// Nobody would know the name of the machine. A standard output that is closed is /dev/null.
fn starter_that_cannot_tell_ends_it(bed: &Bed) -> Result<()> {
    let lost = name("lost");
    let run = detached(bed, &["sh", "-c", LONG])?.options(&["--name", &lost]);
    let starter = run.through("exec \"$@\" >/dev/full").finish()?;
    starter.says(125, "", &["write to standard output: No space left on device"])?;
    eventually("the machine has ended", || Ok(listed(bed, &lost)?.is_none().then_some(())))?;

    let silent = name("silent");
    let run = detached(bed, &["sh", "-c", LONG])?.options(&["--name", &silent]);
    let _root = run.through("exec \"$@\" <&- >&-").finish()?.says(0, "", &[])?;
    ensure!(listed(bed, &silent)?.is_some());
    stdout_of(Command::new(bed.chrootvm()).args(["stop", &silent])).map(drop)
}

fn init_has_started_with_its_console(bed: &Bed) -> Result<()> {
    let run = detached(bed, &["/bin/sh"])?.without_separator();
    let machine = Detached::start(bed, name("init"), run)?;
    let row = listed(bed, &machine.name)?.context("ps does not list it")?;
    ensure!(row["state"] == "running" && row["command"] == "/bin/sh", "{row}");
    let processes = family(machine.pid)?;
    let stop = Command::new(bed.chrootvm()).args(["stop", &machine.name]).output()?;
    ensure!(stop.status.success(), "{stop:?}");
    machine.is_gone(&processes)
}

/// The service manager of chrootvm learns of each change. No child of chrootvm has its socket.
fn service_manager_is_told(bed: &Bed) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let told = || -> Result<String> {
        let mut message = [0; 256];
        let length = socket.recv(&mut message).context("wait for a message")?;
        Ok(String::from_utf8_lossy(message.get(..length).unwrap_or_default()).into_owned())
    };
    let script = "trap 'exit 7' TERM; echo up; sleep 600 & wait";
    let mut live = bed.sh(script)?.variable("NOTIFY_SOCKET", &path).start()?;
    for expected in ["STATUS=booting", "STATUS=running", "READY=1"] {
        let found = told()?;
        ensure!(found == expected, "{found}, not {expected}");
    }
    live.wait_for("up\n")?;
    let qemu = Victim::Qemu.wait(live.pid())?;
    let environment = fs::read(format!("/proc/{qemu}/environ"))?;
    ensure!(
        !String::from_utf8_lossy(&environment).contains("NOTIFY_SOCKET"),
        "QEMU has the socket"
    );
    live.signal(Signal::SIGTERM)?;
    for expected in ["STATUS=stopping", "STOPPING=1"] {
        let found = told()?;
        ensure!(found == expected, "{found}, not {expected}");
    }
    live.finish()?.says(7, "up\n", &[]).map(drop)
}

fn command_is_not_healthy(bed: &Bed) -> Result<()> {
    for options in [&["--wait", "healthy"][..], &["--wait=healthy", "--detach"]] {
        let run = bed.run(&["sh", "-c", "trap 'exit 9' TERM; sleep 600 & wait"])?.options(options);
        run.finish()?.says(125, "", &["--wait healthy: the machine runs no workload"])?;
    }
    Ok(())
}
