//! What goes wrong, the line that says so, and how the machine ends.
//!
//! chrootvm asks for `virtinit.fail=reboot`, which it turns into exit status
//! 125; a fatal error must never look like success, nor hang, nor panic.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::Result;
use xtask::archive::Archive;

use crate::Case;
use crate::harness::Bed;

/// chrootvm's status for a machine that did not power off.
const TROUBLE: i32 = 125;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("missing_root_tag",          missing_root_tag),
    ("missing_mount_tag",         missing_mount_tag),
    ("bad_tag",                   bad_tag),
    ("default_policy_powers_off", default_policy_powers_off),
    ("missing_payload",           missing_payload),
    ("payload_not_executable",    payload_not_executable),
    ("payload_is_a_directory",    payload_is_a_directory),
    ("missing_interpreter",       missing_interpreter),
    ("foreign_program",           foreign_program),
    ("payload_exits",             payload_exits),
    ("no_modules",                no_modules),
    ("damaged_module",            damaged_module),
    ("root_without_directories",  root_without_directories),
    ("root_with_hostile_links",   root_with_hostile_links),
    ("unknown_words",             unknown_words),
];

fn missing_root_tag(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("echo wrong root")?;
    guest.append("rootfs=gone");
    guest
        .boot()?
        .ends_with(TROUBLE, &[
            "virtinit: mount virtiofs tag \"gone\" at /sysroot: EINVAL: no such tag; the host must \
             export it (QEMU: -device vhost-user-fs-pci,tag=...), and its transport's module \
             (virtio_pci, virtio_mmio) must be packed",
        ])?
        .lacks("Kernel panic")
}

fn missing_mount_tag(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("echo not reached")?;
    guest.append("mount=gone");
    let boot = guest.boot()?;
    if !boot.console.contains("mount virtiofs tag \"gone\" at /run/mnt/gone: EINVAL") {
        return Err(boot.failure("the tag is not named"));
    }
    boot.ends_with(TROUBLE, &[])?.lacks("Kernel panic")
}

fn bad_tag(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("echo not reached")?;
    guest.append("mount=../../etc");
    guest
        .boot()?
        .ends_with(TROUBLE, &[
            "virtinit: virtiofs tag \"../../etc\": it contains '/': a tag is 1-36 bytes without '/'",
        ])?
        .lacks("Kernel panic")
}

/// The contract's default, as osbuild has it: the machine powers off.
fn default_policy_powers_off(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("echo wrong root")?;
    guest.append("rootfs=gone virtinit.fail=poweroff");
    guest.boot()?.ends_with(0, &["reboot: Power down"])?.lacks("Kernel panic")
}

fn payload(bed: &Bed, path: &str, mode: u32, text: &[u8], line: &str) -> Result<()> {
    let mut guest = bed.guest("echo wrong payload")?;
    let file = guest.root().join("bin/payload");
    fs::write(&file, text)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
    guest.payload(path);
    guest.boot()?.ends_with(TROUBLE, &[line])?.lacks("Kernel panic")
}

fn missing_payload(bed: &Bed) -> Result<()> {
    payload(
        bed,
        "/sbin/gone",
        0o755,
        b"",
        "virtinit: find init=/sbin/gone in the new root: ENOENT: no such file; init= names a \
         program inside the root, or below /run/mnt",
    )
}

fn payload_not_executable(bed: &Bed) -> Result<()> {
    payload(
        bed,
        "/bin/payload",
        0o644,
        b"#!/bin/sh\n",
        "virtinit: find init=/bin/payload in the new root: EACCES: it is not executable; chmod +x it",
    )
}

fn payload_is_a_directory(bed: &Bed) -> Result<()> {
    payload(
        bed,
        "/bin",
        0o755,
        b"",
        "virtinit: find init=/bin in the new root: EACCES: it is no regular file; init= must name \
         a program",
    )
}

fn missing_interpreter(bed: &Bed) -> Result<()> {
    payload(
        bed,
        "/bin/payload",
        0o755,
        b"#!/usr/bin/python9\n",
        "virtinit: execute init=/bin/payload: ENOENT: the interpreter that its first line or its \
         ELF header names is missing in the root",
    )
}

