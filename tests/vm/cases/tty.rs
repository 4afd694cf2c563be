//! A command on a terminal: it controls the command, has its size, its keys, a
//! way out, and is afterwards as it was before, however the run ends.

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};

use crate::Case;
use crate::harness::Bed;
use crate::processes::{all_gone, named};
use crate::terminal::Terminal;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("it_is_a_terminal",           it_is_a_terminal),
    ("keys_control_jobs",          keys_control_jobs),
    ("a_way_out",                  a_way_out),
    ("none_is_wanted",             none_is_wanted),
    ("restored_after_failure",     restored_after_failure),
    ("restored_after_sigterm",     restored_after_sigterm),
    ("restored_after_sigkill",     |bed| restored_after_sigkill(bed, "chrootvm", 137)),
    ("restored_after_qemus_death", |bed| restored_after_sigkill(bed, "qemu-system", 125)),
];

/// With the size of the host's, then and later.
fn it_is_a_terminal(bed: &Bed) -> Result<()> {
    // Not `read` waits for the signal: one that comes just before it blocks is only
    // seen when it returns.
    let script = "trap resized=yes WINCH
                  test -t 0 && test -t 1 && test -t 2 && echo three on $(tty)
                  echo to the controlling one > /dev/tty; echo on error >&2
                  stty size; until [ $resized ]; do sleep 0.05; done; echo now $(stty size)
                  read line; echo read $line; exit 7";
    let mut terminal = Terminal::start(bed.sh(script)?)?;
    terminal.wait_for("three on /dev/pts/0\nto the controlling one\non error\n30 100\n")?;
    terminal.resize(41, 123)?;
    terminal.wait_for("now 41 123\n")?;
    terminal.line("words", "read words\n")?;
    terminal.ends_with(7)
}

/// A shell that was not asked to be interactive is: its input is a terminal.
fn keys_control_jobs(bed: &Bed) -> Result<()> {
    let mut terminal = Terminal::start(bed.run(&["sh"])?)?;
    // Not before it asks: until then a key is not a shell's, but a terminal's.
    let shell = |terminal: &mut Terminal, line, answer| {
        terminal.wait_for("/ # ")?;
        terminal.line(line, answer)
    };
    // A job shows that it runs, for until then keys are the shell's.
    shell(&mut terminal, "sh -c 'echo run''ning; exec sleep 3600'", "\nrunning\n")?;
    terminal.keys("\x03")?;
    shell(&mut terminal, "echo status $?", "\nstatus 130\n")?;
    shell(&mut terminal, "sh -c 'echo run''ning; exec cat'", "\nrunning\n")?;
    terminal.line("first", "first\nfirst\n")?;
    terminal.keys("\x1a")?;
    terminal.wait_for("Stopped")?;
    shell(&mut terminal, "fg", "exec cat\"\n")?;
    terminal.line("~~ is a tilde", "~ is a tilde\n~ is a tilde\n")?;
    terminal.keys("\x1a")?;
    terminal.wait_for("Stopped")?;
    shell(&mut terminal, "fg", "exec cat\"\n")?;
    // Its own end, not a signal: where a child ends while busybox asks for a line, the
    // prompt may never be shown.
    terminal.keys("\x04")?;
    terminal.wait_for("/ # ")?;
    terminal.keys("exit 9\r")?;
    terminal.ends_with(9)
}

/// Though the command takes no key and no signal.
fn a_way_out(bed: &Bed) -> Result<()> {
    let script =
        "trap '' INT TERM HUP QUIT; stty raw -echo; echo is up; while :; do sleep 60; done";
    let mut terminal = Terminal::start(bed.sh(script)?)?;
    terminal.wait_for("is up")?;
    terminal.keys("\x03\x1ax~.\r")?;
    let family = terminal.family()?;
    terminal.keys("~.")?;
    terminal.ends_with(129)?;
    all_gone(&family)
}

/// The keys are the host's then: Ctrl-C is a signal, which is passed on.
fn none_is_wanted(bed: &Bed) -> Result<()> {
    let script = "test -t 0 || test -t 1 || test -t 2 || echo none
                  trap 'echo interrupted; exit 6' INT; while :; do sleep 0.1; done";
    let mut terminal = Terminal::start(bed.sh(script)?.options(&["--no-tty"]))?;
    terminal.wait_for("none\n")?;
    terminal.keys("\x03")?;
    terminal.wait_for("interrupted\n")?;
    // The shell around chrootvm was interrupted too.
    Ok(())
}

fn restored_after_failure(bed: &Bed) -> Result<()> {
    let mut terminal = Terminal::start(bed.run(&["no-such-command"])?)?;
    terminal.wait_for("error: execute no-such-command: not found\n")?;
    terminal.ends_with(127)
}

fn restored_after_sigterm(bed: &Bed) -> Result<()> {
    let mut terminal = Terminal::start(bed.sh("echo is up; exec sleep 3600")?)?;
    terminal.wait_for("is up\n")?;
    terminal.signal(Signal::SIGTERM)?;
    terminal.ends_with(143)
}

fn restored_after_sigkill(bed: &Bed, victim: &str, status: i32) -> Result<()> {
    let mut terminal = Terminal::start(bed.sh("stty raw; echo is up; exec sleep 3600")?)?;
    terminal.wait_for("is up")?;
    let family = terminal.family()?;
    let victim = match victim {
        "chrootvm" => family.first().map(|(pid, _)| *pid),
        other => named(&family, other).next(),
    };
    kill(victim.context("nobody to kill")?, Signal::SIGKILL)?;
    terminal.ends_with(status)?;
    all_gone(&family)
}
