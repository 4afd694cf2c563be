//! The fault matrix: a change that breaks a boot, the message about it, the end of the boot.
//!
//! Each row is a boot of its own. `chrootvm` asks for `virtinit.fail=reboot`, and turns that
//! reset into exit status 125. A fatal error must not look like success, hang, or panic.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use anyhow::{Context, Result};

use crate::harness::make::initrd;
use crate::harness::{Bed, Machine};

/// The end of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BootEnd {
    /// The payload runs in spite of the fault, and powers off.
    Boots,
    /// `/init` gives up, and resets the machine.
    GivesUp,
    /// `/init` gives up, and powers off.
    PowersOff,
    /// The kernel panics.
    Panics,
}

/// One row of the matrix.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    make: fn(&Bed, &mut Machine) -> Result<()>,
    line: &'static str,
    end: BootEnd,
}

/// The message of the payload.
const REACHED: &str = "the payload runs";

/// Machine of an ELF program: ARM 64 bits (elf.h).
const EM_AARCH64: u8 = 183;

/// Machine of an ELF program: AMD x86-64 (elf.h).
const EM_X86_64: u8 = 62;

/// The message about a virtiofs tag that the machine does not have.
macro_rules! no_tag {
    ($tag:literal, $directory:literal) => {
        concat!(
            "virtinit: mount virtiofs tag \"",
            $tag,
            "\" at ",
            $directory,
            ": EINVAL: no such tag; \
             the host must export it (QEMU: -device vhost-user-fs-pci,tag=...), and its \
             transport's module (virtio_pci) must be packed"
        )
    };
}

/// A row with a changed machine.
macro_rules! machine {
    ($name:literal, |$machine:ident| $change:expr, $end:ident, $line:expr) => {
        Fault { name: $name, make: |_, $machine| $change, line: $line, end: BootEnd::$end }
    };
}

/// A row with more words on the kernel's command line.
macro_rules! words {
    ($name:literal, $words:expr, $end:ident, $line:expr) => {
        machine!(
            $name,
            |machine| {
                machine.append($words);
                Ok(())
            },
            $end,
            $line
        )
    };
}

/// A row whose payload is a file with this mode and these contents.
macro_rules! payload {
    ($name:literal, $mode:literal, $contents:expr, $line:expr) => {
        machine!($name, |machine| payload(machine, $mode, ($contents).as_ref()), GivesUp, $line)
    };
}

/// A row with a changed initrd.
macro_rules! modules {
    ($name:literal, $change:expr, $end:ident, $line:expr) => {
        Fault {
            name: $name,
            make: |bed, machine| machine.initrd(&$change(bed)?),
            line: $line,
            end: BootEnd::$end,
        }
    };
}

