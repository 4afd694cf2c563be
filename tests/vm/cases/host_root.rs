//! `chrootvm / -- COMMAND`: the host's own system under another kernel.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use machine::process::virtiofsd;

use crate::Case;
use crate::command_run::CommandRun;
use crate::harness::Bed;
use crate::unprivileged::{RANGES, Stage};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("is_read_only",       is_read_only),
    ("takes_an_overlay",   takes_an_overlay),
    ("can_be_written_to",  can_be_written_to),
    ("is_a_volume",        is_a_volume),
];

#[rustfmt::skip]
pub(crate) const CASES_OF_USERS: &[Case] = &[
    ("is_read_only",     user_reads),
    ("takes_an_overlay", user_takes_an_overlay),
];

/// A file that every distribution has, and that tells whose root it is.
const PROOF: &str = "/etc/os-release";

/// A path that everybody may write to and that the guest sees; /tmp is the guest's own.
fn scratch(test: &str) -> PathBuf {
    format!("/var/tmp/virtinitrd-test-{test}-{}", std::process::id()).into()
}

/// `script` for the shell of the host.
fn run(bed: &Bed, script: &str) -> Result<CommandRun> {
    let mut guest = bed.command_guest_on(Path::new("/"))?;
    guest.option("--kernel", &bed.kernel.image);
    guest.option("--modules", &bed.kernel.modules);
    Ok(CommandRun::new(guest, &["sh", "-c", script]))
}

/// Reads, and tries to write to `file` by all means.
fn read_and_write(file: &Path) -> String {
    format!(
        "cat {PROOF}; mount -o remount,rw / 2>/dev/null
         (echo x > {file}) 2>/dev/null && echo written; test -d /proc/self && echo procfs",
        file = file.display()
    )
}

/// Checks that the guest prints the host's text, then `more`, and that `file` does not
/// exist.
fn check(run: CommandRun, more: &str, file: &Path) -> Result<()> {
    let expected = fs::read_to_string(PROOF).context("read the host's os-release")? + more;
    run.finish()?.is(0, expected, "")?;
    ensure!(!file.exists(), "{} was written on the host", file.display());
    Ok(())
}

fn is_read_only(bed: &Bed) -> Result<()> {
    let file = scratch("ro");
    check(run(bed, &read_and_write(&file))?, "procfs\n", &file)
}

fn takes_an_overlay(bed: &Bed) -> Result<()> {
    let file = scratch("overlay");
    let run = run(bed, &read_and_write(&file))?.options(&["--overlay"]);
    check(run, "written\nprocfs\n", &file)
}

fn can_be_written_to(bed: &Bed) -> Result<()> {
    let file = scratch("rw");
    let finished = run(bed, &read_and_write(&file))?.options(&["--rw"]).finish();
    let written = fs::read_to_string(&file);
    let removed = fs::remove_file(&file);
    ensure!(finished?.status == 0);
    ensure!(written? == "x\n");
    Ok(removed?)
}

/// Beside another root, read-only.
fn is_a_volume(bed: &Bed) -> Result<()> {
    let file = scratch("volume");
    let script = format!(
        "cat /run/host{PROOF}; mount -o remount,rw /run/host 2>/dev/null
         (echo x > /run/host{}) 2>/dev/null && echo written; true",
        file.display()
    );
    let mut run = bed.sh(&script)?;
    run.volume(Path::new("/"), "/run/host:ro");
    check(run, "", &file)
}

fn user_reads(bed: &Bed) -> Result<()> {
    let file = scratch("user-ro");
    let stage = Stage::new(bed, RANGES)?;
    let secret = "; (cat /etc/shadow) >/dev/null 2>&1 && echo a secret; id -u";
    check(run(&stage.bed, &(read_and_write(&file) + secret))?, "procfs\n0\n", &file)
}

fn user_takes_an_overlay(bed: &Bed) -> Result<()> {
    let file = scratch("user-overlay");
    let stage = Stage::new(bed, RANGES)?;
    let run = run(&stage.bed, &read_and_write(&file))?.options(&["--overlay"]);
    let words = ["error: --overlay over /, which is root's", "use the Rust virtiofsd"];
    match virtiofsd::find(bed.virtiofsd.as_deref())?.defaults.keeps_noatime {
        true => run.finish()?.says(125, "", &words).map(drop),
        false => check(run, "written\nprocfs\n", &file),
    }
}
