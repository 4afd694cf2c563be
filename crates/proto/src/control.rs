//! Control messages of a session: lines of text, each a word and its numbers.
//!
//! The [crate's documentation](crate) lists them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::str::SplitAsciiWhitespace;
use core::time::Duration;

use crate::settings::Size;
use crate::words;
use crate::workload::WorkloadState;

/// Longest line in bytes; a longer line is dropped.
const LINE_MAX: usize = 4096;

/// A message of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToGuest {
    /// `request`: this many bytes of records follow ([`crate::settings`]): a command, or the orders
    /// of a machine.
    Command(usize),
    /// `resize`: the terminal has a new size.
    Resize(Size),
    /// `signal`: send the signal of this number to the command.
    Signal(u8),
    /// `close`: nobody reads this stream (1 or 2) any more.
    Close(u8),
    /// `session`: serve one more session, whose ports have this number.
    Session(u32),
    /// `restart`: end the workload, and start it again.
    Restart,
}

/// A message of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToHost {
    /// `ready`: the machine waits for its orders.
    Ready,
    /// `started`: the command runs.
    Started {
        /// Time since the kernel's start at which `/init` began.
        init: Duration,
        /// Time since the kernel's start at which the command started.
        now: Duration,
    },
    /// `workload`: the state of the workload has changed.
    Workload(WorkloadState),
    /// `killed`: the kernel has killed this many processes because memory ran out. It comes
    /// before `exited`, and so does `full`.
    Killed(u64),
    /// `full`: this file system has no room left.
    Full(FullFs),
    /// `exited`: the command has ended. All its output is on the way, and session 0 has
    /// written all files to disk.
    Exited {
        /// Exit status as a shell has it: 128 + N after signal N.
        status: u8,
        /// Bytes of standard output.
        output: u64,
        /// Bytes of standard error.
        error: u64,
    },
    /// `failed`: the command could not be started.
    Failed {
        /// 125, 126 or 127 ([`crate::status`]).
        status: u8,
        /// One line for a person.
        message: Vec<u8>,
    },
}

/// File system in the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullFs {
    /// The overlay of the root.
    Overlay,
    /// `/tmp`
    Tmp,
}

/// Names of file systems in `full`.
const FULL: [(&str, FullFs); 2] = [("overlay", FullFs::Overlay), ("tmp", FullFs::Tmp)];

impl fmt::Display for ToGuest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(length) => writeln!(f, "request {length}"),
            Self::Resize(Size { rows, columns }) => writeln!(f, "resize {rows} {columns}"),
            Self::Signal(number) => writeln!(f, "signal {number}"),
            Self::Close(stream) => writeln!(f, "close {stream}"),
            Self::Session(number) => writeln!(f, "session {number}"),
            Self::Restart => f.write_str("restart\n"),
        }
    }
}

impl ToGuest {
    /// Reads a line without its newline. `None`: the line is no message.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut words = words::text(line).split_ascii_whitespace();
        let message = match words.next()? {
            "request" => Self::Command(number(&mut words)?),
            "resize" => {
                Self::Resize(Size { rows: number(&mut words)?, columns: number(&mut words)? })
            }
            "signal" => Self::Signal(number(&mut words)?),
            "close" => Self::Close(number(&mut words)?),
            "session" => Self::Session(number(&mut words)?),
            "restart" => Self::Restart,
            _ => return None,
        };
        words.next().is_none().then_some(message)
    }
}

