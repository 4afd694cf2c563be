//! The console of a machine with INIT: its end, its keys and its input; and signals that end
//! such a machine.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};

use crate::harness::processes::{Victim, all_gone, eventually};
use crate::harness::programs::text;
use crate::harness::terminal::Terminal;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("words_of_a_panic_are_no_panic",  words_of_a_panic_are_no_panic),
    ("monitor_answers",                monitor_answers),
    ("terminal_is_restored_after_sigkill", terminal_is_restored_after_sigkill),
    ("end_of_input_reaches_each_program", end_of_input_reaches_each_program),
    ("unended_line_of_input_is_ended", unended_line_of_input_is_ended),
    ("empty_input_has_no_end",         empty_input_has_no_end),
    ("full_disk_is_an_error",          full_disk_is_an_error),
    ("sigterm_presses_the_power_button", sigterm_presses_the_power_button),
    ("second_signal_ends_a_deaf_guest", second_signal_ends_a_deaf_guest),
    ("shell_controls_jobs",            shell_controls_jobs),
    ("keys_do_not_reboot_an_init",     keys_do_not_reboot_an_init),
];

/// End of INIT on a terminal.
#[derive(Debug)]
pub(crate) struct InitEnd {
    pub(crate) name: &'static str,
    /// Exit status of PID 1.
    status: u8,
    options: &'static [&'static str],
    message: &'static str,
    shows_panic: bool,
}

#[rustfmt::skip]
pub(crate) const ENDS: &[InitEnd] = &[
    InitEnd { name: "init_succeeds",         status: 0,   options: &[],          message: "chrootvm: test-init (PID 1) has ended with status 0, and with it the machine; to run a command: chrootvm ", shows_panic: false },
    InitEnd { name: "init_fails",            status: 3,   options: &[],          message: "error: test-init (PID 1) has ended with status 3, and with it the machine; to run a command: chrootvm ",    shows_panic: false },
    InitEnd { name: "init_fails_with_debug", status: 255, options: &["--debug"], message: "error: test-init (PID 1) has ended with status 255, and with it the machine; to run a command: chrootvm ",  shows_panic: true },
];

impl InitEnd {
    /// Boots the machine on a terminal, and checks its last message and its status. PID 1 ends
    /// only after its prompt was seen: a panic loses what waits for the serial line.
    pub(crate) fn check(&self, bed: &Bed) -> Result<()> {
        let mut machine =
            bed.machine(&format!("printf 'key: '; read line; exit {}", self.status))?;
        machine.options(self.options);
        let mut terminal = Terminal::boot(machine)?;
        terminal.wait_for("key: ")?;
        terminal.keys("\r")?;
        terminal.wait_for(&format!("\n{}", self.message))?;
        let shown = terminal.ends(if self.status == 0 { 0 } else { 125 })?;
        for text in ["Kernel panic", "Call Trace"] {
            ensure!(shown.contains(text) == self.shows_panic, "{text}: {shown}");
        }
        Ok(())
    }
}

/// A guest may print the words by which `chrootvm` recognizes the end of PID 1. Nothing of its
/// text gets lost: neither while the machine runs on, nor at its end.
fn words_of_a_panic_are_no_panic(bed: &Bed) -> Result<()> {
    let words = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000000";
    let script = format!("echo '{words}'; echo first; read line; echo '{words}'; echo last");
    let mut terminal = Terminal::boot(bed.machine(&script)?)?;
    terminal.wait_for(&format!("{words}\nfirst\n"))?;
    terminal.keys("\r")?;
    terminal.wait_for(&format!("{words}\nlast\n"))?;
    terminal.ends_with(0)
}

/// Ctrl-A C opens QEMU's monitor, and leaves it.
fn monitor_answers(bed: &Bed) -> Result<()> {
    let mut terminal = Terminal::boot(bed.machine("echo is up; read line; echo read $line")?)?;
    terminal.wait_for("is up\n")?;
    terminal.keys("\x01c")?;
    terminal.wait_for("(qemu) ")?;
    terminal.line("info status", "VM status: running")?;
    terminal.wait_for("(qemu) ")?;
    terminal.keys("\x01c")?;
    terminal.line("words", "read words\n")?;
    terminal.ends_with(0)
}

fn terminal_is_restored_after_sigkill(bed: &Bed) -> Result<()> {
    let mut terminal = Terminal::boot(bed.machine("echo is up; exec sleep 3600")?)?;
    terminal.wait_for("is up\n")?;
    let family = terminal.family()?;
    let chrootvm = Victim::Chrootvm.find(&family).context("no process to kill")?;
    kill(chrootvm, Signal::SIGKILL)?;
    terminal.ends_with(137)?;
    all_gone(&family)
}

