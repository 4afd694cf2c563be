//! Shared directories that contain mounts.
//!
//! The tests mount in a mount namespace that ends with `chrootvm` (mount_namespaces(7)), so
//! nothing has to be undone. The FUSE mounts have no server. The kernel refuses requests to
//! the mount of another user; requests to a mount of our own user get no answer.

use std::fs;

use anyhow::{Context, Result, ensure};
use machine::plan::virtiofsd::Flavour;
use machine::process::virtiofsd;

use crate::harness::command_run::CommandRun;
use crate::harness::make::user::{RANGES, UserBed};
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("overlay_shows_mounts",              overlay_shows_mounts),
    ("mounts_are_read_only",              mounts_are_read_only),
    ("hidden_mounts_are_ignored",         hidden_mounts_are_ignored),
    ("fuse_of_another_user_is_ignored",   fuse_of_another_user_is_ignored),
    ("dead_fuse_mount_is_reported",       dead_fuse_mount_is_reported),
];

#[rustfmt::skip]
pub(crate) const CASES_OF_USERS: &[Case] = &[
    ("unreachable_mount_is_ignored", unreachable_mount_is_ignored),
];

/// A command on a root with the directories `dirs`. The script `mounts` mounts in the root on
/// the host before, and the script `after` runs there when `chrootvm` has succeeded. `$root`
/// is the root in both.
fn run(bed: &Bed, script: &str, dirs: &[&str], mounts: &str, after: &str) -> Result<CommandRun> {
    let run = bed.sh(script)?;
    for dir in dirs {
        fs::create_dir_all(run.machine.root().join(dir))?;
    }
    Ok(with_mounts(run, mounts, after))
}

fn with_mounts(run: CommandRun, mounts: &str, after: &str) -> CommandRun {
    let root = run.machine.root();
    let wrapper = format!(
        "exec unshare --mount sh -ec 'root=$1; shift\n{mounts}\n\"$@\"\n{after}' sh {} \"$@\"",
        root.display()
    );
    run.through(&wrapper)
}

/// Mounts of a chroot in use: devices, processes, and a part of its files.
const CHROOT: &str = "mount --bind /dev $root/dev
    mount -t proc proc $root/proc
    mount -t tmpfs tmpfs $root/var
    echo var > $root/var/text
    mkdir $root/var/deep
    mount -t tmpfs -o nosuid,nodev,noexec,noatime tmpfs $root/var/deep
    echo deep > $root/var/deep/text";

fn overlay_shows_mounts(bed: &Bed) -> Result<()> {
    for options in [&["--overlay"][..], &["--module", "overlay", "--append", "virtinit.overlay"]] {
        let script = "cat /var/text /var/deep/text && test -c /dev/null && test -d /proc/1 &&
                      echo new > /var/deep/text && echo new > /var/new && cat /var/deep/text";
        let run = run(bed, script, &["var"], CHROOT, "cat $root/var/deep/text")?;
        run.options(options).finish()?.is(0, "var\ndeep\nnew\ndeep\n", "")?;
    }
    Ok(())
}

fn mounts_are_read_only(bed: &Bed) -> Result<()> {
    let script = "cat /var/text /var/deep/text
                  mount -o remount,rw /; mount -o remount,rw /var; mount -o remount,rw /var/deep
                  for file in /new /var/new /var/text /var/deep/new; do
                  (echo x > $file) 2>/dev/null && echo $file is written; done; true";
    let after = "cat $root/var/text; ls $root/var/deep";
    let finished = run(bed, script, &["var"], CHROOT, after)?.finish()?;
    let is_expected = finished.status == 0 && finished.stdout() == b"var\ndeep\nvar\ntext\n";
    finished.check(is_expected, || "a mount can be written to, or is missing".into()).map(drop)
}

/// No path leads to these mounts: another mount covers their directory or one above it.
fn hidden_mounts_are_ignored(bed: &Bed) -> Result<()> {
    let mounts = "mount -t tmpfs tmpfs $root/a/b
                  mount -t tmpfs tmpfs $root/a
                  mount -t tmpfs tmpfs $root/a
                  echo top > $root/a/text";
    run(bed, "cat /a/text; ls /a", &["a/b"], mounts, "")?.finish()?.is(0, "top\ntext\n", "")?;
    Ok(())
}

/// Shell commands that mount a FUSE file system of `user` without a server.
fn mount_fuse(user: u32) -> String {
    format!(
        "exec 9<>/dev/fuse
         mount -i -t fuse -o fd=9,rootmode=40000,user_id={user},group_id=0 fuse $root/fuse"
    )
}

/// Only its user may send requests to a FUSE mount, so not even root can.
fn fuse_of_another_user_is_ignored(bed: &Bed) -> Result<()> {
    let script = "(cat /fuse/x) 2>/dev/null || echo nothing; echo here";
    let run = run(bed, script, &["fuse"], &mount_fuse(54321), "")?;
    run.finish()?.is(0, "nothing\nhere\n", "").map(drop)
}

/// The message names the mount. QEMU's virtiofsd would have to remount it read-only, so
/// `chrootvm` refuses to run; with the Rust virtiofsd it warns.
fn dead_fuse_mount_is_reported(bed: &Bed) -> Result<()> {
    let run = run(bed, "echo here", &["fuse"], &mount_fuse(0), "")?;
    let dead = "/fuse (fuse) does not answer";
    let daemon = virtiofsd::find(bed.virtiofsd.as_deref())?;
    let machine = match daemon.flavour {
        Flavour::C => run.finish()?.says(125, "", &["error: ", dead, "umount -l"])?,
        Flavour::Rust { .. } => run.finish()?.says(0, "here\n", &["warning: ", dead])?,
    };
    let left = fs::read_dir(machine.root().join("fuse")).context("look below the mount")?;
    ensure!(left.count() == 0, "the mount is left over");
    Ok(())
}

/// The user may not look into the directory above the mount, as in /run/user.
fn unreachable_mount_is_ignored(bed: &Bed) -> Result<()> {
    let user = UserBed::new(bed, RANGES)?;
    let run = user.run("ls -A /closed 2>/dev/null; cat /open/text")?;
    for dir in ["closed", "open"] {
        fs::create_dir(run.machine.root().join(dir))?;
    }
    let mounts = "mount -t tmpfs -o mode=700 tmpfs $root/closed
                  mkdir -p $root/closed/in/side
                  mount -t tmpfs tmpfs $root/closed/in
                  mkdir $root/closed/in/side
                  mount -t tmpfs tmpfs $root/closed/in/side
                  mount -t tmpfs tmpfs $root/open
                  echo text > $root/open/text";
    with_mounts(run, mounts, "").finish()?.is(0, "text\n", "").map(drop)
}
