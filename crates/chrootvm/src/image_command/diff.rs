//! `chrootvm image diff`: compares the trees of two images, which may differ in format.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use files::tell::result;
use image::compare::{Aspect, compare};

use super::EXIT_FOUND;
use super::options::ReadArguments;
use super::sources::Sources;
use crate::line::named::named;
use crate::pull::PullArguments;

/// Compare two images; exits with 1 if they differ
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:\n  chrootvm image diff --ignore time ./debian debian.erofs")]
pub(super) struct DiffImages {
    /// First directory, archive or image
    a: OsString,
    /// Second one
    b: OsString,
    /// Part of the files that is not compared; repeatable
    #[arg(long, value_parser = named::<Aspect>(), value_name = "WHAT")]
    ignore: Vec<Aspect>,
    #[command(flatten)]
    reading: ReadArguments,
    #[command(flatten)]
    pull: PullArguments,
}

impl DiffImages {
    /// Prints a line for each path that differs. The line begins with `-` if only the
    /// first image has the path, with `+` if only the second one has it, and with `!` if
    /// both have it.
    pub(super) fn run(self) -> Result<ExitCode> {
        let words = [&*self.a, &*self.b];
        let sources = Sources::new(&words, &[], self.reading.options()?, &self.pull)?;
        let [a, b] = words.map(|word| sources.read(word));
        let (a, b) = (a?.tree, b?.tree);
        let (mut is_equal, mut written) = (true, Ok(()));
        compare(&a, &b, &self.ignore, &mut |change| {
            is_equal = false;
            if written.is_ok() {
                written = result(format_args!("{change}\n"));
            }
        })?;
        written?;
        Ok(if is_equal { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FOUND) })
    }
}