/// At the end of the input, each program that reads the console gets an end of file. A program
/// that starts later gets one, too.
fn end_of_input_reaches_each_program(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine("cat; sleep 2; echo then; cat; echo ended")?;
    machine.input("first\n");
    machine.boot()?.shows(&["first", "then", "ended"])
}

/// Within a line, Ctrl-D does not end the input of a terminal, so the line is ended first.
fn unended_line_of_input_is_ended(bed: &Bed) -> Result<()> {
    let mut machine = bed.busybox_machine()?;
    machine.input("echo sum $((40 + 2)); sleep 1; poweroff -f");
    machine.boot()?.shows(&["sum 42"])
}

/// Input without any bytes, as of /dev/null, does not end the input of the console: a machine
/// that nobody types to runs on.
fn empty_input_has_no_end(bed: &Bed) -> Result<()> {
    let script = "(sleep 4; echo runs on; poweroff -f) & cat; echo ended";
    bed.machine(script)?.boot()?.ends_with(0, &["runs on"])?.lacks("ended")
}

fn full_disk_is_an_error(bed: &Bed) -> Result<()> {
    let machine = bed.machine("echo text; exec sleep 3600")?;
    let full = File::options().write(true).open("/dev/full")?;
    let output = machine.command().stdin(Stdio::null()).stdout(full).output()?;
    let stderr = text(&output.stderr);
    let expected = "error: write the console's text: No space left on device\n";
    ensure!(output.status.code() == Some(125) && stderr.ends_with(expected), "{stderr}");
    Ok(())
}

/// Modules of a guest that listens to its power button: without `evdev`, no program hears of it.
const BUTTON: &[&str] = &["--module", "button", "--module", "evdev"];

/// A program in the guest waits for the power button, and powers off.
fn sigterm_presses_the_power_button(bed: &Bed) -> Result<()> {
    // A device gives each reader the events since it was opened.
    let script = "for device in /dev/input/event*; do
            exec 3< $device
            (head -c 1 <&3 > /dev/null; echo pressed; poweroff -f) &
        done
        echo is up; wait; sleep 60";
    let mut machine = bed.machine(script)?;
    machine.options(BUTTON);
    let mut running = machine.start()?;
    running.wait_for("is up")?;
    kill(running.pid(), Signal::SIGTERM)?;
    running.ends_with(0)?;
    running.shows(&[
        "pressed",
        "chrootvm: SIGTERM: asked the guest to power off; another signal ends the machine at once\n",
    ])
}

/// The driver of the button runs, but no program reacts.
fn second_signal_ends_a_deaf_guest(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine("echo is up; sleep 3600")?;
    machine.options(BUTTON);
    let mut running = machine.start()?;
    running.wait_for("is up")?;
    kill(running.pid(), Signal::SIGHUP)?;
    eventually("chrootvm has pressed the power button", || {
        Ok(running.messages().contains("chrootvm: SIGHUP: asked the guest").then_some(()))
    })?;
    kill(running.pid(), Signal::SIGTERM)?;
    running.ends_with(143)
}

/// A shell as PID 1 has the size of the terminal, and Ctrl-C ends its job.
fn shell_controls_jobs(bed: &Bed) -> Result<()> {
    let mut terminal = Terminal::boot(bed.busybox_machine()?)?;
    terminal.wait_for("# ")?;
    terminal.line("stty size", "\n30 100\n")?;
    terminal.wait_for("# ")?;
    terminal.line("sh -c 'echo run''ning; exec sleep 3600'", "\nrunning\n")?;
    terminal.keys("\x03")?;
    terminal.wait_for("# ")?;
    terminal.line("echo status $?", "\nstatus 130\n")?;
    terminal.wait_for("# ")?;
    terminal.keys("exit 4\r")?;
    let shown = terminal.ends(125)?;
    ensure!(!shown.contains("job control"), "{shown}");
    Ok(())
}

/// busybox init takes SIGINT for Ctrl-Alt-Del, and reboots. Ctrl-C does not send it SIGINT.
fn keys_do_not_reboot_an_init(bed: &Bed) -> Result<()> {
    let mut machine = bed.busybox_machine()?;
    let sbin = machine.root().join("sbin");
    fs::create_dir_all(&sbin)?;
    symlink("/bin/busybox", sbin.join("init"))?;
    machine.payload("/sbin/init");
    let mut terminal = Terminal::boot(machine)?;
    terminal.wait_for("Please press Enter to activate this console.")?;
    terminal.keys("\x03\r")?;
    terminal.wait_for("# ")?;
    terminal.line("stty size", "\n30 100\n")?;
    terminal.keys("poweroff -f\r")?;
    terminal.ends_with(0)
}
