//! A command on a terminal: its size, keys and escape. `chrootvm` restores the settings of
//! the terminal at every kind of end.

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};

use crate::harness::processes::{Victim, all_gone};
use crate::harness::terminal::Terminal;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("command_has_a_terminal",     command_has_a_terminal),
    ("keys_control_jobs",          keys_control_jobs),
    ("escape_ends_the_command",    escape_ends_the_command),
    ("no_tty_leaves_signals_to_the_host", no_tty_leaves_signals_to_the_host),
    ("restored_after_failure",     restored_after_failure),
    ("restored_after_sigterm",     restored_after_sigterm),
    ("restored_after_sigkill",     |bed| restored_after_sigkill(bed, Victim::Chrootvm, 137)),
    ("restored_after_qemus_death", |bed| restored_after_sigkill(bed, Victim::Qemu, 125)),
];

/// The terminal of the command has the size of the host's terminal, and follows its changes.
fn command_has_a_terminal(bed: &Bed) -> Result<()> {
    // `read` must not wait for the signal: the shell notices a signal that comes just before
    // `read` blocks only when `read` returns.
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

/// The shell is interactive without an option, for its input is a terminal.
fn keys_control_jobs(bed: &Bed) -> Result<()> {
    let mut terminal = Terminal::start(bed.run(&["sh"])?)?;
    // Type only behind a prompt: before it, the shell's line editor does not get the keys.
    let shell = |terminal: &mut Terminal, line, answer| {
        terminal.wait_for("/ # ")?;
        terminal.line(line, answer)
    };
    // Each job says that it runs, for before that the shell gets the keys.
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
    // End the job by end of file, not by a signal: if a child ends while busybox reads a line,
    // busybox may never print the prompt.
    terminal.keys("\x04")?;
    terminal.wait_for("/ # ")?;
    terminal.keys("exit 9\r")?;
    terminal.ends_with(9)
}

/// The escape `~.` ends even a command that ignores all keys and signals.
fn escape_ends_the_command(bed: &Bed) -> Result<()> {
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

/// With `--no-tty` the terminal of the host interprets keys: Ctrl-C becomes a signal, which
/// `chrootvm` passes on.
fn no_tty_leaves_signals_to_the_host(bed: &Bed) -> Result<()> {
    // Ctrl-C follows as soon as the first line is out, so set the trap before.
    let script = "trap 'echo interrupted; exit 6' INT
                  test -t 0 || test -t 1 || test -t 2 || echo none; while :; do sleep 0.1; done";
    let mut terminal = Terminal::start(bed.sh(script)?.options(&["--no-tty"]))?;
    terminal.wait_for("none\n")?;
    terminal.keys("\x03")?;
    terminal.wait_for("interrupted\n")?;
    // Ctrl-C has also interrupted the shell that starts chrootvm, so there is no status.
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

fn restored_after_sigkill(bed: &Bed, victim: Victim, status: i32) -> Result<()> {
    let mut terminal = Terminal::start(bed.sh("stty raw; echo is up; exec sleep 3600")?)?;
    terminal.wait_for("is up")?;
    let family = terminal.family()?;
    kill(victim.find(&family).context("no process to kill")?, Signal::SIGKILL)?;
    terminal.ends_with(status)?;
    all_gone(&family)
}
