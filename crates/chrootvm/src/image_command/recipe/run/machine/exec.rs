//! Running one step in the machine of a build.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use files::tell::printable;
use machine::plan::exit_status::EXIT_TIMEOUT;
use step::report::Report;
use step::request::Request;

use super::{BuildMachine, collect};

/// Number of lines that are kept of what a step writes.
const LINES: usize = 20;

/// Most bytes that are kept of a line.
const LINE_MAX: usize = 400;

/// Bytes that are read at a time.
const BUFFER: usize = 8 << 10;

/// How a step ended.
#[derive(Debug)]
pub(in crate::image_command::recipe) enum Ran {
    /// The guest reports.
    Reported(Report),
    /// The time limit of the step has passed.
    TimedOut,
    /// The machine does not answer any more.
    Lost,
}

/// The last lines that a step has written.
#[derive(Debug, Default)]
pub(in crate::image_command::recipe) struct Tail {
    lines: VecDeque<Vec<u8>>,
    /// The line that has no end yet.
    open: Vec<u8>,
}

impl Tail {
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                _ if self.open.len() < LINE_MAX => self.open.push(byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self) {
        self.lines.push_back(std::mem::take(&mut self.open));
        if self.lines.len() > LINES {
            self.lines.pop_front();
        }
    }

    /// The lines as printable text.
    pub(in crate::image_command::recipe) fn text(&mut self) -> String {
        if !self.open.is_empty() {
            self.end_line();
        }
        let lines = self.lines.iter().map(|line| format!("  {}\n", printable(line)));
        lines.collect()
    }
}

impl BuildMachine {
    /// Runs a step. What it writes goes to `out`, and its end to `tail`.
    ///
    /// # Errors
    /// The session cannot be started.
    pub(in crate::image_command::recipe) fn run(
        &mut self,
        request: &Request,
        timeout: Duration,
        out: &mut dyn Write,
        tail: &mut Tail,
    ) -> Result<Ran> {
        let program = std::env::current_exe().context("find this program")?;
        let limit = timeout.as_millis();
        let mut child = Command::new(program)
            .args(["exec", "--no-tty", "--timeout", &format!("{limit}ms"), &self.name])
            .args(["--", "/step", "run"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start a session in the machine of the build")?;
        let bytes = request.to_bytes().map_err(|error| anyhow!("{error}"))?;
        let stdin = child.stdin.take().context("the session has no standard input")?;
        // The machine may end before it has read everything.
        let writer = std::thread::spawn(move || {
            let mut stdin = stdin;
            stdin.write_all(&bytes)
        });
        let report = child.stdout.take().map(collect);
        let mut stderr = child.stderr.take().context("the session has no standard error")?;
        let mut buffer = [0; BUFFER];
        loop {
            match stderr.read(&mut buffer).context("read what the step writes")? {
                0 => break,
                length => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    tail.add(bytes);
                    let _ = out.write_all(bytes); // nobody may read it any more
                }
            }
        }
        let status = child.wait().context("wait for the session")?;
        let _ = writer.join(); // the report tells whether the guest has read the request
        let report = report.and_then(|thread| thread.join().ok()).unwrap_or_default();
        Ok(ran(status, &report))
    }

    /// Runs a shell on the terminal, in the place of the last step.
    ///
    /// # Errors
    /// The session cannot be started.
    pub(in crate::image_command::recipe) fn shell(&mut self) -> Result<()> {
        let program = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(program);
        command.args(["exec", &self.name, "--", "/step", "shell"]);
        command.status().context("start a shell in the machine of the build").map(drop)
    }
}

/// What became of a step whose session ended with `status`.
fn ran(status: ExitStatus, report: &[u8]) -> Ran {
    match Report::parse(report) {
        Ok(report) => Ran::Reported(report),
        Err(_) if status.code() == Some(EXIT_TIMEOUT.into()) => Ran::TimedOut,
        Err(_) => Ran::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_has_the_last_lines() {
        let mut tail = Tail::default();
        for number in 0..50 {
            tail.add(format!("line {number}\n").as_bytes());
        }
        tail.add(b"\x1b[31mopen");
        let text = tail.text();
        assert_eq!(text.lines().count(), LINES);
        assert!(text.starts_with("  line 31\n") && text.ends_with("open\n"), "{text}");
        assert!(!text.contains('\x1b'));
        tail.add(&[b'x'; 10_000]);
        assert!(tail.text().len() < 20 * LINE_MAX);
    }
}
