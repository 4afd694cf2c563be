//! Programs of the host that a test runs, and their output.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::Sender;

use anyhow::{Context, Result, ensure};

/// Runs a program that must succeed, and returns its standard output.
pub(crate) fn stdout_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    checked(command, output)
}

/// As [`stdout_of`], with `input` as the program's standard input.
pub(crate) fn filter(command: &mut Command, input: Vec<u8>) -> Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("run {command:?}"))?;
    let mut stdin = child.stdin.take().context("stdin")?;
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output()?;
    let _ = writer.join(); // the status shows whether the program wanted more input
    checked(command, output)
}

fn checked(command: &Command, output: Output) -> Result<String> {
    let messages = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {messages}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("read the output of {command:?}"))
}

/// The exit status as a shell sees it: 128 + N after signal N.
pub(crate) fn exit_status(status: ExitStatus) -> i32 {
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// Text of a console: a terminal ends each line with `\r\n`.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\r', "")
}

/// Output of seq(1): the numbers from 1 to `last`, one a line.
pub(crate) fn numbers(last: u32) -> String {
    let numbers: Vec<_> = (1..=last).map(|number| number.to_string()).collect();
    numbers.join("\n") + "\n"
}

/// Reads `from` to its end in a thread, and sends each chunk, wrapped by `wrap`.
pub(crate) fn send_chunks<T: Send + 'static>(
    mut from: impl Read + Send + 'static,
    sender: Sender<T>,
    wrap: impl Fn(Vec<u8>) -> T + Send + 'static,
) {
    std::thread::spawn(move || {
        let mut chunk = [0; 16 << 10];
        // A terminal that nobody has open any more reads as EIO.
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            if sender.send(wrap(chunk[..count].to_vec())).is_err() {
                break;
            }
        }
    });
}
