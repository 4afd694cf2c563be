//! What the programs have in common: signals, bad arguments, the end.

use std::ffi::OsString;
use std::io::Write;
use std::process::{ExitCode, exit};

use anyhow::{Context, Result};
use clap::Parser;
use files::tell;
use machine::process::signals;
use machine::running::time_limit;
use nix::sys::signal::Signal;

use crate::logger;

/// Exit status of a program, other than chrootvm, that failed.
pub const EXIT_FAILURE: u8 = 1;

/// Exit status for a command line that cannot be read, as clap has it.
pub const EXIT_USAGE: u8 = 2;

/// Body of a program: runs `body` with the program's arguments and reports its error, with
/// which the program exits with `failure`.
pub fn main(failure: u8, body: impl FnOnce(Vec<OsString>) -> Result<ExitCode>) -> ExitCode {
    logger::install();
    // A program that ignores SIGCHLD, as its caller did, cannot wait for children.
    let prepared = signals::pass_on_defaults([Signal::SIGCHLD]);
    let result = prepared.and_then(|()| body(std::env::args_os().collect()));
    time_limit::hold_if_passed();
    result.unwrap_or_else(|error| {
        // The message may block; signals have to end us all the same.
        signals::let_through();
        log::error!("{error:#}");
        ExitCode::from(failure)
    })
}

/// Parses the arguments; exits with `status` if they are bad. That is the status of
/// trouble for chrootvm: 2 may be the status of a command in the guest.
#[must_use]
pub fn parse<T: Parser>(arguments: Vec<OsString>, status: u8) -> T {
    T::try_parse_from(arguments).unwrap_or_else(|error| {
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
