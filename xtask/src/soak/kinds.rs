//! Kinds of runs: their options, their scripts, and their answers. Pure.

use std::process::Output;

use anyhow::{Result, ensure};

/// Standard output of a machine that other commands enter, before it waits for its input to end.
pub(super) const UP: &str = "up\n";

/// Line that is typed on a terminal.
pub(super) const TYPED: &str = "word\n";

/// Bytes that pass through a command without a terminal.
const INPUT: usize = 100_000;

/// Number of exit statuses that runs have.
const STATUSES: usize = 100;

/// A kind of run. `@` in an option stands for the directory of the soak.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) streams: Streams,
    pub(super) options: &'static [&'static str],
    script: &'static str,
    /// Standard output in front of the input, which comes back.
    pub(super) says: &'static str,
}

/// Streams of the command that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Streams {
    Pipes,
    Terminal,
    /// Pipes of `chrootvm exec`, which enters the machine.
    Exec,
}

use Streams::{Exec, Pipes, Terminal};

#[rustfmt::skip]
pub(super) const KINDS: &[Kind] = &[
    Kind { name: "plain",    streams: Pipes,    options: &[],                     script: "echo out",              says: "out\n" },
    Kind { name: "volume",   streams: Pipes,    options: &["-v", "@/share:/mnt"], script: "cat /mnt/word",         says: "shared\n" },
    Kind { name: "overlay",  streams: Pipes,    options: &["--overlay"],          script: "echo new > /new; cat /new", says: "new\n" },
    Kind { name: "network",  streams: Pipes,    options: &["--net", "user"],      script: "cat /etc/resolv.conf",  says: "nameserver 10.0.2.3\n" },
    Kind { name: "terminal", streams: Terminal, options: &[],                     script: "test -t 0 && test -t 1 && echo three", says: "three\n" },
    Kind { name: "exec",     streams: Exec,     options: &[],                     script: "echo in",               says: "in\n" },
];

impl Kind {
    /// Kind and number of the root of run `number`, if there are `roots` roots. Successive runs
    /// have all combinations.
    pub(super) fn of_run(number: usize, roots: usize) -> (&'static Self, usize) {
        (&KINDS[number % KINDS.len()], number / KINDS.len() % roots)
    }

    /// Script of the command that is checked.
    pub(super) fn script(&self, status: usize) -> String {
        let echo = match self.streams {
            Pipes | Exec => "cat",
            Terminal => "read word; echo $word",
        };
        format!("{}; {echo}; echo err >&2; exit {status}", self.script)
    }

    /// Script of the machine's first command.
    pub(super) fn first_script(&self, status: usize) -> String {
        match self.streams {
            Pipes | Terminal => self.script(status),
            Exec => format!("echo up; cat; exit {status}"),
        }
    }

    /// Answer of the command that is checked.
    pub(super) fn answer(&self, status: usize) -> Answer {
        let (echoed, stderr) = match self.streams {
            Pipes | Exec => (input(), "err"),
            // The terminal shows what is typed, and is standard error as well.
            Terminal => (format!("{TYPED}{TYPED}err\n").into(), ""),
        };
        Answer { status, stdout: [self.says.as_bytes(), &echoed].concat(), stderr }
    }
}

/// Exit status of run `number`.
pub(super) fn status(number: usize) -> usize {
    number % STATUSES
}

/// Input of a command without a terminal.
pub(super) fn input() -> Vec<u8> {
    vec![b'x'; INPUT]
}

/// Expected answer of a command.
#[derive(Debug)]
pub(super) struct Answer {
    status: usize,
    stdout: Vec<u8>,
    /// Lines of standard error, without that of `--timing`.
    stderr: &'static str,
}

impl Answer {
    /// Answer of the first command of a machine that another command has entered.
    pub(super) fn of_first(status: usize) -> Self {
        Self { status, stdout: UP.into(), stderr: "" }
    }

    /// Compares the answer with what a command has given.
    ///
    /// # Errors
    /// They differ.
    pub(super) fn check(&self, given: &Output) -> Result<()> {
        let stderr = String::from_utf8_lossy(&given.stderr);
        let messages: Vec<_> = stderr.lines().filter(|line| !is_timing(line)).collect();
        let is_right = given.status.code() == i32::try_from(self.status).ok()
            && given.stdout == self.stdout
            && messages.join("\n") == self.stderr;
        ensure!(
            is_right,
            "expected status {} and {} bytes; {}, {} bytes that begin with {:?}; {stderr}",
            self.status,
            self.stdout.len(),
            given.status,
            given.stdout.len(),
            String::from_utf8_lossy(&given.stdout[..given.stdout.len().min(80)])
        );
        Ok(())
    }
}

/// Whether the machine came from a template, by the line of `--timing`.
pub(super) fn is_warm(output: &Output) -> bool {
    let stderr = String::from_utf8_lossy(&output.stderr);
    stderr.lines().any(|line| is_timing(line) && line.ends_with("(warm)"))
}

fn is_timing(line: &str) -> bool {
    line.starts_with("timing: ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    #[test]
    fn successive_runs_have_all_combinations() {
        let numbers = 0..KINDS.len() * 3;
        let found: BTreeSet<_> = numbers.clone().map(|number| of(number, 3)).collect();
        assert_eq!(found.len(), numbers.len());
        assert!(numbers.clone().all(|number| of(number, 3) == of(number + numbers.len(), 3)));
    }

    fn of(number: usize, roots: usize) -> (&'static str, usize) {
        let (kind, root) = Kind::of_run(number, roots);
        (kind.name, root)
    }

    #[test]
    fn a_wrong_answer_is_an_error() {
        let answer = Answer { status: 7, stdout: b"out\n".into(), stderr: "err" };
        let check = |status, stdout: &str, stderr: &str| {
            let status = ExitStatus::from_raw(status);
            answer.check(&Output { status, stdout: stdout.into(), stderr: stderr.into() }).is_ok()
        };
        assert!(check(7 << 8, "out\n", "err\ntiming: all (warm)\n"));
        for (name, is_right) in [
            ("status", check(6 << 8, "out\n", "err\n")),
            ("signal", check(7, "out\n", "err\n")),
            ("stdout", check(7 << 8, "out\nx", "err\n")),
            ("no message", check(7 << 8, "out\n", "")),
            ("a second message", check(7 << 8, "out\n", "err\nwarning: x\n")),
        ] {
            assert!(!is_right, "{name}");
        }
    }
}
