//! `chrootvm` as a user who is not root: owners of files, read-only directories, and users
//! without subordinate ids.

use std::fs;

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};

use crate::harness::make::user::{RANGES, UID, UserBed, give, owner};
use crate::harness::processes::{all_gone, family};
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("subordinate_ids_keep_owners", subordinate_ids_keep_owners),
    ("missing_subordinate_ids_warn", missing_subordinate_ids_warn),
    ("sigkill_leaves_no_process",   sigkill_leaves_no_process),
    ("commands_work_as_for_root",   commands_work_as_for_root),
    ("quiet_leaves_errors_only",    quiet_leaves_errors_only),
];

/// Owners are the same in the guest and on the host, and no remount makes a read-only
/// directory writable.
fn subordinate_ids_keep_owners(bed: &Bed) -> Result<()> {
    let user = UserBed::new(bed, RANGES)?;
    let mut machine = user.machine(
        "stat -c '%n is %u:%g' /own /first /second /other\n\
         cd /run/mnt/out; touch root user; chown 1001:1 user; stat -c '%n is %u:%g' root user\n\
         mount -o remount,rw /; mount -o remount,rw /run/mnt/data\n\
         (echo > /own) 2>/dev/null || echo root kept\n\
         (echo > /run/mnt/data/new) 2>/dev/null || echo share kept",
        &[("own", UID), ("first", 600_000), ("second", 700_000), ("other", 0)],
    )?;
    let out = machine.mount("--mount", "out")?;
    give(&out, UID)?;
    give(&machine.mount("--mount-ro", "data")?, UID)?;
    let boot = machine.boot()?.ends_with(
        0,
        &[
            "/own is 0:0",
            "/first is 1:1",
            "/second is 1001:1001",
            "/other is 65534:65534",
            "root is 0:0",
            "user is 1001:1",
            "root kept",
            "share kept",
        ],
    )?;
    let owners = (owner(&out.join("root"))?, owner(&out.join("user"))?);
    if owners != ((UID, UID), (700_000, 600_000)) {
        return Err(boot.failure(&format!("owners on the host are {owners:?}")));
    }
    if boot.messages.contains("warning") {
        return Err(boot.failure("there is a warning though nothing is missing"));
    }
    boot.lacks("Kernel panic")
}

/// Files of the user belong to root in the guest.
fn missing_subordinate_ids_warn(bed: &Bed) -> Result<()> {
    let user = UserBed::new(bed, "")?;
    let mut machine = user.machine(
        "stat -c '%n is %u:%g' /own /other\n\
         cd /run/mnt/out; touch root; stat -c '%n is %u:%g' root\n\
         chown 1 root 2>/dev/null || echo no other owner\n\
         mount -o remount,rw /; (echo > /own) 2>/dev/null || echo root kept",
        &[("own", UID), ("other", 600_000)],
    )?;
    let out = machine.mount("--mount", "out")?;
    give(&out, UID)?;
    let boot = machine.boot()?.ends_with(
        0,
        &["/own is 0:0", "/other is 65534:65534", "root is 0:0", "no other owner", "root kept"],
    )?;
    if owner(&out.join("root"))? != (UID, UID) {
        return Err(boot.failure("the file is not the user's on the host"));
    }
    let expected = "no ids for vmtest in /etc/subuid and /etc/subgid; as root, run `usermod";
    if boot.messages.matches("warning").count() != 1 || !boot.messages.contains(expected) {
        return Err(boot.failure(&format!("not one warning with \"{expected}\"")));
    }
    boot.lacks("Kernel panic")
}

/// The kernel clears the parent-death signal of a process that changes its credentials. Still
/// no process outlives `chrootvm`.
fn sigkill_leaves_no_process(bed: &Bed) -> Result<()> {
    let user = UserBed::new(bed, RANGES)?;
    let machine = user.machine("echo is up; sleep 3600", &[])?;
    let mut running = machine.start()?;
    running.wait_for("is up")?;
    let family = family(running.pid())?;
    ensure!(family.len() >= 3, "chrootvm, QEMU and virtiofsd expected: {family:?}");
    kill(running.pid(), Signal::SIGKILL)?;
    running.finish()?;
    all_gone(&family)
}

/// Status, streams, writes, overlay and network work as for root.
fn commands_work_as_for_root(bed: &Bed) -> Result<()> {
    let user = UserBed::new(bed, RANGES)?;
    let run = user.run("id -u; cat; echo err >&2; echo out > /new; chown 1001 /new; exit 42")?;
    let root = run.machine.root();
    fs::create_dir(root.join("etc"))?;
    fs::write(root.join("etc/resolv.conf"), "")?;
    let run = run.options(&["--rw", "--net", "user"]).input(b"in\n");
    let _machine = run.finish()?.is(42, "0\nin\n", "err\n")?;
    let owner = owner(&root.join("new"))?;
    ensure!(owner == (700_000, UID), "the owner on the host is {owner:?}");

    let script = "cd /mnt/x && echo out > new && cat /srv/file && echo out > /srv/file
                  (echo out > /srv/kept) 2>/dev/null || rm /bin/busybox";
    let mut run = user.run(script)?;
    let root = run.machine.root();
    let volume = run.machine.directory("volume")?;
    give(&volume, UID)?;
    run.volume(&volume, "/mnt/x");
    let files = ["file", "kept"].map(|name| run.machine.path(name));
    for file in &files {
        fs::write(file, "of the user\n")?;
        give(file, UID)?;
    }
    run.volume(&files[0], "/srv/file");
    run.volume(&files[1], "/srv/kept:ro");
    let _machine = run.options(&["--overlay"]).finish()?.is(0, "of the user\n", "")?;
    ensure!(fs::read(&files[0])? == b"out\n" && fs::read(&files[1])? == b"of the user\n");
    ensure!(root.join("bin/busybox").exists(), "the overlay has reached the host");
    ensure!(fs::read(volume.join("new"))? == b"out\n");
    Ok(())
}

/// Neither the warning nor the lines of the console are errors.
fn quiet_leaves_errors_only(bed: &Bed) -> Result<()> {
    let user = UserBed::new(bed, "")?;
    user.run("echo out")?.finish()?.says(0, "out\n", &["warning: "])?;
    let run = user.run("echo out; echo c > /proc/sysrq-trigger; sleep 60")?.options(&["--quiet"]);
    let error = "error: the guest gave up: sysrq triggered crash\n";
    run.finish()?.is(125, "out\n", error).map(drop)
}
