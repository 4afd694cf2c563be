//! Shared directories in which something is mounted.
//!
//! The mounts are made in a mount namespace that ends with chrootvm
//! (mount_namespaces(7)), so nothing has to be undone. FUSE mounts have no server:
//! the kernel answers for one of another user, and nobody for one of ours.

use std::fs;

use anyhow::{Context, Result, ensure};
use machine::process::virtiofsd::{self, Flavour};

use crate::Case;
use crate::command_run::CommandRun;
use crate::harness::Bed;
use crate::unprivileged::{RANGES, Stage};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("an_overlay_shows_what_is_mounted", an_overlay_shows_what_is_mounted),
    ("mounts_are_read_only",             mounts_are_read_only),
    ("hidden_mounts_do_not_matter",      hidden_mounts_do_not_matter),
    ("fuse_of_another_user",             fuse_of_another_user),
    ("a_dead_mount_is_told",             a_dead_mount_is_told),
];

#[rustfmt::skip]
pub(crate) const CASES_OF_USERS: &[Case] = &[
    ("a_mount_out_of_reach", a_mount_out_of_reach),
];

/// `script` for the guest, with `mounts` made on the host in `$root` before, and
/// `after` done there when chrootvm has ended well.
fn run(bed: &Bed, script: &str, dirs: &[&str], mounts: &str, after: &str) -> Result<CommandRun> {
    let run = bed.sh(script)?;
    for dir in dirs {
        fs::create_dir_all(run.guest.root().join(dir))?;
    }
    Ok(mounted(run, mounts, after))
}

fn mounted(run: CommandRun, mounts: &str, after: &str) -> CommandRun {
    let root = run.guest.root();
    let wrapper = format!(
        "exec unshare --mount sh -ec 'root=$1; shift\n{mounts}\n\"$@\"\n{after}' sh {} \"$@\"",
        root.display()
    );
    run.through(&wrapper)
}

/// Mounts of a chroot in use: devices, processes, a part of its files.
const CHROOT: &str = "mount --bind /dev $root/dev
    mount -t proc proc $root/proc
    mount -t tmpfs tmpfs $root/var
    echo var > $root/var/text
    mkdir $root/var/deep
    mount -t tmpfs -o nosuid,nodev,noexec,noatime tmpfs $root/var/deep
    echo deep > $root/var/deep/text";

fn an_overlay_shows_what_is_mounted(bed: &Bed) -> Result<()> {
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
    let is_it = finished.status == 0 && finished.stdout() == b"var\ndeep\nvar\ntext\n";
    finished.check(is_it, || "a mount can be written to, or is missing".into()).map(drop)
}

/// Mounts that no path reaches any more, below another mount and at the same directory.
fn hidden_mounts_do_not_matter(bed: &Bed) -> Result<()> {
    let mounts = "mount -t tmpfs tmpfs $root/a/b
                  mount -t tmpfs tmpfs $root/a
                  mount -t tmpfs tmpfs $root/a
                  echo top > $root/a/text";
    run(bed, "cat /a/text; ls /a", &["a/b"], mounts, "")?.finish()?.is(0, "top\ntext\n", "")?;
    Ok(())
}

/// Shell commands that make a FUSE mount of `user` without a server.
fn fuse(user: u32) -> String {
    format!(
        "exec 9<>/dev/fuse
         mount -i -t fuse -o fd=9,rootmode=40000,user_id={user},group_id=0 fuse $root/fuse"
    )
}

/// Not even root may ask it anything.
fn fuse_of_another_user(bed: &Bed) -> Result<()> {
    let script = "(cat /fuse/x) 2>/dev/null || echo nothing; echo here";
    let run = run(bed, script, &["fuse"], &fuse(54321), "")?;
    run.finish()?.is(0, "nothing\nhere\n", "").map(drop)
}

/// The mount is named. QEMU's daemon needs it mounted read-only and is refused; the
/// Rust daemon runs.
fn a_dead_mount_is_told(bed: &Bed) -> Result<()> {
    let run = run(bed, "echo here", &["fuse"], &fuse(0), "")?;
    let dead = "/fuse (fuse) does not answer";
    let daemon = virtiofsd::find(bed.virtiofsd.as_deref())?;
    let guest = match daemon.flavour {
        Flavour::C => run.finish()?.says(125, "", &["error: ", dead, "umount -l"])?,
        Flavour::Rust { .. } => run.finish()?.says(0, "here\n", &["warning: ", dead])?,
    };
    let left = fs::read_dir(guest.root().join("fuse")).context("look below the mount")?;
    ensure!(left.count() == 0);
    Ok(())
}

/// Below a directory that only another user may look into, as in /run/user.
fn a_mount_out_of_reach(bed: &Bed) -> Result<()> {
    let stage = Stage::new(bed, RANGES)?;
    let run = stage.run("ls -A /closed 2>/dev/null; cat /open/text")?;
    for dir in ["closed", "open"] {
        fs::create_dir(run.guest.root().join(dir))?;
    }
    let mounts = "mount -t tmpfs -o mode=700 tmpfs $root/closed
                  mkdir -p $root/closed/in/side
                  mount -t tmpfs tmpfs $root/closed/in
                  mkdir $root/closed/in/side
                  mount -t tmpfs tmpfs $root/closed/in/side
                  mount -t tmpfs tmpfs $root/open
                  echo text > $root/open/text";
    mounted(run, mounts, "").finish()?.is(0, "text\n", "").map(drop)
}