fn foreign_program(bed: &Bed) -> Result<()> {
    payload(
        bed,
        "/bin/payload",
        0o755,
        b"MZ no program for Linux",
        "virtinit: execute init=/bin/payload: ENOEXEC: it is no program for this machine: wrong \
         architecture, or a script without #!",
    )
}

/// PID 1 that exits is a kernel panic; it ends the machine and is no success.
fn payload_exits(bed: &Bed) -> Result<()> {
    let guest = bed.guest("echo leaving; exit 0")?;
    let boot = guest.boot()?;
    if !boot.console.contains("Kernel panic - not syncing: Attempted to kill init!") {
        return Err(boot.failure("no panic"));
    }
    boot.ends_with(TROUBLE, &["leaving"]).map(drop)
}

fn no_modules(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("echo not reached")?;
    let init = fs::read(bed.init())?;
    guest.initrd(&xtask::pack::initrd(init, None, &[])?)?;
    guest
        .boot()?
        .ends_with(
            TROUBLE,
            &["virtinit: mount virtiofs tag \"rootfs\" at /sysroot: ENODEV: this kernel has no \
             virtiofs; pack its module (virtiofs.ko)"],
        )?
        .lacks("Kernel panic")
}

/// A module that does not load is reported, and the boot goes on.
fn damaged_module(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("echo booted all the same")?;
    let root = xtask::rootdir::RootDir::open(Path::new("/"))?;
    let init = xtask::pack::read_init(&bed.init())?;
    let mut bytes = xtask::pack::initrd(init, Some((&root, &bed.kernel.modules)), &[])?;
    let mut more = Archive::default();
    more.add_file("usr/lib/modules/000-empty.ko", 0o644, Vec::new());
    more.add_file("usr/lib/modules/000-text.ko", 0o644, b"no module".repeat(20));
    more.add_file("usr/lib/modules/readme", 0o644, b"not even named as one".to_vec());
    more.write(&mut bytes, 0)?;
    guest.initrd(&bytes)?;
    guest.boot()?.shows(&[
        "virtinit: load 000-empty.ko: EINVAL: it is empty, or a parameter of it is wrong",
        "virtinit: load 000-text.ko: ENOEXEC: it is no module of this kernel (version magic or \
         format); see the kernel's own message",
        "booted all the same",
    ])
}

fn root_without_directories(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("ls -1 /; awk '{ print $2 }' /proc/mounts")?;
    for name in ["sys", "tmp", "run"] {
        fs::remove_dir(guest.root().join(name))?;
    }
    guest.mount("--mount", "lost")?;
    let boot = guest.boot()?.ends_with(
        0,
        &[
            "virtinit: the root has no /run: the mounts below /run/mnt are lost",
            "/proc",
            "/dev",
            "/dev/shm",
            "bin",
        ],
    )?;
    match boot.console.lines().any(|line| ["/sys", "/tmp", "/run"].contains(&line)) {
        true => Err(boot.failure("something is mounted on a directory that is not there")),
        false => boot.lacks("Kernel panic"),
    }
}

/// Absolute links in the root lead to the root's own directories, never into the
/// initramfs that is about to go.
fn root_with_hostile_links(bed: &Bed) -> Result<()> {
    let guest = bed.guest("awk '$3 == \"tmpfs\" { print $2 }' /proc/mounts; ls -ld /sys")?;
    let root = guest.root();
    fs::create_dir_all(root.join("var/tmp"))?;
    fs::remove_dir(root.join("tmp"))?;
    symlink("/var/tmp", root.join("tmp"))?;
    fs::remove_dir(root.join("sys"))?;
    symlink("/sysroot", root.join("sys"))?;
    fs::remove_dir(root.join("run"))?;
    symlink("run", root.join("run"))?;
    guest.boot()?.shows(&["/var/tmp", "/dev/shm"])
}

fn unknown_words(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest("echo booted; env | grep -x nonsense=1")?;
    guest.append("nonsense=1 virtinit.nonsense=2 root=/dev/vda rootfstype=ext4");
    let known = "known: virtinit.debug, virtinit.fail=poweroff|reboot|panic";
    guest.boot()?.shows(&[
        &format!("virtinit: unknown parameter \"virtinit.nonsense\" ignored; {known}"),
        "virtinit: root=/dev/vda ignored: only rootfstype=virtiofs can be mounted",
        "booted",
        "nonsense=1",
    ])
}
