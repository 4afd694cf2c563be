//! `chrootvm / -- COMMAND`: the system of the host under another kernel.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use machine::process::virtiofsd;

use crate::harness::command_run::CommandRun;
use crate::harness::make::user::{RANGES, UserBed};
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("is_read_only",       is_read_only),
    ("takes_an_overlay",   takes_an_overlay),
    ("can_be_written_to",  can_be_written_to),
    ("is_a_volume",        is_a_volume),
];

#[rustfmt::skip]
pub(crate) const CASES_OF_USERS: &[Case] = &[
    ("is_read_only",     is_read_only_for_a_user),
    ("takes_an_overlay", takes_an_overlay_for_a_user),
];

/// A file that every distribution has, and whose text differs between them.
const PROOF: &str = "/etc/os-release";

/// A path that everybody may write to, and that the guest sees. It is not in /tmp, where the
/// guest has a tmpfs.
fn writable_path(test: &str) -> PathBuf {
    format!("/var/tmp/virtinitrd-test-{test}-{}", std::process::id()).into()
}

/// A script for the shell of the host.
fn run(bed: &Bed, script: &str) -> Result<CommandRun> {
    let machine = bed.machine_on(Path::new("/"))?.with_kernel(&bed.kernel);
    Ok(CommandRun::new(machine, &["sh", "-c", script]))
}

/// Shell script that prints [`PROOF`], and tries to write to `file`.
fn read_and_write(file: &Path) -> String {
    format!(
        "cat {PROOF}; mount -o remount,rw / 2>/dev/null
         (echo x > {file}) 2>/dev/null && echo written; test -d /proc/self && echo procfs",
        file = file.display()
    )
}

/// The guest prints the text of [`PROOF`] and `more`, and `file` does not exist on the host.
fn check(run: CommandRun, more: &str, file: &Path) -> Result<()> {
    let expected = fs::read_to_string(PROOF).context("read the host's os-release")? + more;
    run.finish()?.is(0, expected, "")?;
    ensure!(!file.exists(), "{} was written on the host", file.display());
    Ok(())
}

fn is_read_only(bed: &Bed) -> Result<()> {
    let file = writable_path("ro");
    check(run(bed, &read_and_write(&file))?, "procfs\n", &file)
}

fn takes_an_overlay(bed: &Bed) -> Result<()> {
    let file = writable_path("overlay");
    let run = run(bed, &read_and_write(&file))?.options(&["--overlay"]);
    check(run, "written\nprocfs\n", &file)
}

fn can_be_written_to(bed: &Bed) -> Result<()> {
    let file = writable_path("rw");
    let finished = run(bed, &read_and_write(&file))?.options(&["--rw"]).finish();
    let written = fs::read_to_string(&file);
    let removed = fs::remove_file(&file);
    let finished = finished?;
    ensure!(finished.status == 0, "{}", finished.stderr());
    ensure!(written? == "x\n");
    Ok(removed?)
}

/// `/` is a read-only volume of another root.
fn is_a_volume(bed: &Bed) -> Result<()> {
    let file = writable_path("volume");
    let script = format!(
        "cat /run/host{PROOF}; mount -o remount,rw /run/host 2>/dev/null
         (echo x > /run/host{}) 2>/dev/null && echo written; true",
        file.display()
    );
    let mut run = bed.sh(&script)?;
    run.volume(Path::new("/"), "/run/host:ro");
    check(run, "", &file)
}

fn is_read_only_for_a_user(bed: &Bed) -> Result<()> {
    let file = writable_path("user-ro");
    let user = UserBed::new(bed, RANGES)?;
    let secret = "; (cat /etc/shadow) >/dev/null 2>&1 && echo a secret; id -u";
    check(run(&user.bed, &(read_and_write(&file) + secret))?, "procfs\n0\n", &file)
}

fn takes_an_overlay_for_a_user(bed: &Bed) -> Result<()> {
    let file = writable_path("user-overlay");
    let user = UserBed::new(bed, RANGES)?;
    let run = run(&user.bed, &read_and_write(&file))?.options(&["--overlay"]);
    let words = ["error: --overlay over /, which is root's", "use the Rust virtiofsd"];
    match virtiofsd::find(bed.virtiofsd.as_deref())?.defaults.keeps_noatime {
        true => run.finish()?.says(125, "", &words).map(drop),
        false => check(run, "written\nprocfs\n", &file),
    }
}
