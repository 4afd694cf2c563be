//! The fault matrix: how a boot is broken, the line that says so, how it ends.
//!
//! Each row is a boot of its own. chrootvm asks for `virtinit.fail=reboot`,
//! which it turns into exit status 125; a fatal error must never look like
//! success, nor hang, nor panic.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use anyhow::{Context, Result};

use crate::harness::{Bed, Guest};
use crate::initrd;

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The payload runs all the same, and powers off.
    Boots,
    /// /init gives up; `virtinit.fail=reboot`.
    GivesUp,
    /// /init gives up; the machine powers off.
    PowersOff,
    /// The kernel panics.
    Panics,
}

/// One row.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    make: fn(&Bed, &mut Guest) -> Result<()>,
    line: &'static str,
    end: End,
}

/// What the payload says where it is reached.
const REACHED: &str = "the payload runs";

/// A row whose machine is broken by words of the command line.
macro_rules! words {
    ($name:literal, $words:expr, $end:ident, $line:expr) => {
        Fault {
            name: $name,
            make: |_, guest| {
                guest.append($words);
                Ok(())
            },
            line: $line,
            end: End::$end,
        }
    };
}

/// A row whose payload is a file of this mode and contents.
macro_rules! payload {
    ($name:literal, $mode:literal, $contents:expr, $line:expr) => {
        Fault {
            name: $name,
            make: |_, guest| payload(guest, $mode, ($contents).as_ref()),
            line: $line,
            end: End::GivesUp,
        }
    };
}

/// A row whose root is changed.
macro_rules! root {
    ($name:literal, $change:expr, $end:ident, $line:expr) => {
        Fault { name: $name, make: |_, guest| $change(guest), line: $line, end: End::$end }
    };
}

/// A row whose initrd is changed.
macro_rules! modules {
    ($name:literal, $change:expr, $end:ident, $line:expr) => {
        Fault {
            name: $name,
            make: |bed, guest| guest.initrd(&$change(bed)?),
            line: $line,
            end: End::$end,
        }
    };
}

