//! `cargo xtask kernels`: boots kernels of several versions, in several forms, and prints a table
//! of what works with each.
//!
//! | Module | Content |
//! |---|---|
//! | `packages` | kernels of Debian, fetched but not installed |
//! | `rows` | the kernels of the table: where each comes from, its form, its command line |
//! | `checks` | the columns of the table: what a machine must do |
//! | `trial` | one kernel in one check |
//!
//! The kernels are kept in `target/kernels`.

pub(crate) mod checks;
pub mod packages;
mod rows;
pub(crate) mod trial;

use std::path::PathBuf;

use anyhow::Result;

use self::checks::CHECKS;
use self::rows::{ROWS, Row};
use self::trial::Site;
use crate::outcomes::{self, Outcome, Table};
use crate::{guest, programs, testbed, workspace};

/// Boot kernels of several versions and forms, and print a table of what works with each
#[derive(Debug, clap::Args)]
pub struct Kernels {
    /// Parts of the names of kernels [default: all]
    names: Vec<String>,
    /// Kernel tree for the row "kernel tree"
    #[arg(long, value_name = "DIR")]
    tree: Option<PathBuf>,
}

impl Kernels {
    /// Runs all checks with all kernels, and prints the table.
    ///
    /// # Errors
    /// The programs cannot be built, no kernel has such a name, or a check has failed.
    pub fn run(self) -> Result<()> {
        let wanted = outcomes::select("kernel", ROWS, |row: &Row| row.name, &self.names)?;
        let tree = workspace::root()?;
        let init = guest::build()?;
        programs::build()?;
        let site = Site::new(init, &testbed::busybox()?, &[])?;
        let rows = wanted.into_iter().map(|row| {
            log::info!("{}", row.name);
            let outcomes = match row.options(&tree, self.tree.as_deref()) {
                Err(error) => {
                    CHECKS.iter().map(|_| Outcome::NotRun(format!("{error:#}"))).collect()
                }
                Ok(kernel) => CHECKS
                    .iter()
                    .map(|check| site.run(&kernel.options, check))
                    .collect::<Result<_>>()?,
            };
            Ok((row.name, outcomes))
        });
        let table = Table {
            subject: "Kernel",
            checks: CHECKS.iter().map(|check| check.name).collect(),
            rows: rows.collect::<Result<_>>()?,
        };
        table.tell()
    }
}
