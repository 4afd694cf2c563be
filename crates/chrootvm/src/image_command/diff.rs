//! `chrootvm image diff`: compares the trees of two images, which may differ in format.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use files::tell::result;
use image::compare::{Aspect, compare};

use super::options::ReadArguments;
use super::{EXIT_FOUND, open, see_owners_as_the_guest};
use crate::line::named::named;

/// Compare two images; exits with 1 if they differ
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:\n  chrootvm image diff --ignore time ./debian debian.erofs")]
pub(super) struct DiffImages {
    /// First directory, archive or image
    a: PathBuf,
    /// Second one
    b: PathBuf,
    /// Part of the files that is not compared; repeatable
    #[arg(long, value_parser = named::<Aspect>(), value_name = "WHAT")]
    ignore: Vec<Aspect>,
    #[command(flatten)]
    reading: ReadArguments,
}

impl DiffImages {
    /// Prints a line for each path that differs. The line begins with `-` if only the
    /// first image has the path, with `+` if only the second one has it, and with `!` if
    /// both have it.
    pub(super) fn run(self) -> Result<ExitCode> {
        see_owners_as_the_guest(&[&self.a, &self.b])?;
        let options = self.reading.options()?;
        let (a, b) = (open(&self.a, &options)?.tree, open(&self.b, &options)?.tree);
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
