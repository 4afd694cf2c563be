//! `cargo xtask distributions`: does in each distribution what a newcomer does first, and prints a
//! table of what was seen there, and what was not.
//!
//! | Module | Content |
//! |---|---|
//! | `rows` | the distributions, and the checks |
//! | `system` | a fresh Debian with an ordinary user, and a copy of the tree |
//! | `stand_in` | an empty root with a package manager that only writes down what it is asked for |

mod rows;
pub mod stand_in;
mod system;

use anyhow::{Result, ensure};

use self::rows::{CHECKS, ROWS, Row, Source};
use self::system::Parts;
use crate::outcomes::{self, Outcome, Table};
use crate::workspace;

/// Set up the last commit in fresh roots of distributions, and print a table of what works in each
#[derive(Debug, clap::Args)]
pub struct Distributions {
    /// Parts of the names of distributions [default: all]
    names: Vec<String>,
}

impl Distributions {
    /// Runs all checks in all distributions, and prints the table.
    ///
    /// # Errors
    /// The user is not root, no distribution has such a name, the host has no Rust toolchain of
    /// rustup, or a check has failed.
    pub fn run(self) -> Result<()> {
        let wanted = outcomes::select("distribution", ROWS, |row: &Row| row.name, &self.names)?;
        ensure!(nix::unistd::geteuid().is_root(), "a fresh system needs root");
        let parts = Parts::find(&workspace::root()?)?;
        let rows = wanted.into_iter().map(|row| {
            log::info!("{}", row.name);
            let outcomes = match row.source {
                Source::Debian(suite) => system::outcomes(&parts, suite),
                Source::StandIn(manager) => stand_in::outcomes(&parts.tree, manager),
            };
            let not_run = |error| vec![Outcome::NotRun(format!("{error:#}")); CHECKS.len()];
            (row.name, outcomes.unwrap_or_else(not_run))
        });
        let table = Table {
            subject: "Distribution",
            checks: CHECKS.iter().map(|check| check.name).collect(),
            rows: rows.collect(),
        };
        table.tell()
    }
}