impl ToHost {
    /// The line with its newline.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = match self {
            Self::Ready => words_of("ready", &[]),
            Self::Started { init, now } => words_of("started", &[micros(*init), micros(*now)]),
            Self::Workload(state) => words_of("workload", &state.to_numbers()),
            Self::Killed(count) => words_of("killed", &[*count]),
            Self::Full(full) => {
                let name = FULL.iter().find(|(_, row)| row == full).map_or("", |(name, _)| name);
                [b"full ", name.as_bytes()].concat()
            }
            Self::Exited { status, output, error } => {
                words_of("exited", &[u64::from(*status), *output, *error])
            }
            Self::Failed { status, message } => {
                let mut line = words_of("failed", &[u64::from(*status)]);
                line.push(b' ');
                let room = LINE_MAX - line.len() - 1;
                // Control characters become blanks, newlines included.
                line.extend(message.iter().take(room).map(|&byte| byte.max(b' ')));
                line
            }
        };
        line.push(b'\n');
        line
    }

    /// Reads a line without its newline. `None`: the line is no message.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        if let Some(rest) = line.strip_prefix(b"failed ") {
            let at = rest.iter().position(|&byte| byte == b' ')?;
            let status = words::number(rest.get(..at)?)?.try_into().ok()?;
            return Some(Self::Failed { status, message: rest.get(at + 1..)?.to_vec() });
        }
        let mut words = words::text(line).split_ascii_whitespace();
        let message = match words.next()? {
            "ready" => Self::Ready,
            "started" => {
                let mut time = || Some(Duration::from_micros(number(&mut words)?));
                Self::Started { init: time()?, now: time()? }
            }
            "workload" => {
                let mut next = || number(&mut words);
                let numbers = [next()?, next()?, next()?, next()?, next()?];
                Self::Workload(WorkloadState::from_numbers(numbers)?)
            }
            "killed" => Self::Killed(number(&mut words)?),
            "full" => {
                let name = words.next()?;
                Self::Full(FULL.iter().find(|(row, _)| *row == name)?.1)
            }
            "exited" => Self::Exited {
                status: number(&mut words)?,
                output: number(&mut words)?,
                error: number(&mut words)?,
            },
            _ => return None,
        };
        words.next().is_none().then_some(message)
    }
}

/// A word and numbers, each after a blank.
fn words_of(word: &str, numbers: &[u64]) -> Vec<u8> {
    let mut line = String::from(word);
    for number in numbers {
        // Writing to a string does not fail.
        let _ = write!(line, " {number}");
    }
    line.into_bytes()
}

fn number<T: TryFrom<u64>>(words: &mut SplitAsciiWhitespace<'_>) -> Option<T> {
    words::number(words.next()?.as_bytes())?.try_into().ok()
}

/// Microseconds in 64 bits, enough for half a million years.
fn micros(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000).saturating_add(time.subsec_micros().into())
}

/// Buffer that cuts arriving bytes into lines. If all lines are taken after each push, it
/// needs little memory and time, whatever the other side sends.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// End of the lines that were taken.
    start: usize,
}

