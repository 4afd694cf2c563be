//! The report: how a step ended, and what it left.
//!
//! Format: lines `KEY VALUE`. The host does not trust the guest, so it reads them strictly and
//! within bounds.
//!
//! | Line | Meaning |
//! |---|---|
//! | `exit STATUS` | the program ended with this status |
//! | `signal NUMBER` | a signal killed the program |
//! | `fault TEXT` | the program could not be started |
//! | `left COUNT` | number of processes that were still there, and were killed |
//! | `oom COUNT` | number of processes that the kernel killed for lack of memory |
//! | `free BYTES` | free bytes of the scratch disk |
//! | `free-inodes COUNT` | free inodes of the scratch disk |
//!
//! A report has one of the first three lines, and each of the others, once, in any order.

use proto::error::{Error, Result};
use proto::text::show;
use proto::words::{number, text};

/// Most bytes of a report.
pub const MAX: usize = 16 << 10;

/// Most bytes of the text of a fault. Longer texts are cut.
pub const FAULT_MAX: usize = 4 << 10;

/// Highest number of a signal (`_NSIG`).
const SIGNAL_MAX: u8 = 64;

/// How a step ended, and what it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How the step ended.
    pub outcome: Outcome,
    /// Processes that were still there after the end of the program, and were killed.
    pub left: u64,
    /// Processes that the kernel killed for lack of memory during the step.
    pub oom: u64,
    /// Free bytes of the scratch disk.
    pub free: u64,
    /// Free inodes of the scratch disk.
    pub free_inodes: u64,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The program ended with this status.
    Exit(u8),
    /// This signal killed the program.
    Signal(u8),
    /// The program could not be started. The text is one printable line.
    Fault(String),
}

impl Outcome {
    /// A fault with `text`, made printable and cut to [`FAULT_MAX`] bytes.
    #[must_use]
    pub fn fault(text: &str) -> Self {
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let mut line: String = text.trim().chars().map(printable).collect();
        let cut = (0..=FAULT_MAX.min(line.len()))
            .rev()
            .find(|&at| line.is_char_boundary(at))
            .unwrap_or_default();
        line.truncate(cut);
        match line.trim() {
            "" => Self::Fault("without a reason".to_owned()),
            line => Self::Fault(line.to_owned()),
        }
    }

    /// The line of the report, without its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        match self {
            Self::Exit(status) => format!("exit {status}"),
            Self::Signal(number) => format!("signal {number}"),
            Self::Fault(text) => format!("fault {text}"),
        }
    }

    /// Reads a line of the report; `None` if it is another line, or malformed.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let (key, value) = split(line)?;
        match key {
            "exit" => Some(Self::Exit(u8::try_from(number(value)?).ok()?)),
            "signal" => {
                let signal = u8::try_from(number(value)?).ok()?;
                (1..=SIGNAL_MAX).contains(&signal).then_some(Self::Signal(signal))
            }
            "fault" => {
                let line = std::str::from_utf8(value).ok()?;
                let fits =
                    (1..=FAULT_MAX).contains(&line.len()) && !line.contains(char::is_control);
                (fits && line.trim() == line).then(|| Self::Fault(line.to_owned()))
            }
            _ => None,
        }
    }
}

impl Report {
    /// The lines of the report.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { outcome, left, oom, free, free_inodes } = self;
        let outcome = outcome.to_line();
        format!("{outcome}\nleft {left}\noom {oom}\nfree {free}\nfree-inodes {free_inodes}\n")
    }

    /// Reads the lines of a report.
    ///
    /// # Errors
    /// A line is unknown, malformed, missing, or given twice, or the text is too long.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        const HINT: &str = "the program for steps in the machine is of another version, or broken";
        if bytes.len() > MAX {
            return Err(Error::new(
                format_args!("report of a step: it has {} bytes", bytes.len()),
                HINT,
            ));
        }
        let mut outcome = None;
        let mut counts = [("left", None), ("oom", None), ("free", None), ("free-inodes", None)];
        let mut take = |line: &[u8]| {
            let line = line.strip_suffix(b"\n")?;
            if let Some(found) = Outcome::parse(line) {
                return outcome.replace(found).is_none().then_some(());
            }
            let (key, value) = split(line)?;
            let (_, count) = counts.iter_mut().find(|(name, _)| *name == key)?;
            count.replace(number(value)?).is_none().then_some(())
        };
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            /// Most bytes of a line in a message.
            const SHOWN_MAX: usize = 100;
            let shown = line.get(..SHOWN_MAX).unwrap_or(line);
            let bad =
                || Error::new(format_args!("report of a step: bad line \"{}\"", show(shown)), HINT);
            take(line).ok_or_else(bad)?;
        }
        let missing = |name| Error::new(format_args!("report of a step: no line \"{name}\""), HINT);
        let outcome = outcome.ok_or_else(|| missing("exit, signal or fault"))?;
        let [left, oom, free, free_inodes] =
            counts.map(|(name, count)| count.ok_or_else(|| missing(name)));
        Ok(Self { outcome, left: left?, oom: oom?, free: free?, free_inodes: free_inodes? })
    }
}

fn split(line: &[u8]) -> Option<(&str, &[u8])> {
    let at = line.iter().position(|&byte| byte == b' ')?;
    Some((text(line.get(..at)?), line.get(at + 1..)?))
}

#[cfg(test)]
mod tests;
