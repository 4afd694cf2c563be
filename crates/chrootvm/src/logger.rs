//! Logger of the programs: prints the messages of all host crates on standard error.
//!
//! Interface: the `log` crate. Libraries log; only this file decides which messages a
//! user sees. Printing follows the rules of [`files::tell`]: the text is printable, and
//! a reader that does not read delays the program for a bounded time only.

use files::tell;
use log::{Level, LevelFilter, Log, Metadata, Record};

/// Libraries and programs of this project whose messages are for the user. Messages of
/// other crates are dropped, as are those of the guest's parsers, which tests and
/// fuzzers run on the host.
const OUR_CRATES: &[&str] = &[
    "chrootvm",
    "mkvirtinitrd",
    "virtinitrd_archive",
    "virtinitrd_files",
    "virtinitrd_image",
    "virtinitrd_machine",
    "virtinitrd_oci",
    "xtask",
];

/// Amount of messages that a user wants to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// Only errors (`--quiet`).
    Quiet,
    /// Errors, warnings, and notes about progress.
    Usual,
    /// Also details, such as why a run does not start from a saved machine (`--verbose`,
    /// `--debug`).
    Details,
}

/// Makes this the logger of the program, with [`Verbosity::Usual`]. Further calls
/// change nothing.
pub fn install() {
    // It fails only if a logger is installed already.
    if log::set_logger(&Logger).is_ok() {
        set_verbosity(Verbosity::Usual);
    }
}

/// Sets which messages are printed from now on.
pub fn set_verbosity(verbosity: Verbosity) {
    log::set_max_level(match verbosity {
        Verbosity::Quiet => LevelFilter::Error,
        Verbosity::Usual => LevelFilter::Info,
        Verbosity::Details => LevelFilter::Debug,
    });
}

/// Logs each of `warnings`.
pub fn warn_all(warnings: impl IntoIterator<Item = impl std::fmt::Display>) {
    for warning in warnings {
        log::warn!("{warning}");
    }
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level() && is_ours(metadata.target())
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            tell::labelled(label(record.level()), record.args());
        }
    }

    fn flush(&self) {}
}

/// Whether a message with this target, the path of a module, comes from one of
/// [`OUR_CRATES`].
fn is_ours(target: &str) -> bool {
    let name = target.split("::").next().unwrap_or_default();
    OUR_CRATES.contains(&name)
}

/// Start of a message with this level.
fn label(level: Level) -> &'static str {
    match level {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Info => "",
        Level::Debug | Level::Trace => "debug: ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_other_crates_are_dropped() {
        for (target, expected) in [
            ("virtinitrd_machine::running::watch", true),
            ("chrootvm", true),
            ("virtinitrd_init::root", false),
            ("chrootvm_x", false),
            ("ureq::pool", false),
            ("", false),
        ] {
            assert_eq!(is_ours(target), expected, "{target}");
        }
    }

    /// One test, because the level belongs to the whole process.
    #[test]
    fn quiet_leaves_errors_alone() {
        for (verbosity, expected) in [
            (Verbosity::Quiet, [true, false, false, false]),
            (Verbosity::Usual, [true, true, true, false]),
            (Verbosity::Details, [true, true, true, true]),
        ] {
            set_verbosity(verbosity);
            let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug];
            let shown = levels.map(|level| {
                Logger.enabled(&Metadata::builder().level(level).target("chrootvm::run").build())
            });
            assert_eq!(shown, expected, "{verbosity:?}");
        }
    }
}
