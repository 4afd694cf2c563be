//! `image diff`: where two images differ, whatever their formats.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use files::tell::result;
use image::compare::{Aspect, compare};

use super::options::Reading;
use super::{EXIT_FOUND, open, see_owners_as_the_guest};
use crate::named::named;

/// Compare two images; exits with 1 where they differ
#[derive(Debug, clap::Args)]
pub(super) struct Diff {
    /// The first
    a: PathBuf,
    /// The second
    b: PathBuf,
    /// What not to compare; repeatable
    #[arg(long, value_parser = named::<Aspect>(), value_name = "WHAT")]
    ignore: Vec<Aspect>,
    #[command(flatten)]
    reading: Reading,
}

impl Diff {
    /// Prints a line a path: `-` is in the first only, `+` in the second, `!` in
    /// both.
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
