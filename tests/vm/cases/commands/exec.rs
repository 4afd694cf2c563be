//! More commands in a running machine, and its end: `chrootvm exec`, `ps` and `stop`.

use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

use crate::harness::command_run::RunningCommand;
use crate::harness::processes::eventually;
use crate::harness::programs::stdout_of;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("command_has_its_own_streams",       command_has_its_own_streams),
    ("seventh_command_is_refused",        seventh_command_is_refused),
    ("each_end_is_reported",              each_end_is_reported),
    ("unknown_name_is_an_error",          unknown_name_is_an_error),
    ("unnamed_machine_has_a_process_id",  unnamed_machine_has_a_process_id),
    ("stop_ends_the_command",             stop_ends_the_command),
];

/// Script of a command that runs longer than any test.
const LONG: &str = "echo up; exec sleep 600";

/// A running machine with this name.
fn machine(bed: &Bed, name: &str) -> Result<RunningCommand> {
    let mut live = bed.run(&["sh", "-c", LONG])?.options(&["--name", name]).start()?;
    live.wait_for("up\n")?;
    Ok(live)
}

/// A name that no other test and no other run of this test uses.
fn name(test: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{test}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Starts `chrootvm exec` with a script for the shell of the machine.
fn exec(bed: &Bed, options: &[&str], name: &str, script: &str) -> Result<Child> {
    let mut command = Command::new(bed.chrootvm());
    command.arg("exec").args(options).arg(name).args(["--", "sh", "-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("start chrootvm exec")
}

/// Waits until the command has written `up\n`, and removes that from its output.
fn wait_until_up(child: &mut Child) -> Result<()> {
    let mut word = [0; 3];
    let stdout = child.stdout.as_mut().context("stdout")?;
    stdout.read_exact(&mut word).context("read the command's output")?;
    ensure!(word == *b"up\n", "{word:?}");
    Ok(())
}

/// The status and standard output are as given, and standard error contains `stderr`.
fn is(output: &Output, status: i32, stdout: &str, stderr: &str) -> Result<()> {
    let is_expected = output.status.code() == Some(status)
        && output.stdout == stdout.as_bytes()
        && String::from_utf8_lossy(&output.stderr).contains(stderr)
        && (!stderr.is_empty() || output.stderr.is_empty());
    ensure!(is_expected, "expected {status}, {stdout:?}, {stderr:?}: {output:?}");
    Ok(())
}

fn command_has_its_own_streams(bed: &Bed) -> Result<()> {
    let name = name("streams");
    let _machine = machine(bed, &name)?;
    let script = "cat; echo error >&2; pwd; echo $A; id -u; exit 42";
    let mut child = exec(bed, &["-e", "A=b", "-w", "/tmp", "-u", "7:8"], &name, script)?;
    let input = b"\x00\xff\r\n".repeat(50_000);
    let mut stdin = child.stdin.take().context("stdin")?;
    let written = input.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&written));
    let output = child.wait_with_output()?;
    ensure!(writer.join().is_ok_and(|written| written.is_ok()));
    let expected = [&input[..], b"/tmp\nb\n7\n"].concat();
    ensure!(output.stdout == expected && output.stderr == b"error\n", "{}", output.stdout.len());
    ensure!(output.status.code() == Some(42), "{:?}", output.status);

    // A command needs no `--`, not even one of a single word.
    for words in [&["sh", "-s"][..], &["sh"]] {
        let (reader, mut writer) = std::io::pipe()?;
        writer.write_all(b"pwd\n")?;
        drop(writer);
        let mut exec = Command::new(bed.chrootvm());
        let output = exec.args(["exec", &name]).args(words).stdin(reader).output()?;
        is(&output, 0, "/\n", "")?;
    }

    // The second line is for the loop, not for the first command.
    let line = "while read word; do \"$0\" exec -n \"$1\" sh -c \"cat; echo $word\"; done";
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).arg(bed.chrootvm()).arg(&name);
    let (reader, mut writer) = std::io::pipe()?;
    writer.write_all(b"a\nb\n")?;
    drop(writer);
    is(&shell.stdin(reader).output()?, 0, "a\nb\n", "")?;

    let row = listed(bed, &name)?.context("ps does not list it")?;
    ensure!(row.ends_with("sh -c 'echo up; exec sleep 600'"), "{row}");
    Ok(())
}

/// The row of the machine `name` in the output of `chrootvm ps`.
fn listed(bed: &Bed, name: &str) -> Result<Option<String>> {
    let listed = stdout_of(Command::new(bed.chrootvm()).arg("ps"))?;
    let row = listed.lines().find(|line| line.starts_with(&format!("{name} ")));
    Ok(row.map(str::to_owned))
}