#[rustfmt::skip]
pub(crate) const MATRIX: &[Fault] = &[
    // Tags of virtiofs.
    words!("root_tag_missing", "rootfs=gone virtinit.wait=0", GivesUp, no_tag!("gone", "/sysroot")),
    words!("root_tag_waited_for", "root=gone rootfstype=virtiofs virtinit.wait=1", GivesUp, no_tag!("gone", "/sysroot")),
    machine!("tag_twice", |machine| machine.mount("--mount", "a").map(|_| machine.append("mount-ro=a")), Boots, "virtinit: virtiofs tag \"a\" given twice; the last one wins"),
    // The command line.
    words!("unknown_parameter_of_init_is_named", "virtinit.nonsense=2", Boots, "virtinit: unknown parameter \"virtinit.nonsense=2\" ignored; known: virtinit.debug, virtinit.etc=tmpfs|overlay, virtinit.fail=poweroff|reboot|panic|shell, virtinit.mount=SOURCE:PATH[:TYPE[:OPTIONS]], virtinit.overlay[=SIZE], virtinit.wait=SECONDS"),
    words!("policy_poweroff", "rootfs=.. virtinit.fail=poweroff", PowersOff, "reboot: Power down"),
    words!("policy_panic", "rootfs=.. virtinit.fail=panic", Panics, "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"),
    words!("policy_shell_without_shell", "rootfs=.. virtinit.fail=shell", PowersOff, "virtinit: neither the initramfs nor the root has a /bin/sh"),
    machine!("policy_shell", |machine| { machine.input("echo the shell answers; poweroff -f\n"); machine.payload("/bin/gone"); machine.append("virtinit.fail=shell"); Ok(()) }, PowersOff, "the shell answers"),
    words!("kernel_log_locked", "rootfs=.. printk.devkmsg=off console=tty0", GivesUp, "virtinit: virtiofs tag \"..\": it names a directory: a tag is 1-36 bytes without '/'"),
    // Block devices.
    words!("device_missing", "root=/dev/vdz rootfstype=ext4 virtinit.wait=0", GivesUp, "virtinit: find root=/dev/vdz: no such device; block devices: none; a driver's module (virtio_blk) must be packed, and the host must have attached a disk"),
    words!("extra_mount_without_directory", "virtinit.mount=x:/gone:tmpfs", GivesUp, "virtinit: mount virtinit.mount at /gone: ENOENT: the root lacks it; make it there, mount below /run, or use --overlay"),
    words!("extra_mount_with_fstab_options", "virtinit.mount=x:/tmp:tmpfs:nofail,noauto,_netdev,x-systemd.automount,async,atime,diratime,user,owner,group,size=1m virtinit.debug", Boots, "virtinit: mounted virtinit.mount at /tmp"),
    words!("extra_mount_of_missing_device_may_fail", "virtinit.mount=/dev/vdz:/tmp:ext4:ro,nofail virtinit.wait=0", Boots, "virtinit: find virtinit.mount=/dev/vdz: no such device; block devices: none; a driver's module (virtio_blk) must be packed, and the host must have attached a disk; going on without (nofail)"),
    // Modules.
    modules!("no_modules", initrd::without_modules, GivesUp, "virtinit: mount virtiofs tag \"rootfs\" at /sysroot: ENODEV: this kernel has no virtiofs; pack its module (virtiofs.ko)"),
    modules!("no_transport", |bed| initrd::without(bed, "virtio_pci"), GivesUp, "virtinit: mount virtiofs tag \"rootfs\" at /sysroot: EINVAL: the machine has no virtiofs device, or its transport's module (virtio_pci) is not packed"),
    modules!("dependency_missing", |bed| initrd::without(bed, "fuse"), GivesUp, "virtinit: load 008-virtiofs.ko: ENOENT: it needs a symbol of a module that is not packed, or that sorts after it, likely fuse; the kernel says: virtiofs: Unknown symbol …"),
    modules!("wrong_order", |bed| initrd::moved_to_front(bed, "virtiofs"), Boots, "virtinit: load 000-virtiofs.ko: ENOENT: it needs a symbol of a module that is not packed, or that sorts after it, likely virtio; the kernel says: virtiofs: Unknown symbol …"),
    modules!("module_empty", |bed| initrd::with(bed, "empty.ko", Vec::new()), Boots, "virtinit: load 000-empty.ko: EINVAL: it is empty, or a parameter of it is wrong"),
    modules!("module_of_another_kernel", |bed| initrd::changed(bed, "virtio_mmio", initrd::change_version), Boots, "virtinit: load 006-virtio_mmio.ko: ENOEXEC: it is no module of this kernel (version magic or format); the kernel says: virtio_mmio: version magic '…"),
    words!("module_parameter_wrong", "fuse.max_user_bgreq=many", GivesUp, "virtinit: load 006-fuse.ko: EINVAL: it is empty, or a parameter of it is wrong; the kernel says: fuse: `many' invalid for parameter `max_user_bgreq'"),
    // Payloads.
    words!("payload_missing", "init=/sbin/gone", GivesUp, "virtinit: find init=/sbin/gone in the new root: ENOENT: no such file; init= names a program inside the root, or below /run/mnt"),
    payload!("payload_foreign", 0o755, elf(EM_AARCH64), "virtinit: find init=/bin/payload in the new root: ENOEXEC: it is a program for another architecture"),
    payload!("script_without_interpreter", 0o755, b"#!/usr/bin/python9 -u\n", "virtinit: find /usr/bin/python9, the interpreter of init=/bin/payload, in the new root: ENOENT: install it there, or name a program that needs none"),
    machine!("elf_without_interpreter", |machine| payload(machine, 0o755, &fs::read("/bin/true")?), GivesUp, "virtinit: find /lib64/ld-linux-x86-64.so.2, the interpreter of init=/bin/payload, in the new root: ENOENT: install it there, or name a program that needs none"),
    machine!("payload_exits", |machine| payload(machine, 0o755, b"#!/bin/sh\nexit 3\n"), Panics, "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000300"),
    // Roots.
    machine!("root_without_run", |machine| remove(machine, &["run"]).and_then(|()| machine.mount("--mount", "lost")).map(drop), Boots, "virtinit: the root has no /run: the mounts below /run/mnt are lost"),
    // Sizes.
    machine!("little_memory", |machine| { machine.option("--memory", "96M"); Ok(()) }, Boots, REACHED),
    modules!("a_hundred_megabytes_of_modules", |bed| initrd::with(bed, "big.ko", vec![0x55; 100 << 20]), Boots, REACHED),
    words!("thirty_two_mounts", "mount=a1 mount=a2 mount=a3 mount=a4 mount=a5 mount=a6 mount=a7 mount=a8 mount=a9 mount=b1 mount=b2 mount=b3 mount=b4 mount=b5 mount=b6 mount=b7 mount=b8 mount=b9 mount=c1 mount=c2 mount=c3 mount=c4 mount=c5 mount=c6 mount=c7 mount=c8 mount=c9 mount=d1 mount=d2 mount=d3 mount=d4 mount=d5 virtinit.wait=0", GivesUp, no_tag!("a1", "/run/mnt/a1")),
];

