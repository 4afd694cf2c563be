//! `cargo xtask architectures`: builds `/init` for each architecture, boots it, and prints a table
//! of what works on each.
//!
//! `by_hand` has a machine that QEMU starts without chrootvm, as osbuild does. The checks with
//! chrootvm are those of `kernels`, all of them on an image if this host cannot share directories
//! with the guest. Kernels and busyboxes are kept in `target/testbed`.

mod by_hand;

use std::ffi::OsString;

use anyhow::{Context, Result};
use machine::plan::architecture::{ARCHITECTURES, Architecture, HOST};

use self::by_hand::HandRoot;
use crate::kernels::checks::{CHECKS, Check, CheckRoot};
use crate::kernels::trial::Site;
use crate::outcomes::{Outcome, Table, select};
use crate::route::Route;
use crate::testbed::{self, ForeignParts};
use crate::{guest, programs, workspace};

/// Build /init for each architecture, boot it, and print a table of what works on each
#[derive(Debug, clap::Args)]
pub struct Architectures {
    /// Names of architectures, or parts of them [default: all]
    names: Vec<String>,
}

/// Heading of the column that tells whether `/init` is built.
const BUILT: &str = "/init";
/// Architectures whose kernels have pages of 64 KiB: Linux 6.1 reads no compressed EROFS with them.
const BIG_PAGES: [&str; 1] = ["ppc64le"];
/// Heading of the column of warm starts.
const WARM: &str = "warm";

impl Architectures {
    /// Runs all checks on all architectures, and prints the table.
    ///
    /// # Errors
    /// chrootvm cannot be built, there is no such architecture, or a check has failed.
    pub fn run(self) -> Result<()> {
        let wanted = select("architecture", ARCHITECTURES, |row| row.arch, &self.names)?;
        programs::build()?;
        let by_hand = HandRoot::ALL.iter().map(|root| root.title());
        let with_chrootvm = CHECKS.iter().map(|check| check.name);
        let checks =
            [BUILT].into_iter().chain(by_hand).chain(with_chrootvm).chain([WARM]).collect();
        let rows = wanted.into_iter().map(|row| {
            log::info!("{}", row.arch);
            Ok((row.arch, outcomes(row)?))
        });
        let rows = rows.collect::<Result<_>>()?;
        let table = Table { subject: "Architecture", checks, rows };
        table.tell()
    }
}

/// The outcomes of one architecture, in the order of the columns.
fn outcomes(row: &Architecture) -> Result<Vec<Outcome>> {
    let tree = workspace::root()?;
    let columns = 1 + HandRoot::ALL.len() + CHECKS.len() + 1;
    if let Err(error) = Route::to(row.arch) {
        return Ok(vec![Outcome::NotRun(format!("{error:#}")); columns]);
    }
    let init = match guest::build_for(row.arch) {
        Ok(init) => init,
        Err(error) => {
            let mut outcomes = vec![Outcome::Failed(format!("{error:#}"))];
            outcomes.resize(columns, Outcome::NotRun("there is no /init".into()));
            return Ok(outcomes);
        }
    };
    let parts = match row.arch {
        HOST => testbed::busybox()
            .and_then(|busybox| Ok(ForeignParts { kernel: testbed::kernel(&tree)?, busybox })),
        _ => testbed::foreign(&tree, row.arch),
    };
    let mut outcomes = vec![Outcome::Worked];
    let ForeignParts { kernel, busybox } = match parts {
        Ok(parts) => parts,
        Err(error) => {
            outcomes.resize(columns, Outcome::NotRun(format!("no kernel: {error:#}")));
            return Ok(outcomes);
        }
    };
    let image_options: &[&str] = match BIG_PAGES.contains(&row.arch) {
        true => &["--compress", "none"],
        false => &[],
    };
    let site = Site::new(init, &busybox, image_options)?;
    for root in HandRoot::ALL {
        log::info!("{}, {}", row.arch, root.title());
        outcomes.push(by_hand::boot(row, root, &site, &kernel)?);
    }
    let options: [OsString; 4] =
        ["--kernel".into(), kernel.image.into(), "--modules".into(), kernel.modules.into()];
    for check in CHECKS {
        log::info!("{}, {}", row.arch, check.name);
        let root = row.no_shares().map_or(check.root, |_| CheckRoot::Erofs);
        outcomes.push(site.run(&options, &Check { root, ..*check })?);
    }
    log::info!("{}, {WARM}", row.arch);
    let first = CHECKS.first().context("there is no check")?;
    outcomes.push(match row.has_root_ports {
        true => site.run_warm(&options, first)?,
        false => Outcome::NotRun("its machine has no root ports of PCI Express".into()),
    });
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_is_in_the_document() {
        let document = include_str!("../../../docs/architectures.md");
        for Architecture { arch, console, .. } in ARCHITECTURES {
            assert!(document.contains(&format!("\n| {arch} | ok | ")), "{arch}");
            assert!(document.contains(&format!("\n| {arch} | `{console}` | ")), "{arch}");
        }
    }
}
