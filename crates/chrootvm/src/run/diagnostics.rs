//! Options about the messages and files that a run leaves.

use std::io::IsTerminal;
use std::path::PathBuf;

use machine::session::console_relay::PageDisplay;

use crate::logger::Verbosity;

/// Which messages and files a run leaves
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Diagnostics")]
pub(super) struct Diagnostics {
    /// Keep the initrd, the commands and the console's text in a new directory; needs COMMAND
    #[arg(long)]
    pub(super) keep: bool,
    /// Write to FILE how the run ended, as one line of JSON, or as JUnit's XML if FILE ends in .xml
    ///
    /// The file is checked before the machine starts, and written at the end, whole or not at all.
    /// - is standard output; /dev/fd/N is appended to.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dry_run", "doctor"])]
    pub(super) report: Option<PathBuf>,
    /// Print errors only
    #[arg(short, long, conflicts_with_all = ["verbose", "timing"])]
    pub(super) quiet: bool,
    /// Show the guest's console on standard error while COMMAND runs, and why it boots
    #[arg(long)]
    pub(super) verbose: bool,
    #[command(flatten)]
    pub(super) details: Details,
}

/// Messages in addition to warnings and errors
#[derive(Debug, clap::Args)]
pub(super) struct Details {
    /// Show what /init does before COMMAND or INIT runs
    #[arg(long)]
    pub(super) debug: bool,
    /// Print how long each part of the run took; needs COMMAND
    #[arg(long)]
    pub(super) timing: bool,
}

impl Diagnostics {
    /// Fate of the page of a panic that follows the end of INIT. A file or a pipe gets the text
    /// of the console unchanged.
    pub(super) fn page(&self) -> PageDisplay {
        match self.details.debug || !std::io::stdout().is_terminal() {
            true => PageDisplay::Shown,
            false => PageDisplay::Hidden,
        }
    }

    /// Whether a line may say that the machine boots. The text of the console would interrupt
    /// it.
    pub(super) fn boot_line(&self) -> bool {
        !(self.quiet || self.verbose || self.details.debug)
    }

    /// Selection of the log messages that are printed.
    pub(super) fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose || self.details.debug) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Details,
            (false, false) => Verbosity::Usual,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        diagnostics: Diagnostics,
        /// As in `RunArguments`.
        #[arg(long)]
        dry_run: bool,
        /// As in `RunArguments`.
        #[arg(long)]
        doctor: bool,
    }

    #[test]
    fn quiet_and_debug_choose_the_messages() {
        for (words, expected) in [
            (&[][..], Verbosity::Usual),
            (&["-q"], Verbosity::Quiet),
            (&["--debug"], Verbosity::Details),
            (&["--verbose"], Verbosity::Details),
            (&["-q", "--debug"], Verbosity::Quiet),
        ] {
            let line = Line::parse_from([&["x"], words].concat());
            assert_eq!(line.diagnostics.verbosity(), expected, "{words:?}");
            let is_usual = expected == Verbosity::Usual;
            assert_eq!(line.diagnostics.boot_line(), is_usual, "{words:?}");
        }
    }
}