impl Lines {
    /// Adds bytes that have arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        // Discard here, not in `next_line`, which would move the rest for every short line.
        self.discard_taken();
        self.bytes.extend_from_slice(bytes);
        // The other side may never end its line.
        let ends = self.bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        if self.bytes.len() - ends > LINE_MAX {
            self.bytes.truncate(ends);
        }
    }

    /// The next whole line without its newline.
    pub fn next_line(&mut self) -> Option<Vec<u8>> {
        let rest = self.bytes.get(self.start..)?;
        let end = rest.iter().position(|&byte| byte == b'\n')?;
        let line = rest.get(..end)?.to_vec();
        self.start += end + 1;
        Some(line)
    }

    /// Takes all bytes after the last line that was taken.
    pub fn take_rest(&mut self) -> Vec<u8> {
        self.discard_taken();
        core::mem::take(&mut self.bytes)
    }

    fn discard_taken(&mut self) {
        self.bytes.drain(..core::mem::take(&mut self.start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Health, Phase};
    use proptest::prelude::*;
    use std::string::ToString;

    #[test]
    fn the_guest_reads_what_the_host_says() {
        for message in [
            ToGuest::Command(100_000),
            ToGuest::Resize(Size { rows: 24, columns: 80 }),
            ToGuest::Signal(15),
            ToGuest::Close(1),
            ToGuest::Session(7),
            ToGuest::Restart,
        ] {
            let line = message.to_string();
            assert_eq!(ToGuest::parse(line.trim_end().as_bytes()), Some(message), "{line}");
        }
        for bad in ["", "signal", "signal x", "signal 1 2", "signal 256", "restart 1", "other 1"] {
            assert_eq!(ToGuest::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn the_host_reads_what_the_guest_says() {
        let micros = Duration::from_micros;
        for message in [
            ToHost::Ready,
            ToHost::Started { init: micros(1_234_567), now: micros(2_000_001) },
            ToHost::Killed(u64::MAX),
            ToHost::Full(FullFs::Overlay),
            ToHost::Full(FullFs::Tmp),
            ToHost::Workload(WorkloadState::default()),
            ToHost::Workload(WorkloadState {
                phase: Phase::Pausing,
                health: Some(Health::Unhealthy),
                restarts: u32::MAX,
                status: 137,
                stop_timeout: Duration::from_millis(10_001),
            }),
            ToHost::Exited { status: 255, output: u64::MAX, error: 0 },
            ToHost::Failed { status: 127, message: b"execute \xff: ENOENT".to_vec() },
        ] {
            let line = message.to_line();
            assert_eq!(ToHost::parse(line.strip_suffix(b"\n").unwrap()), Some(message));
        }
        for bad in [
            "",
            "ready 1",
            "exited 1 2",
            "exited 256 0 0",
            "failed 1",
            "started 1",
            "exited 1 1 1 1",
            "killed",
            "killed -1",
            "killed 1 2",
            "full",
            "full x",
            "full tmp 1",
            "workload 0 0 0 0",
            "workload 4 0 0 0 0",
            "workload 0 4 0 0 0",
            "workload 0 0 0 256 0",
            "workload 0 0 0 0 0 0",
        ] {
            assert_eq!(ToHost::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_message_stays_one_short_line() {
        let message = [&b"a\nb"[..], &[b'x'; 9000]].concat();
        let line = ToHost::Failed { status: 125, message }.to_line();
        assert!(line.starts_with(b"failed 125 a b") && line.len() == LINE_MAX);
        assert_eq!(line.iter().position(|&byte| byte == b'\n'), Some(LINE_MAX - 1));
    }

    #[test]
    fn an_endless_line_is_not_kept() {
        let mut lines = Lines::default();
        for head in [&b""[..], b"\n", b"signal 1\nx"] {
            lines.push(head);
            for _ in 0..100 {
                lines.push(&[b'x'; 1000]);
                assert!(lines.bytes.len() <= head.len() + LINE_MAX, "{}", lines.bytes.len());
            }
            while lines.next_line().is_some() {}
        }
        lines.push(b"\nsignal 2\nrest");
        while let Some(line) = lines.next_line() {
            assert!(line.len() <= LINE_MAX);
        }
        assert_eq!(lines.take_rest(), b"rest");
    }

    #[test]
    fn many_lines_take_time_in_proportion() {
        let mut lines = Lines::default();
        // Moving the rest with each line would take minutes.
        lines.push(&b"\n".repeat(4 << 20));
        let mut count = 0;
        while let Some(line) = lines.next_line() {
            count += usize::from(line.is_empty());
        }
        assert_eq!(count, 4 << 20);
        lines.push(b"");
        assert!(lines.bytes.is_empty());
    }

    proptest! {
        #[test]
        fn lines_survive_any_cut(text in "[a-c\n]{0,60}", cut in 1_usize..9) {
            let mut lines = Lines::default();
            let mut read = Vec::new();
            for piece in text.as_bytes().chunks(cut) {
                lines.push(piece);
                while let Some(line) = lines.next_line() {
                    read.push(line);
                }
            }
            read.push(lines.take_rest());
            prop_assert_eq!(read.join(&b'\n'), text.as_bytes());
        }

        #[test]
        fn no_line_makes_it_panic(line in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (ToGuest::parse(&line), ToHost::parse(&line));
        }
    }
}