/// Rows that take the way of another row; they run on request.
#[rustfmt::skip]
pub(crate) const MORE: &[Fault] = &[
    modules!("two_hundred_modules", |bed| initrd::with_more(bed, 200), Boots, REACHED),
    words!("device_is_no_block_device", "root=/dev/null rootfstype=ext4", GivesUp, "virtinit: mount root=/dev/null at /sysroot: ENOTBLK: it is no block device"),
    words!("tag_with_slash", "mount=../../etc", GivesUp, "virtinit: virtiofs tag \"../../etc\": it contains '/': a tag is 1-36 bytes without '/'"),
    payload!("payload_not_executable", 0o644, b"#!/bin/sh\n", "virtinit: find init=/bin/payload in the new root: EACCES: it is not executable; chmod +x it"),
    payload!("elf_without_segments", 0o755, elf(EM_X86_64), "virtinit: execute init=/bin/payload: ENOEXEC: it is no program for this machine: wrong architecture, or a script without #!"),
    words!("root_is_neither_device_nor_tag", "root=host rootfstype=9p", Boots, "virtinit: root=host ignored: it is no device, and no tag without rootfstype=virtiofs"),
    modules!("module_truncated", |bed| initrd::changed(bed, "fuse", |ko| ko.truncate(ko.len() / 2)), GivesUp, "virtinit: load 007-fuse.ko: ENOEXEC: it is no module of this kernel (version magic or format); the kernel says: …"),
    machine!("payload_link_dangles", |machine| link(machine, "/nowhere", "bin/payload").map(|()| machine.payload("/bin/payload")), GivesUp, "virtinit: find init=/bin/payload in the new root: ENOENT: no such file; init= names a program inside the root, or below /run/mnt"),
    machine!("root_with_tmp_linked_to_bin", |machine| remove(machine, &["tmp"]).and_then(|()| link(machine, "/bin", "tmp")), GivesUp, "virtinit: find init=/bin/test-init in the new root: ENOENT: no such file; init= names a program inside the root, or below /run/mnt"),
    words!("tag_not_utf8", "mount=é virtinit.wait=0", GivesUp, no_tag!("\\xc3\\xa9", "/run/mnt/\\xc3\\xa9")),
    words!("bad_wait", "virtinit.wait=soon", Boots, "virtinit: virtinit.wait=soon ignored: the value must be a number of seconds"),
    words!("device_uuid_malformed", "root=UUID=1234", GivesUp, "virtinit: UUID=1234: malformed: a UUID has 8-4-4-4-12 hexadecimal digits; a partition of an MBR, 8-2"),
    words!("extra_mount_malformed", "virtinit.mount=/dev/vdz", GivesUp, "virtinit: virtinit.mount=/dev/vdz: the value must be SOURCE:PATH[:TYPE[:OPTIONS]], PATH absolute"),
    words!("payload_is_a_directory", "init=/bin", GivesUp, "virtinit: find init=/bin in the new root: EACCES: it is no regular file; init= must name a program"),
    machine!("root_with_run_linked_to_itself", |machine| remove(machine, &["run"]).and_then(|()| link(machine, "run", "run")), Boots, REACHED),
    words!("device_of_unknown_type", "root=/dev/null rootfstype=nonsense", GivesUp, "virtinit: mount root=/dev/null at /sysroot: ENODEV: this kernel does not know that file system type; pack its module"),
    machine!("root_with_nothing_but_bin", |machine| remove(machine, &["run", "dev", "proc", "sys", "tmp"]), PowersOff, REACHED),
    words!("mount_tag_missing", "mount=gone virtinit.wait=0", GivesUp, no_tag!("gone", "/run/mnt/gone")),
    words!("mount_ro_tag_missing", "mount-ro=go,ne virtinit.wait=0", GivesUp, no_tag!("go,ne", "/run/mnt/go,ne")),
    words!("tag_with_spaces", "mount=\"a b\" virtinit.wait=0", GivesUp, no_tag!("a b", "/run/mnt/a b")),
    words!("tag_dot", "mount=.", GivesUp, "virtinit: virtiofs tag \".\": it names a directory: a tag is 1-36 bytes without '/'"),
    words!("tag_dot_dot", "mount-ro=..", GivesUp, "virtinit: virtiofs tag \"..\": it names a directory: a tag is 1-36 bytes without '/'"),
    words!("tag_too_long", "rootfs=0123456789012345678901234567890123456", GivesUp, "virtinit: virtiofs tag \"0123456789012345678901234567890123456\": it is longer than 36 bytes: a tag is 1-36 bytes without '/'"),
    words!("words_without_values_are_ignored", "rootfs init mount mount-ro rootfs= init= mount=", Boots, REACHED),
    words!("unknown_word_is_ignored", "nonsense=1 more-nonsense", Boots, REACHED),
    words!("bad_policy", "virtinit.fail=explode", Boots, "virtinit: virtinit.fail=explode ignored: the value must be one of poweroff, reboot, panic, shell"),
    words!("kernel_log_limited", "rootfs=.. printk.devkmsg=ratelimit loglevel=0 console=tty0", GivesUp, "virtinit: virtiofs tag \"..\": it names a directory: a tag is 1-36 bytes without '/'"),
    words!("rootwait_without_value", "root=/dev/vdz rootfstype=ext4 rootwait= virtinit.wait=0", GivesUp, "virtinit: rootwait= ignored: the value must be a number of seconds"),
    words!("device_is_no_block_device_without_type", "root=/dev/null", GivesUp, "virtinit: mount root=/dev/null at /sysroot: ENOTBLK: it is no block device"),
    words!("extra_mount_without_directory_may_fail", "virtinit.mount=x:/gone:tmpfs:nofail", Boots, "virtinit: mount virtinit.mount at /gone: ENOENT: the root lacks it; make it there, mount below /run, or use --overlay; going on without (nofail)"),
    modules!("module_twice", initrd::twice, Boots, REACHED),
    modules!("module_of_text", |bed| initrd::with(bed, "text.ko", b"no module ".repeat(20)), Boots, "virtinit: load 000-text.ko: ENOEXEC: it is no module of this kernel (version magic or format); the kernel says: Invalid ELF header magic…"),
    modules!("module_without_sections", |bed| initrd::changed(bed, "fuse", |ko| ko.truncate(64)), GivesUp, "virtinit: load 007-fuse.ko: ENOEXEC: it is no module of this kernel (version magic or format); the kernel says: …"),
    modules!("module_signature_damaged", |bed| initrd::changed(bed, "virtio_mmio", |ko| ko[5000] ^= 1), Boots, "virtinit: load 006-virtio_mmio.ko: EKEYREJECTED: its signature is damaged, or of a key that this kernel does not know"),
    modules!("module_compressed", |bed| initrd::with(bed, "gz.ko.gz", vec![0x1f, 0x8b, 8, 0]), Boots, "virtinit: load 000-gz.ko.gz: EOPNOTSUPP: this kernel does not load compressed modules: pack them uncompressed"),
    modules!("file_without_module_suffix", |bed| initrd::with(bed, "readme.txt", b"read me".to_vec()), Boots, REACHED),
    words!("payload_below_a_file", "init=/bin/busybox/x", GivesUp, "virtinit: find init=/bin/busybox/x in the new root: ENOTDIR: a part of the path is no directory"),
    words!("payload_is_a_device", "init=/dev/null", GivesUp, "virtinit: find init=/dev/null in the new root: EACCES: it is no regular file; init= must name a program"),
    payload!("payload_empty", 0o755, b"", "virtinit: find init=/bin/payload in the new root: ENOEXEC: it is empty"),
    payload!("payload_is_text", 0o755, b"echo hello\n", "virtinit: find init=/bin/payload in the new root: ENOEXEC: it is no program: neither ELF nor a script that starts with #!"),
    payload!("payload_elf_cut", 0o755, elf(EM_X86_64)[..20], "virtinit: find init=/bin/payload in the new root: ENOEXEC: its ELF header is truncated"),
    machine!("payload_link_loops", |machine| link(machine, "payload", "bin/payload").map(|()| machine.payload("/bin/payload")), GivesUp, "virtinit: find init=/bin/payload in the new root: ELOOP: too many symbolic links"),
    machine!("root_with_a_file_for_proc", |machine| remove(machine, &["proc"]).and_then(|()| Ok(fs::write(machine.root().join("proc"), "")?)), Boots, REACHED),
    machine!("root_with_tmp_linked_to_run", |machine| remove(machine, &["tmp"]).and_then(|()| link(machine, "/run", "tmp")), Boots, REACHED),
    machine!("root_with_dev_linked_to_root", |machine| remove(machine, &["dev"]).and_then(|()| link(machine, "/", "dev")), Boots, REACHED),
    machine!("root_with_sys_linked_to_sysroot", |machine| remove(machine, &["sys"]).and_then(|()| link(machine, "/sysroot", "sys")), Boots, REACHED),
];

