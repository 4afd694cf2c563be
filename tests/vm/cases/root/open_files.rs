//! Shared directories with more files than a program may usually hold open.
//!
//! `chrootvm` runs without CAP_SYS_RESOURCE here, as in a container, so it cannot raise the
//! hard limit.

use std::fs;

use anyhow::Result;

use crate::harness::command_run::CommandRun;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("soft_limit_is_raised",   soft_limit_is_raised),
    ("low_limit_is_reported",  low_limit_is_reported),
];

/// Number of files: almost three times the soft limit.
const FILES: u32 = 3000;

/// A script for a guest with [`FILES`] files in `/many`. `limits` are arguments of a shell's
/// ulimit on the host.
fn run(bed: &Bed, limits: &str, script: &str) -> Result<CommandRun> {
    let run = bed.sh(script)?;
    let many = run.machine.root().join("many");
    fs::create_dir(&many)?;
    for number in 0..FILES {
        fs::write(many.join(number.to_string()), "")?;
    }
    let wrapper = format!("ulimit {limits} && exec setpriv --bounding-set=-sys_resource \"$@\"");
    Ok(run.through(&wrapper))
}

fn soft_limit_is_raised(bed: &Bed) -> Result<()> {
    let run = run(bed, "-S -n 1024", "find /many -type f | wc -l; find /many -type f | wc -l")?;
    run.finish()?.is(0, format!("{FILES}\n{FILES}\n"), "").map(drop)
}

fn low_limit_is_reported(bed: &Bed) -> Result<()> {
    let words = ["warning: ", "no more than 1024 files open", "--ulimit nofile="];
    run(bed, "-n 1024", "echo here")?.finish()?.says(0, "here\n", &words)?;
    run(bed, "-n 1024", "echo here")?.options(&["--quiet"]).finish()?.is(0, "here\n", "").map(drop)
}