#[rustfmt::skip]
pub(crate) const MATRIX: &[Fault] = &[
    // Tags.
    words!("root_tag_missing", "rootfs=gone virtinit.wait=0", GivesUp,
        "virtinit: mount virtiofs tag \"gone\" at /sysroot: EINVAL: no such tag; the host must export it (QEMU: -device vhost-user-fs-pci,tag=...), and its transport's module (virtio_pci, virtio_mmio) must be packed"),
    words!("root_tag_waited_for", "root=gone rootfstype=virtiofs virtinit.wait=1", GivesUp,
        "virtinit: mount virtiofs tag \"gone\" at /sysroot: EINVAL: no such tag; the host must export it (QEMU: -device vhost-user-fs-pci,tag=...), and its transport's module (virtio_pci, virtio_mmio) must be packed"),
    words!("mount_tag_missing", "mount=gone virtinit.wait=0", GivesUp,
        "virtinit: mount virtiofs tag \"gone\" at /run/mnt/gone: EINVAL: no such tag; the host must export it (QEMU: -device vhost-user-fs-pci,tag=...), and its transport's module (virtio_pci, virtio_mmio) must be packed"),
    words!("mount_ro_tag_missing", "mount-ro=go,ne virtinit.wait=0", GivesUp,
        "virtinit: mount virtiofs tag \"go,ne\" at /run/mnt/go,ne: EINVAL: no such tag; the host must export it (QEMU: -device vhost-user-fs-pci,tag=...), and its transport's module (virtio_pci, virtio_mmio) must be packed"),
    words!("tag_with_spaces", "mount=\"a b\" virtinit.wait=0", GivesUp,
        "virtinit: mount virtiofs tag \"a b\" at /run/mnt/a b: EINVAL: no such tag; the host must export it (QEMU: -device vhost-user-fs-pci,tag=...), and its transport's module (virtio_pci, virtio_mmio) must be packed"),
    words!("tag_not_utf8", "mount=é virtinit.wait=0", GivesUp,
        "virtinit: mount virtiofs tag \"\\xc3\\xa9\" at /run/mnt/\\xc3\\xa9: EINVAL: no such tag; the host must export it (QEMU: -device vhost-user-fs-pci,tag=...), and its transport's module (virtio_pci, virtio_mmio) must be packed"),
    words!("tag_with_slash", "mount=../../etc", GivesUp,
        "virtinit: virtiofs tag \"../../etc\": it contains '/': a tag is 1-36 bytes without '/'"),
    words!("tag_dot", "mount=.", GivesUp,
        "virtinit: virtiofs tag \".\": it names a directory: a tag is 1-36 bytes without '/'"),
    words!("tag_dot_dot", "mount-ro=..", GivesUp,
        "virtinit: virtiofs tag \"..\": it names a directory: a tag is 1-36 bytes without '/'"),
    words!("tag_too_long", "rootfs=0123456789012345678901234567890123456", GivesUp,
        "virtinit: virtiofs tag \"0123456789012345678901234567890123456\": it is longer than 36 bytes: a tag is 1-36 bytes without '/'"),
    Fault { name: "tag_twice", make: |_, guest| guest.mount("--mount", "a").map(|_| guest.append("mount-ro=a")), end: End::Boots,
        line: "virtinit: virtiofs tag \"a\" given twice; the last one wins" },
    // The command line.
    words!("bare_words_shadow_nothing", "rootfs init mount mount-ro rootfs= init= mount=", Boots,
        "the payload runs"),
    words!("unknown_word", "nonsense=1 more-nonsense", Boots,
        "the payload runs"),
    words!("unknown_word_of_ours", "virtinit.nonsense=2", Boots,
        "virtinit: unknown parameter \"virtinit.nonsense=2\" ignored; known: virtinit.debug, virtinit.etc=tmpfs|overlay, virtinit.fail=poweroff|reboot|panic|shell, virtinit.mount=SOURCE:PATH[:TYPE[:OPTIONS]], virtinit.overlay[=SIZE], virtinit.wait=SECONDS"),
    words!("bad_wait", "virtinit.wait=soon", Boots,
        "virtinit: virtinit.wait=soon ignored: the value must be a number of seconds"),
    words!("bad_policy", "virtinit.fail=explode", Boots,
        "virtinit: virtinit.fail=explode ignored: the value must be one of poweroff, reboot, panic, shell"),
    words!("policy_poweroff", "rootfs=.. virtinit.fail=poweroff", PowersOff,
        "reboot: Power down"),
    words!("policy_panic", "rootfs=.. virtinit.fail=panic", Panics,
        "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"),
    words!("policy_shell_without_shell", "rootfs=.. virtinit.fail=shell", PowersOff,
        "virtinit: neither the initramfs nor the root has a /bin/sh"),
    Fault { name: "policy_shell", make: |_, guest| { guest.input("echo the shell answers; poweroff -f\n"); guest.payload("/bin/gone"); guest.append("virtinit.fail=shell"); Ok(()) }, end: End::PowersOff,
        line: "the shell answers" },
    words!("kernel_log_locked", "rootfs=.. printk.devkmsg=off console=tty0", GivesUp,
        "virtinit: virtiofs tag \"..\": it names a directory: a tag is 1-36 bytes without '/'"),
    words!("kernel_log_limited", "rootfs=.. printk.devkmsg=ratelimit loglevel=0 console=tty0", GivesUp,
        "virtinit: virtiofs tag \"..\": it names a directory: a tag is 1-36 bytes without '/'"),
    // Block devices.
    words!("device_missing", "root=/dev/vdz rootfstype=ext4 virtinit.wait=0", GivesUp,
        "virtinit: find root=/dev/vdz: no such device; block devices: none; a driver's module (virtio_blk) must be packed, and the host must have attached a disk"),
    words!("device_not_waited_for_without_value", "root=/dev/vdz rootfstype=ext4 rootwait= virtinit.wait=0", GivesUp,
        "virtinit: rootwait= ignored: the value must be a number of seconds"),
    words!("device_is_none", "root=/dev/null rootfstype=ext4", GivesUp,
        "virtinit: mount root=/dev/null at /sysroot: ENOTBLK: it is no block device"),
    words!("device_is_none_without_type", "root=/dev/null", GivesUp,
        "virtinit: mount root=/dev/null at /sysroot: ENOTBLK: it is no block device"),
    words!("device_of_unknown_type", "root=/dev/null rootfstype=nonsense", GivesUp,
        "virtinit: mount root=/dev/null at /sysroot: ENODEV: this kernel does not know that file system type; pack its module"),
    words!("device_uuid_malformed", "root=UUID=1234", GivesUp,
        "virtinit: UUID=1234: malformed: a UUID has 8-4-4-4-12 hexadecimal digits; a partition of an MBR, 8-2"),
    words!("root_of_no_kind", "root=host rootfstype=9p", Boots,
        "virtinit: root=host ignored: it is no device, and no tag without rootfstype=virtiofs"),
    words!("extra_mount_without_place", "virtinit.mount=x:/gone:tmpfs", GivesUp,
        "virtinit: mount virtinit.mount at /gone: ENOENT: no such directory in the root; make it there, mount below /run, or use --overlay"),
    words!("extra_mount_with_words_of_fstab", "virtinit.mount=x:/tmp:tmpfs:nofail,noauto,_netdev,x-systemd.automount,async,atime,diratime,user,owner,group,size=1m virtinit.debug", Boots,
        "virtinit: mounted virtinit.mount at /tmp"),
    words!("extra_mount_gone_may_fail", "virtinit.mount=/dev/vdz:/tmp:ext4:ro,nofail virtinit.wait=0", Boots,
        "virtinit: find virtinit.mount=/dev/vdz: no such device; block devices: none; a driver's module (virtio_blk) must be packed, and the host must have attached a disk; going on without (nofail)"),
    words!("extra_mount_without_place_may_fail", "virtinit.mount=x:/gone:tmpfs:nofail", Boots,
        "virtinit: mount virtinit.mount at /gone: ENOENT: no such directory in the root; make it there, mount below /run, or use --overlay; going on without (nofail)"),
    words!("extra_mount_malformed", "virtinit.mount=/dev/vdz", GivesUp,
        "virtinit: virtinit.mount=/dev/vdz: it is SOURCE:PATH[:TYPE[:OPTIONS]], PATH absolute"),
    // Modules.
    modules!("no_modules", initrd::without_modules, GivesUp,
        "virtinit: mount virtiofs tag \"rootfs\" at /sysroot: ENODEV: this kernel has no virtiofs; pack its module (virtiofs.ko)"),
    modules!("no_transport", |bed| initrd::without(bed, "virtio_pci"), GivesUp,
        "virtinit: mount virtiofs tag \"rootfs\" at /sysroot: EINVAL: the machine has no virtiofs device, or its transport's module (virtio_pci, virtio_mmio) is not packed"),
    modules!("dependency_missing", |bed| initrd::without(bed, "fuse"), GivesUp,
        "virtinit: load 008-virtiofs.ko: ENOENT: it needs a symbol of a module that is not packed, or that sorts after it, likely fuse; the kernel says: virtiofs: Unknown symbol …"),
    modules!("wrong_order", |bed| initrd::moved_to_front(bed, "virtiofs"), Boots,
        "virtinit: load 000-virtiofs.ko: ENOENT: it needs a symbol of a module that is not packed, or that sorts after it, likely virtio; the kernel says: virtiofs: Unknown symbol …"),
    modules!("module_twice", initrd::twice, Boots,
        "the payload runs"),
    modules!("module_empty", |bed| initrd::with(bed, "empty.ko", Vec::new()), Boots,
        "virtinit: load 000-empty.ko: EINVAL: it is empty, or a parameter of it is wrong"),
    modules!("module_of_text", |bed| initrd::with(bed, "text.ko", b"no module ".repeat(20)), Boots,
        "virtinit: load 000-text.ko: ENOEXEC: it is no module of this kernel (version magic or format); the kernel says: Invalid ELF header magic…"),
    modules!("module_truncated", |bed| initrd::changed(bed, "fuse", |ko| ko.truncate(ko.len() / 2)), GivesUp,
        "virtinit: load 007-fuse.ko: ENOEXEC: it is no module of this kernel (version magic or format); the kernel says: …"),
    modules!("module_without_sections", |bed| initrd::changed(bed, "fuse", |ko| ko.truncate(64)), GivesUp,
        "virtinit: load 007-fuse.ko: ENOEXEC: it is no module of this kernel (version magic or format); the kernel says: …"),
    modules!("module_signature_damaged", |bed| initrd::changed(bed, "virtio_mmio", |ko| ko[5000] ^= 1), Boots,
        "virtinit: load 006-virtio_mmio.ko: EKEYREJECTED: its signature is damaged, or of a key that this kernel does not know"),
    modules!("module_of_another_kernel", |bed| initrd::changed(bed, "virtio_mmio", initrd::other_version), Boots,
        "virtinit: load 006-virtio_mmio.ko: ENOEXEC: it is no module of this kernel (version magic or format); the kernel says: virtio_mmio: version magic '…"),
    modules!("module_compressed", |bed| initrd::with(bed, "gz.ko.gz", vec![0x1f, 0x8b, 8, 0]), Boots,
        "virtinit: load 000-gz.ko.gz: EOPNOTSUPP: this kernel does not load compressed modules: pack them uncompressed"),
    modules!("what_is_no_module", |bed| initrd::with(bed, "readme.txt", b"read me".to_vec()), Boots,
        "the payload runs"),
    words!("module_parameter_wrong", "fuse.max_user_bgreq=many", GivesUp,
        "virtinit: load 006-fuse.ko: EINVAL: it is empty, or a parameter of it is wrong; the kernel says: fuse: `many' invalid for parameter `max_user_bgreq'"),
    // Payloads.
    words!("payload_missing", "init=/sbin/gone", GivesUp,
        "virtinit: find init=/sbin/gone in the new root: ENOENT: no such file; init= names a program inside the root, or below /run/mnt"),
    words!("payload_below_a_file", "init=/bin/busybox/x", GivesUp,
        "virtinit: find init=/bin/busybox/x in the new root: ENOTDIR: a part of the path is no directory"),
    words!("payload_is_a_directory", "init=/bin", GivesUp,
        "virtinit: find init=/bin in the new root: EACCES: it is no regular file; init= must name a program"),
    words!("payload_is_a_device", "init=/dev/null", GivesUp,
        "virtinit: find init=/dev/null in the new root: EACCES: it is no regular file; init= must name a program"),
    payload!("payload_not_executable", 0o644, b"#!/bin/sh\n",
        "virtinit: find init=/bin/payload in the new root: EACCES: it is not executable; chmod +x it"),
    payload!("payload_empty", 0o755, b"",
        "virtinit: find init=/bin/payload in the new root: ENOEXEC: it is empty"),
    payload!("payload_is_text", 0o755, b"echo hello\n",
        "virtinit: find init=/bin/payload in the new root: ENOEXEC: it is no program: neither ELF nor a script that starts with #!"),
    payload!("payload_foreign", 0o755, elf(183, 64),
        "virtinit: find init=/bin/payload in the new root: ENOEXEC: it is a program for another architecture"),
    payload!("payload_elf_cut", 0o755, elf(62, 64)[..20],
        "virtinit: find init=/bin/payload in the new root: ENOEXEC: its ELF header is truncated"),
    payload!("script_without_interpreter", 0o755, b"#!/usr/bin/python9 -u\n",
        "virtinit: find /usr/bin/python9, the interpreter of init=/bin/payload, in the new root: ENOENT: no such file; install it there, or name a program that needs none"),
    Fault { name: "elf_without_interpreter", make: |_, guest| payload(guest, 0o755, &fs::read("/bin/true")?), end: End::GivesUp,
        line: "virtinit: find /lib64/ld-linux-x86-64.so.2, the interpreter of init=/bin/payload, in the new root: ENOENT: no such file; install it there, or name a program that needs none" },
    payload!("elf_without_segments", 0o755, elf(62, 64),
        "virtinit: execute init=/bin/payload: ENOEXEC: it is no program for this machine: wrong architecture, or a script without #!"),
    Fault { name: "payload_link_dangles", make: |_, guest| link(guest, "/nowhere", "bin/payload").map(|()| guest.payload("/bin/payload")), end: End::GivesUp,
        line: "virtinit: find init=/bin/payload in the new root: ENOENT: no such file; init= names a program inside the root, or below /run/mnt" },
    Fault { name: "payload_link_loops", make: |_, guest| link(guest, "payload", "bin/payload").map(|()| guest.payload("/bin/payload")), end: End::GivesUp,
        line: "virtinit: find init=/bin/payload in the new root: ELOOP: too many symbolic links" },
    Fault { name: "payload_exits", make: |_, guest| payload(guest, 0o755, b"#!/bin/sh\nexit 3\n"), end: End::Panics,
        line: "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000300" },
    // Roots.
    root!("root_without_run", |guest: &mut Guest| remove(guest, &["run"]).and_then(|()| guest.mount("--mount", "lost")).map(drop), Boots,
        "virtinit: the root has no /run: the mounts below /run/mnt are lost"),
    root!("root_with_nothing_but_bin", |guest: &mut Guest| remove(guest, &["run", "dev", "proc", "sys", "tmp"]), PowersOff,
        "the payload runs"),
    root!("root_with_a_file_for_proc", |guest: &mut Guest| remove(guest, &["proc"]).and_then(|()| Ok(fs::write(guest.root().join("proc"), "")?)), Boots,
        "the payload runs"),
    root!("root_with_tmp_led_away", |guest: &mut Guest| remove(guest, &["tmp"]).and_then(|()| link(guest, "/bin", "tmp")), GivesUp,
        "virtinit: find init=/bin/test-init in the new root: ENOENT: no such file; init= names a program inside the root, or below /run/mnt"),
    root!("root_with_tmp_in_run", |guest: &mut Guest| remove(guest, &["tmp"]).and_then(|()| link(guest, "/run", "tmp")), Boots,
        "the payload runs"),
    root!("root_with_dev_led_to_itself", |guest: &mut Guest| remove(guest, &["dev"]).and_then(|()| link(guest, "/", "dev")), Boots,
        "the payload runs"),
    root!("root_with_sys_in_the_initramfs", |guest: &mut Guest| remove(guest, &["sys"]).and_then(|()| link(guest, "/sysroot", "sys")), Boots,
        "the payload runs"),
    root!("root_with_run_looping", |guest: &mut Guest| remove(guest, &["run"]).and_then(|()| link(guest, "run", "run")), Boots,
        "the payload runs"),
    // Sizes.
    Fault { name: "little_memory", make: |_, guest| { guest.option("--memory", "96M"); Ok(()) }, end: End::Boots,
        line: REACHED },
    modules!("a_hundred_megabytes_of_modules", |bed| initrd::with(bed, "big.ko", vec![0x55; 100 << 20]), Boots,
        "the payload runs"),
    modules!("two_hundred_modules", |bed| initrd::more(bed, 200), Boots,
        "the payload runs"),
    words!("thirty_two_mounts", "mount=a1 mount=a2 mount=a3 mount=a4 mount=a5 mount=a6 mount=a7 mount=a8 mount=a9 mount=b1 mount=b2 mount=b3 mount=b4 mount=b5 mount=b6 mount=b7 mount=b8 mount=b9 mount=c1 mount=c2 mount=c3 mount=c4 mount=c5 mount=c6 mount=c7 mount=c8 mount=c9 mount=d1 mount=d2 mount=d3 mount=d4 mount=d5 virtinit.wait=0", GivesUp,
        "virtinit: mount virtiofs tag \"a1\" at /run/mnt/a1: EINVAL: no such tag; the host must export it (QEMU: -device vhost-user-fs-pci,tag=...), and its transport's module (virtio_pci, virtio_mmio) must be packed"),
];