/// Six commands wait for the boot of the machine, and run at the same time. QEMU drops
/// messages about ports that its queue cannot hold, so this fails if their ports come at once.
fn seventh_command_is_refused(bed: &Bed) -> Result<()> {
    let name = name("six");
    let mut first = bed.run(&["sh", "-c", LONG])?.options(&["--name", &name]).start()?;
    eventually("ps lists the machine", || listed(bed, &name))?;
    // The commands wait until the first command of the machine runs.
    let mut children = Vec::new();
    for _ in 0..7 {
        children.push(exec(bed, &[], &name, "echo in; read line; echo out")?);
    }
    first.wait_for("up\n")?;
    // One command is refused, while the others still wait for their input.
    let at = eventually("a command ends", || {
        Ok(children.iter_mut().position(|child| matches!(child.try_wait(), Ok(Some(_)))))
    })?;
    let refused = children.swap_remove(at).wait_with_output()?;
    is(&refused, 125, "", "room for six commands beside its first")?;
    for mut child in children {
        child.stdin.take().context("stdin")?.write_all(b"\n")?;
        is(&child.wait_with_output()?, 0, "in\nout\n", "")?;
    }
    // All six have ended, so that there is room again.
    is(&exec(bed, &[], &name, "echo again")?.wait_with_output()?, 0, "again\n", "")
}

/// The ends: a signal, a missing directory, a dead `/init` of the command, a time limit, a
/// killed client, and the end of the machine.
fn each_end_is_reported(bed: &Bed) -> Result<()> {
    let name = name("ends");
    let machine = machine(bed, &name)?;
    let run = |options: &[&str], script: &str| {
        exec(bed, options, &name, script)?.wait_with_output().context("wait")
    };
    is(&run(&[], "kill -9 $$")?, 137, "", "")?;
    is(&run(&["-w", "/gone"], "true")?, 125, "", "enter the working directory /gone: ENOENT")?;
    is(&run(&[], "kill -9 $PPID; sleep 60")?, 125, "", "its /init has ended")?;
    let limited = run(&["--timeout", "2s"], "trap '' HUP; sleep 601")?;
    is(&limited, 124, "", "has not ended within")?;
    let mut gone = exec(bed, &[], &name, "echo up; exec sleep 602")?;
    wait_until_up(&mut gone)?;
    gone.kill()?;
    gone.wait()?;
    // Both commands end with their client.
    let wait = "until ! ps | grep -q 'slee[p] 60[12]'; do sleep 0.1; done; echo gone";
    is(&run(&["--timeout", "300s"], wait)?, 0, "gone\n", "")?;

    let mut last = exec(bed, &[], &name, "echo up; exec sleep 603")?;
    wait_until_up(&mut last)?;
    machine.signal(nix::sys::signal::Signal::SIGKILL)?;
    last.stdin.take();
    is(&last.wait_with_output()?, 125, "", "ended before the command did")
}

fn unknown_name_is_an_error(bed: &Bed) -> Result<()> {
    let output = exec(bed, &[], &name("unknown"), "true")?.wait_with_output()?;
    is(&output, 125, "", "of yours runs; `chrootvm ps` lists them")?;
    let output = exec(bed, &[], "../x", "true")?.wait_with_output()?;
    is(&output, 125, "", "letters, digits")
}

/// `ps` and `exec` find a machine without a name by its process id. Nobody can predict the
/// name of its socket. If a command powers the machine off, both commands end with an error.
fn unnamed_machine_has_a_process_id(bed: &Bed) -> Result<()> {
    let mut live = bed.run(&["sh", "-c", LONG])?.start()?;
    live.wait_for("up\n")?;
    let pid = live.pid().to_string();
    is(&exec(bed, &[], &pid, "echo in; exit 9")?.wait_with_output()?, 9, "in\n", "")?;
    let row = listed(bed, &pid)?.context("ps does not list it")?;
    ensure!(row.split_whitespace().nth(1) == Some(&pid), "{row}");
    let sockets = std::fs::read("/proc/net/unix")?;
    let known = format!("@virtinitrd-machine-{}-{pid}\n", nix::unistd::geteuid());
    ensure!(!String::from_utf8_lossy(&sockets).contains(&known), "its socket can be foretold");

    let off = exec(bed, &[], &pid, "poweroff -f; sleep 600")?.wait_with_output()?;
    is(&off, 125, "", "ended before the command did")?;
    live.finish()?.says(125, "up\n", &["powered off before the command had ended"]).map(drop)
}

/// The command gets SIGTERM, and its status is that of chrootvm. Until then nobody else can
/// have the name of the machine; after `stop` it is free.
fn stop_ends_the_command(bed: &Bed) -> Result<()> {
    let name = name("stop");
    let script = "trap 'echo end; exit 7' TERM; echo up; sleep 600 & wait";
    let mut first = bed.run(&["sh", "-c", script])?.options(&["--name", &name]).start()?;
    first.wait_for("up\n")?;
    let holder = format!("runs already (process {})", first.pid());
    let second = bed.run(&["true"])?.options(&["--name", &name]).finish()?;
    second.says(125, "", &[&format!("--name {name}: "), &holder])?;

    let stop = |status, stderr| {
        is(&Command::new(bed.chrootvm()).args(["stop", &name]).output()?, status, "", stderr)
    };
    stop(0, "")?;
    stop(125, "of yours runs; `chrootvm ps` lists them")?;
    first.finish()?.says(7, "up\nend\n", &[]).map(drop)
}
