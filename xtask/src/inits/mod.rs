//! `cargo xtask inits`: runs programs that are made to be PID 1 through the same cases, and
//! compares what they do with the table in `docs/workloads.md`.
//!
//! | Module | Content |
//! |---|---|
//! | `programs` | the programs, and how each of them is started |
//! | `cases` | what happens in the machine, what it shows, and what each program does |
//! | `packages` | the programs of Debian |
//! | `trial` | one program in one case: a machine of its own, and its console |
//! | `table` | the results as a table |
//!
//! Each program is PID 1 of a machine with a kernel of the distribution and a busybox, not of a
//! container: nobody outside ends what it leaves undone. Debian's packages
//! are kept in `target/inits`.

mod cases;
mod packages;
mod programs;
mod table;
mod trial;

use anyhow::{Result, bail, ensure};
use files::tell;

use self::cases::{CASES, Case};
use self::programs::PROGRAMS;
use self::table::{Row, Table};
use self::trial::Site;
use crate::{guest, testbed, workspace};

/// Run /init and other PID 1 programs through the same cases, and compare with docs/workloads.md
#[derive(Debug, clap::Args)]
pub struct Inits {
    /// Programs to run: dumb-init, tini, catatonit, s6, /init [default: all]
    names: Vec<String>,
}

impl Inits {
    /// Runs all cases, and prints a table and what differs from the documented one.
    ///
    /// # Errors
    /// A machine cannot be started, a console shows none of the known outcomes, or an outcome is
    /// not the documented one.
    pub fn run(self) -> Result<()> {
        let known = |name: &&String| PROGRAMS.iter().any(|program| program.name == **name);
        if let Some(name) = self.names.iter().find(|name| !known(name)) {
            let names: Vec<_> = PROGRAMS.iter().map(|program| program.name).collect();
            bail!("there is no program {name}: the programs are {}", names.join(", "));
        }
        let tree = workspace::root()?;
        let init = guest::build()?;
        crate::programs::build()?;
        let kernel = testbed::kernel(&tree)?;
        let packages = packages::prepare(&tree, PROGRAMS)?;
        let site = Site::new(init, kernel, &packages)?;
        let rows = CASES.iter().map(|case| self.row(&site, case)).collect::<Result<_>>()?;
        let table = Table(rows);
        tell::result(&table)?;
        let faults = table.faults();
        for fault in &faults {
            tell::result(format_args!("{fault}\n"))?;
        }
        ensure!(faults.is_empty(), "outcomes differ from those in docs/workloads.md");
        Ok(())
    }

    /// The outcomes of one case.
    fn row(&self, site: &Site, case: &'static Case) -> Result<Row> {
        let observe = |program| {
            log::info!("{}: {}", programs::title(program), case.name);
            site.observe(program, case)
        };
        let is_wanted = |name: &str| self.names.is_empty() || self.names.iter().any(|n| n == name);
        let outcomes = PROGRAMS.iter().map(|program| is_wanted(program.name).then_some(program));
        let outcomes = outcomes.map(|program| program.map(observe).transpose());
        Ok(Row { case, outcomes: outcomes.collect::<Result<_>>()? })
    }
}
