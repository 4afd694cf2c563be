//! Start and end of a program: signals, parsing of arguments, reporting an error.
//!
//! Interface: sigaction(2), through `machine::process::signals`.

use std::ffi::OsString;
use std::io::Write;
use std::process::{ExitCode, exit};

use anyhow::{Context, Result};
use clap::Parser;
use files::tell;
use machine::process::signals;
use machine::running::time_limit;
use nix::sys::signal::Signal;

use crate::line::foreign::{self, Hint};
use crate::line::help;
use crate::logger;

/// Exit status of a program that failed. chrootvm has its own status for that.
pub const EXIT_FAILURE: u8 = 1;

/// Exit status for bad arguments, the one that clap uses.
pub const EXIT_USAGE: u8 = 2;

/// Runs a program: calls `body` with the program's arguments. If `body` fails, reports the
/// error and returns the status `failure`.
pub fn main(failure: u8, body: impl FnOnce(Vec<OsString>) -> Result<ExitCode>) -> ExitCode {
    logger::install();
    // If the caller ignores SIGCHLD, this program would too, and could not wait for its
    // children.
    let prepared = signals::pass_on_defaults([Signal::SIGCHLD]);
    let result = prepared.and_then(|()| body(std::env::args_os().collect()));
    time_limit::hold_if_passed();
    result.unwrap_or_else(|error| {
        // The message may block. Signals must still end this program.
        signals::let_through();
        log::error!("{error:#}");
        ExitCode::from(failure)
    })
}

/// Parses the arguments. Exits with `status` if they are bad: chrootvm cannot use 2,
/// which may be the status of a command in the guest.
#[must_use]
pub fn parse<T: Parser>(arguments: Vec<OsString>, status: u8) -> T {
    parse_with_hints(arguments, status, &[])
}

/// Parses the arguments as [`parse`] does. An error about a word of another program says what
/// `hints` says about it.
#[must_use]
pub fn parse_with_hints<T: Parser>(arguments: Vec<OsString>, status: u8, hints: &[Hint]) -> T {
    let matches = help::shaped(T::command()).try_get_matches_from(arguments);
    let parsed = matches.and_then(|matches| T::from_arg_matches(&matches));
    parsed.unwrap_or_else(|error| {
        let error = foreign::explain(error, hints);
        if error.use_stderr() {
            tell::lines(error.render());
            exit(status.into());
        }
        let written = error.print().and_then(|()| std::io::stdout().flush());
        match tell::while_read(written.context("write to standard output")) {
            Ok(()) => exit(0),
            Err(error) => {
                log::error!("{error:#}");
                exit(status.into())
            }
        }
    })
}
