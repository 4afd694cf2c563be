//! The output of a command in log files, and `chrootvm logs`, which prints them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::harness::command_run::CommandRun;
use crate::harness::processes::eventually;
use crate::harness::programs::numbers;
use crate::harness::terminal::Terminal;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("output_goes_to_files",            output_goes_to_files),
    ("files_are_rotated_and_followed",  files_are_rotated_and_followed),
    ("lines_have_their_times",          lines_have_their_times),
    ("a_terminal_is_left_alone",        a_terminal_is_left_alone),
    ("full_disk_is_an_error",           full_disk_is_an_error),
];

/// A name that no other test and no other run of this test uses.
fn name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test-logs-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A script that logs, and its directory, which does not exist yet.
fn logging(bed: &Bed, script: &str) -> Result<(CommandRun, PathBuf)> {
    let mut run = bed.sh(script)?;
    let dir = run.machine.path("logs");
    run.machine.option("--logs", &dir);
    Ok((run, dir))
}

/// Runs `chrootvm logs WORDS`.
fn logs(bed: &Bed, words: &[&str]) -> Result<Output> {
    Command::new(bed.chrootvm()).arg("logs").args(words).output().context("start chrootvm logs")
}

/// The status is 0, and the streams are these.
fn prints(output: &Output, stdout: &str, stderr: &str) -> Result<()> {
    let found = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let is_expected = output.status.success() && found[0] == stdout && found[1] == stderr;
    ensure!(is_expected, "expected {stdout:?} and {stderr:?}: {output:?}");
    Ok(())
}

fn read(dir: &Path, file: &str) -> Result<String> {
    fs::read_to_string(dir.join(file)).with_context(|| file.to_owned())
}

/// Input and status are those of the command; its output is in the files. A second machine may not
/// write to them, and `chrootvm exec` does not.
fn output_goes_to_files(bed: &Bed) -> Result<()> {
    let name = name();
    let script = "cat; echo err >&2; trap 'echo end; exit 7' TERM; echo up; sleep 600 & wait";
    let (run, dir) = logging(bed, script)?;
    let run = run.options(&["--name", &name, "-i"]).input(b"in\n");
    let live = run.start()?;
    eventually("the command is up", || {
        Ok(read(&dir, "stdout.log").ok().filter(|text| text == "in\nup\n"))
    })?;
    let mut second = bed.run(&["true"])?;
    second.machine.option("--logs", &dir);
    second.finish()?.says(125, "", &["another machine writes to it"])?;
    prints(&logs(bed, &[&name])?, "in\nup\n", "err\n")?;
    prints(&logs(bed, &["--stream", "stderr", &name])?, "", "err\n")?;
    let mut exec = Command::new(bed.chrootvm());
    let words = ["exec", "-n", &name, "sh", "-c", "echo exec"];
    prints(&exec.args(words).output()?, "exec\n", "")?;

    live.signal(Signal::SIGTERM)?;
    // The directory is removed with the machine.
    let _machine = live.finish()?.is(7, "", "")?;
    let dir = dir.to_str().context("a path is no text")?;
    prints(&logs(bed, &[dir])?, "in\nup\nend\n", "err\n")?;
    prints(&logs(bed, &["-f", "--tail", "1", dir])?, "end\n", "err\n")
}

/// A reader gets every byte of many files, and ends with the machine.
fn files_are_rotated_and_followed(bed: &Bed) -> Result<()> {
    let (name, last) = (name(), 200_000);
    let (run, dir) = logging(bed, &format!("seq {last}; echo err >&2"))?;
    let options = ["--name", &name, "--log-size", "20K", "--log-keep", "100"];
    let live = run.options(&options).start()?;
    eventually("the machine answers", || Ok(logs(bed, &[&name])?.status.success().then_some(())))?;
    let followed = logs(bed, &["--follow", &name])?;
    let _machine = live.finish()?.is(0, "", "")?;
    prints(&followed, &numbers(last), "err\n")?;
    let rotated = read(&dir, "stdout.log.60")?;
    ensure!(rotated.len() <= 20 << 10 && rotated.ends_with('\n'), "{} bytes", rotated.len());
    let dir = dir.to_str().context("a path is no text")?;
    prints(&logs(bed, &["--tail=3", dir])?, "199998\n199999\n200000\n", "err\n")
}

/// Lines of both streams have one order, even in files that were rotated.
fn lines_have_their_times(bed: &Bed) -> Result<()> {
    let script = "for i in 1 2 3; do echo out $i; sleep 0.3; echo err $i >&2; sleep 0.3; done";
    let (run, dir) = logging(bed, script)?;
    let _machine = run.options(&["--log-timestamps"]).finish()?.is(0, "", "")?;
    let mut both = Command::new("sh");
    both.args(["-c", "exec \"$0\" logs \"$1\" 2>&1"]).arg(bed.chrootvm()).arg(&dir);
    let text = String::from_utf8(both.output()?.stdout)?;
    let lines: Vec<_> = text.lines().filter_map(|line| line.split_once("Z ")).collect();
    let words: Vec<_> = lines.iter().map(|(_, words)| *words).collect();
    ensure!(words == ["out 1", "err 1", "out 2", "err 2", "out 3", "err 3"], "{text}");
    ensure!(lines.is_sorted(), "{text}");
    Ok(())
}

/// The command has neither the terminal nor its input.
fn a_terminal_is_left_alone(bed: &Bed) -> Result<()> {
    let script = "cat; test -t 0 || test -t 1 || test -t 2 || echo no terminal; exit 3";
    let (run, dir) = logging(bed, script)?;
    // The directory is removed with the machine.
    let directory = run.machine.directory("kept")?;
    let (mut terminal, log) = (Terminal::start(run)?, dir.join("stdout.log"));
    let text = eventually("the command ends", || {
        Ok(fs::read_to_string(&log).ok().filter(|text| text.ends_with('\n')))
    })?;
    ensure!(text == "no terminal\n" && directory.exists(), "{text:?}");
    terminal.keys("x")?;
    terminal.ends_with(3)
}

/// The command does not run on without its log, and the error names the directory.
fn full_disk_is_an_error(bed: &Bed) -> Result<()> {
    let (run, dir) = logging(bed, "yes | head -c 200000; sleep 3600")?;
    fs::create_dir(&dir)?;
    let mount = format!("mount -t tmpfs -o size=64k logs '{}' && exec \"$@\"", dir.display());
    let script = "exec unshare --mount sh -c \"$MOUNT\" sh \"$@\"";
    let run = run.variable("MOUNT", mount).through(script);
    let words =
        format!("write the command's output: No space left on device (--logs {}", dir.display());
    run.finish()?.says(125, "", &[&words]).map(drop)
}
