//! Options of a run that sends the output of COMMAND to log files.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::Result;
use clap::builder::RangedU64ValueParser;
use machine::session::log_files::{KEEP_MAX, LogFiles, LogSettings, SIZE_MIN, Timestamps};

use crate::command;
use crate::line::sizes::parse_size;

/// Log files for the output of COMMAND
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Command")]
pub(super) struct LogOptions {
    /// Write the output of COMMAND to DIR/stdout.log and DIR/stderr.log instead; `chrootvm logs`
    /// prints them
    ///
    /// DIR is made if it is missing. A standard input that is a terminal is not read.
    #[arg(long, value_name = "DIR", conflicts_with = "tty")]
    logs: Option<PathBuf>,
    /// Size at which a log file becomes NAME.1, and a new one begins [default: 10M]
    #[arg(long, value_name = "SIZE", value_parser = parse_log_size, requires = "logs")]
    log_size: Option<u64>,
    /// Number of old log files of each stream that are kept [default: 3]
    #[arg(long, value_name = "N", value_parser = keep_range(), requires = "logs")]
    log_keep: Option<u32>,
    /// Begin each line of a log file with the time, in UTC
    #[arg(long, requires = "logs")]
    log_timestamps: bool,
}

impl LogOptions {
    /// Whether the output goes to log files.
    pub(super) fn is_given(&self) -> bool {
        self.logs.is_some()
    }

    /// The settings; `None` without log files.
    fn settings(&self) -> Option<LogSettings> {
        let defaults = LogSettings::new(self.logs.clone()?);
        Some(LogSettings {
            size: self.log_size.unwrap_or(defaults.size),
            keep: self.log_keep.unwrap_or(defaults.keep),
            timestamps: match self.log_timestamps {
                true => Timestamps::Written,
                false => Timestamps::Omitted,
            },
            ..defaults
        })
    }

    /// Opens the log files; `None` if there are none.
    ///
    /// # Errors
    /// As [`LogSettings::open`].
    pub(super) fn open(&self) -> Result<Option<LogFiles>> {
        self.settings().map(|settings| settings.open()).transpose()
    }

    /// Replaces a standard input that is a terminal by /dev/null if the output goes to log files:
    /// nobody could see what to type.
    pub(super) fn prepare_stdin(&self) -> Result<()> {
        match self.is_given() && std::io::stdin().is_terminal() {
            true => command::empty_stdin(),
            false => Ok(()),
        }
    }
}

/// Parses the size of a log file.
fn parse_log_size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        size if size < SIZE_MIN => Err(format!("at least {}K", SIZE_MIN >> 10)),
        size => Ok(size),
    }
}

/// Parser of the number of old log files.
fn keep_range() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(0..=u64::from(KEEP_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use clap::error::ErrorKind;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        logs: LogOptions,
        /// As in `CommandOptions`.
        #[arg(short, long)]
        tty: bool,
    }

    #[test]
    fn options_become_settings() {
        let with = |size, keep, timestamps| LogSettings { dir: "d".into(), size, keep, timestamps };
        for (words, expected) in [
            (&[][..], None),
            (&["--logs", "d"], Some(with(10 << 20, 3, Timestamps::Omitted))),
            (&["--logs=d", "--log-size=4k"], Some(with(4 << 10, 3, Timestamps::Omitted))),
            (&["--logs=d", "--log-keep=0"], Some(with(10 << 20, 0, Timestamps::Omitted))),
            (&["--logs=d", "--log-timestamps"], Some(with(10 << 20, 3, Timestamps::Written))),
        ] {
            let line = Line::parse_from([&["x"], words].concat());
            assert_eq!(line.logs.settings(), expected, "{words:?}");
            assert_eq!(line.logs.is_given(), expected.is_some(), "{words:?}");
        }
    }

    #[test]
    fn bad_options_are_refused() {
        for (words, kind) in [
            (&["--logs=d", "--log-size=4095"][..], ErrorKind::ValueValidation),
            (&["--logs=d", "--log-size=much"], ErrorKind::ValueValidation),
            (&["--logs=d", "--log-keep=101"], ErrorKind::ValueValidation),
            (&["--logs=d", "-t"], ErrorKind::ArgumentConflict),
            (&["--log-size=1M"], ErrorKind::MissingRequiredArgument),
            (&["--log-keep=1"], ErrorKind::MissingRequiredArgument),
            (&["--log-timestamps"], ErrorKind::MissingRequiredArgument),
        ] {
            let error = Line::try_parse_from([&["x"], words].concat()).map(drop).unwrap_err();
            assert_eq!(error.kind(), kind, "{words:?}: {error}");
        }
    }
}