impl Fault {
    /// Boots the broken machine and compares.
    pub(crate) fn check(&self, bed: &Bed) -> Result<()> {
        let mut guest = bed.guest(&format!("echo {REACHED}"))?;
        (self.make)(bed, &mut guest)?;
        let boot = guest.boot()?;
        let (status, panics, reached) = match self.end {
            End::Boots => (0, false, true),
            End::PowersOff => (0, false, self.line == REACHED),
            End::GivesUp => (125, false, false),
            End::Panics => (125, true, false),
        };
        if boot.console.contains("Kernel panic") != panics {
            return Err(boot.failure("a panic, or the lack of one"));
        }
        if boot.console.contains(REACHED) != reached {
            return Err(boot.failure("the payload runs where it should not, or does not run"));
        }
        boot.ends_with(status, &[self.line]).map(drop)
    }
}

/// Puts a payload at `/bin/payload`.
fn payload(guest: &mut Guest, mode: u32, contents: &[u8]) -> Result<()> {
    let file = guest.root().join("bin/payload");
    fs::write(&file, contents)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
    guest.payload("/bin/payload");
    Ok(())
}

fn remove(guest: &mut Guest, names: &[&str]) -> Result<()> {
    names.iter().try_for_each(|name| fs::remove_dir(guest.root().join(name)).context("remove"))
}

fn link(guest: &mut Guest, target: &str, name: &str) -> Result<()> {
    symlink(target, guest.root().join(name)).context("link")
}

/// The header of an ELF program without segments.
fn elf(machine: u8, size: usize) -> Vec<u8> {
    let mut header = vec![0; size];
    header[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    header[16] = 2; // ET_EXEC
    header[18] = machine;
    header[20] = 1; // EV_CURRENT
    header[52] = 64; // e_ehsize
    header[54] = 56; // e_phentsize
    header
}
