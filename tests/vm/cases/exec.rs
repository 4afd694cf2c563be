//! More commands in a machine that runs: `chrootvm exec` and `ps`.

use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

use crate::Case;
use crate::command_run::Live;
use crate::harness::Bed;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("has_its_own_streams",       has_its_own_streams),
    ("six_at_once_and_no_more",   six_at_once_and_no_more),
    ("each_end_is_told",          each_end_is_told),
    ("an_unknown_name_is_told",   an_unknown_name_is_told),
    ("without_a_name_by_process", without_a_name_by_process),
    ("a_name_that_is_taken",      a_name_that_is_taken),
];

/// Runs for as long as a test takes; a test ends it.
const LONG: &str = "echo up; exec sleep 600";

/// A running machine of that name.
fn machine(bed: &Bed, name: &str) -> Result<Live> {
    let mut live = bed.run(&["sh", "-c", LONG])?.options(&["--name", name]).start()?;
    live.wait_for("up\n")?;
    Ok(live)
}

/// A name that no other test, nor another run of this one, has.
fn name(test: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-{test}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn exec(bed: &Bed, options: &[&str], name: &str, script: &str) -> Result<Child> {
    let mut command = Command::new(bed.workspace.join("scripts/chrootvm"));
    command.arg("exec").args(options).arg(name).args(["--", "sh", "-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("start chrootvm exec")
}

/// Waits until the command has written `up\n`, which its output then lacks.
fn wait_until_up(child: &mut Child) -> Result<()> {
    let mut word = [0; 3];
    let stdout = child.stdout.as_mut().context("stdout")?;
    stdout.read_exact(&mut word).context("read the command's output")?;
    ensure!(word == *b"up\n", "{word:?}");
    Ok(())
}

fn is(output: &Output, status: i32, stdout: &str, stderr: &str) -> Result<()> {
    let is_it = output.status.code() == Some(status)
        && output.stdout == stdout.as_bytes()
        && String::from_utf8_lossy(&output.stderr).contains(stderr)
        && (!stderr.is_empty() || output.stderr.is_empty());
    ensure!(is_it, "expected {status}, {stdout:?}, {stderr:?}: {output:?}");
    Ok(())
}

fn has_its_own_streams(bed: &Bed) -> Result<()> {
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

    let row = listed(bed, &name)?.context("ps does not list it")?;
    ensure!(row.ends_with("sh -c 'echo up; exec sleep 600'"), "{row}");
    Ok(())
}

/// What `chrootvm ps` says of the machine called `name`, where it does.
fn listed(bed: &Bed, name: &str) -> Result<Option<String>> {
    let listed = Command::new(bed.workspace.join("scripts/chrootvm")).arg("ps").output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let row = listed.lines().find(|line| line.starts_with(&format!("{name} ")));
    Ok(row.map(str::to_owned))
}

/// QEMU drops what its control queue cannot hold; so they come one by one.
fn six_at_once_and_no_more(bed: &Bed) -> Result<()> {
    let name = name("six");
    let mut first = bed.run(&["sh", "-c", LONG])?.options(&["--name", &name]).start()?;
    // Until the machine has its name it is not found.
    let mut tries = 0..1000;
    while listed(bed, &name)?.is_none() {
        ensure!(tries.next().is_some(), "ps does not list {name}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // Before the first command runs, they wait.
    let mut children = Vec::new();
    for _ in 0..7 {
        children.push(exec(bed, &[], &name, "echo in; read line; echo out")?);
    }
    first.wait_for("up\n")?;
    // The seventh says so before the others are let go.
    let refused = loop {
        let ended = children.iter_mut().position(|child| matches!(child.try_wait(), Ok(Some(_))));
        if let Some(at) = ended {
            break children.swap_remove(at).wait_with_output()?;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    is(&refused, 125, "", "room for six commands beside its first")?;
    for mut child in children {
        child.stdin.take().context("stdin")?.write_all(b"\n")?;
        is(&child.wait_with_output()?, 0, "in\nout\n", "")?;
    }
    // Their places are free again.
    is(&exec(bed, &[], &name, "echo again")?.wait_with_output()?, 0, "again\n", "")
}

/// A command that is not found, a server that dies, a time limit, a client that
/// goes, and the machine itself.
fn each_end_is_told(bed: &Bed) -> Result<()> {
    let name = name("ends");
    let machine = machine(bed, &name)?;
    let run = |options: &[&str], script: &str| {
        exec(bed, options, &name, script)?.wait_with_output().context("wait")
    };
    is(&run(&[], "kill -9 $$")?, 137, "", "")?;
    is(&run(&["-w", "/gone"], "true")?, 125, "", "enter the working directory /gone: ENOENT")?;
    is(&run(&[], "kill -9 $PPID; sleep 60")?, 125, "", "its /init has ended")?;
    let limited = run(&["--timeout", "2s"], "trap '' HUP; sleep 601")?;
    is(&limited, 124, "", "has not ended in time")?;
    let mut gone = exec(bed, &[], &name, "echo up; exec sleep 602")?;
    wait_until_up(&mut gone)?;
    gone.kill()?;
    gone.wait()?;
    // Neither outlives whoever asked for it.
    let wait = "until ! ps | grep -q 'slee[p] 60[12]'; do sleep 0.1; done; echo gone";
    is(&run(&["--timeout", "300s"], wait)?, 0, "gone\n", "")?;

    let mut last = exec(bed, &[], &name, "echo up; exec sleep 603")?;
    wait_until_up(&mut last)?;
    machine.signal(nix::sys::signal::Signal::SIGKILL)?;
    last.stdin.take();
    is(&last.wait_with_output()?, 125, "", "ended, or its /init did")
}

fn an_unknown_name_is_told(bed: &Bed) -> Result<()> {
    let output = exec(bed, &[], &name("unknown"), "true")?.wait_with_output()?;
    is(&output, 125, "", "of yours runs; `chrootvm ps` lists them")?;
    let output = exec(bed, &[], "../x", "true")?.wait_with_output()?;
    is(&output, 125, "", "letters, digits")
}

/// Nobody can know the name of its socket before; `ps` and `exec` know the process.
fn without_a_name_by_process(bed: &Bed) -> Result<()> {
    let mut live = bed.run(&["sh", "-c", LONG])?.start()?;
    live.wait_for("up\n")?;
    let pid = live.pid().to_string();
    is(&exec(bed, &[], &pid, "echo in; exit 9")?.wait_with_output()?, 9, "in\n", "")?;
    let row = listed(bed, &pid)?.context("ps does not list it")?;
    ensure!(row.split_whitespace().nth(1) == Some(&pid), "{row}");
    let sockets = std::fs::read("/proc/net/unix")?;
    let known = format!("@virtinitrd-machine-{}-{pid}\n", nix::unistd::geteuid());
    ensure!(!String::from_utf8_lossy(&sockets).contains(&known), "its socket can be foretold");
    Ok(())
}

fn a_name_that_is_taken(bed: &Bed) -> Result<()> {
    let name = name("taken");
    let first = machine(bed, &name)?;
    let holder = format!("runs already (process {})", first.pid());
    let second = bed.run(&["true"])?.options(&["--name", &name]).finish()?;
    second.says(125, "", &[&format!("--name {name}: "), &holder]).map(drop)
}
