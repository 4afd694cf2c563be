//! Kernels of other releases of Debian: the oldest that is still in use, with modules, and one
//! with virtiofs built in and compressed modules. `cargo xtask kernels` boots more of them.

use anyhow::Result;
use xtask::kernels::packages;

use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("linux_5_10_boots", |bed| boots(bed, "bullseye-cloud", "5.10")),
    ("linux_6_12_boots", |bed| boots(bed, "trixie-cloud", "6.12")),
];

/// The kernel of this package runs a command on a directory, with an overlay.
fn boots(bed: &Bed, package: &str, version: &str) -> Result<()> {
    let bed = bed.with_kernel(packages::kernel(&bed.workspace, package)?);
    let run = bed.sh("echo up >/new; cat /new; uname -r | cut -d. -f1,2")?;
    run.options(&["--overlay"]).finish()?.is(0, format!("up\n{version}\n"), "").map(drop)
}
