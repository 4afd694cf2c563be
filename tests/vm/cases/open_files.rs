//! Directories of more files than a program may usually hold open.
//!
//! chrootvm runs without CAP_SYS_RESOURCE, as in a container: nothing can raise
//! the hard limit.

use std::fs;

use anyhow::Result;

use crate::Case;
use crate::command_run::CommandRun;
use crate::harness::Bed;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("all_files_are_there",    all_files_are_there),
    ("a_low_limit_is_told",    a_low_limit_is_told),
];

/// More than three times the soft limit.
const FILES: u32 = 3000;

/// `script` for a guest with [`FILES`] files in `/many`, and `limits` for a shell's
/// ulimit.
fn run(bed: &Bed, limits: &str, script: &str) -> Result<CommandRun> {
    let run = bed.sh(script)?;
    let many = run.guest.root().join("many");
    fs::create_dir(&many)?;
    for number in 0..FILES {
        fs::write(many.join(number.to_string()), "")?;
    }
    let wrapper = format!("ulimit {limits} && exec setpriv --bounding-set=-sys_resource \"$@\"");
    Ok(run.through(&wrapper))
}

fn all_files_are_there(bed: &Bed) -> Result<()> {
    let run = run(bed, "-S -n 1024", "find /many -type f | wc -l; find /many -type f | wc -l")?;
    run.finish()?.is(0, format!("{FILES}\n{FILES}\n"), "").map(drop)
}

fn a_low_limit_is_told(bed: &Bed) -> Result<()> {
    let words = ["warning: ", "no more than 1024 files open", "--ulimit nofile="];
    run(bed, "-n 1024", "echo here")?.finish()?.says(0, "here\n", &words)?;
    run(bed, "-n 1024", "echo here")?.options(&["--quiet"]).finish()?.is(0, "here\n", "").map(drop)
}