impl Fault {
    /// Boots the machine, and checks how the boot ends.
    pub(crate) fn check(&self, bed: &Bed) -> Result<()> {
        let mut machine = bed.machine(&format!("echo {REACHED}"))?;
        (self.make)(bed, &mut machine)?;
        let boot = machine.boot()?;
        let (status, panics, is_reached) = match self.end {
            BootEnd::Boots => (0, false, true),
            BootEnd::PowersOff => (0, false, self.line == REACHED),
            BootEnd::GivesUp => (125, false, false),
            BootEnd::Panics => (125, true, false),
        };
        for (text, is_expected) in [("Kernel panic", panics), (REACHED, is_reached)] {
            if boot.console.contains(text) != is_expected {
                return Err(boot.failure(&format!("\"{text}\" is shown: not {is_expected}")));
            }
        }
        boot.ends_with(status, &[self.line]).map(drop)
    }
}

/// Makes a file at `/bin/payload` the payload.
fn payload(machine: &mut Machine, mode: u32, contents: &[u8]) -> Result<()> {
    let file = machine.root().join("bin/payload");
    fs::write(&file, contents)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
    machine.payload("/bin/payload");
    Ok(())
}

/// Removes empty directories of the root.
fn remove(machine: &mut Machine, names: &[&str]) -> Result<()> {
    names.iter().try_for_each(|name| fs::remove_dir(machine.root().join(name)).context("remove"))
}

/// Makes a symbolic link in the root.
fn link(machine: &mut Machine, target: &str, name: &str) -> Result<()> {
    symlink(target, machine.root().join(name)).context("link")
}

/// The header of an ELF program without segments (elf(5)).
fn elf(machine: u8) -> Vec<u8> {
    let mut header = vec![0; 64];
    header[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    header[16] = 2; // e_type: ET_EXEC
    header[18] = machine; // e_machine
    header[20] = 1; // e_version: EV_CURRENT
    header[52] = 64; // e_ehsize
    header[54] = 56; // e_phentsize
    header
}
