//! Roots on block devices, named by the kernel's own parameters, and mounts beside them.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};

use crate::harness::make::disk::{
    BTRFS, DiskCommand, EROFS, EXT4, GPT, MBR, SQUASHFS, XFS, ZEROS, make_disk,
};
use crate::harness::make::initrd;
use crate::harness::{Bed, Case, Machine, hotplug};

/// A boot from one disk: words of the kernel's command line, and lines on the console.
pub(crate) struct DiskBoot {
    pub(crate) name: &'static str,
    disk: DiskCommand,
    words: &'static str,
    lines: &'static [&'static str],
}

/// Modules of the file systems that most tests here use.
const MODULES: &[&str] = &["virtio_blk", "erofs", "squashfs", "overlay"];

/// Shell command that prints the device, the type and the first flag of the root.
const SHOW_ROOT: &str =
    "awk '$2 == \"/\" { split($4, o, \",\"); print $1, $3, o[1] }' /proc/mounts";

#[rustfmt::skip]
pub(crate) const DISKS: &[DiskBoot] = &[
    DiskBoot { name: "path",           disk: EXT4,     words: "root=/dev/vda",                                                 lines: &["/dev/vda ext4 ro"] },
    DiskBoot { name: "uuid",           disk: EROFS,    words: "root=UUID=21223344-5566-7788-99AA-bbccddeeff00 rootfstype=ext4,erofs", lines: &["/dev/vda erofs ro"] },
    DiskBoot { name: "partuuid_mbr",   disk: MBR,      words: "root=PARTUUID=deadbeef-02",                                     lines: &["/dev/vda2 ext4 ro"] },
    DiskBoot { name: "overlay_squash", disk: SQUASHFS, words: "root=/dev/vda virtinit.overlay=16m",                            lines: &["overlay overlay rw", "written"] },
    DiskBoot { name: "flags",          disk: EXT4,     words: "root=/dev/vda rootflags=noatime,nosuid,data=ordered",           lines: &["/dev/vda ext4 ro", "flags 1"] },
    DiskBoot { name: "no_such_label",  disk: EXT4,     words: "root=LABEL=data virtinit.wait=0", lines: &["virtinit: find root=LABEL=data: no such label; block devices: vda (ext4, label \"the root\")"] },
    DiskBoot { name: "delay",          disk: EROFS,    words: "root=/dev/vda rootdelay=1",                                     lines: &["/dev/vda erofs ro"] },
    DiskBoot { name: "disk_without_a_file_system",  disk: ZEROS,  words: "root=/dev/vda", lines: &["virtinit: mount root=/dev/vda at /sysroot: ENODATA: no file system of a known type is on it (ext2-4, erofs, squashfs, btrfs, xfs): name its type"] },
];

/// Rows that take the way of another row; they run on request.
#[rustfmt::skip]
pub(crate) const MORE: &[DiskBoot] = &[
    DiskBoot { name: "path_erofs",     disk: EROFS,    words: "root=/dev/vda rootfstype=erofs",                                lines: &["/dev/vda erofs ro"] },
    DiskBoot { name: "number",         disk: SQUASHFS, words: "root=254:0 rw",                                                 lines: &["/dev/vda squashfs ro"] },
    DiskBoot { name: "label",          disk: EXT4,     words: "\"root=LABEL=the root\" rw",                                    lines: &["/dev/vda ext4 ro"] },
    DiskBoot { name: "partuuid",       disk: GPT,      words: "root=PARTUUID=31223344-5566-7788-99AA-BBCCDDEEFF00 rootwait",   lines: &["/dev/vda2 ext4 ro"] },
    DiskBoot { name: "partlabel",      disk: GPT,      words: "root=PARTLABEL=system",                                         lines: &["/dev/vda2 ext4 ro"] },
    DiskBoot { name: "overlay_erofs",  disk: EROFS,    words: "root=/dev/vda virtinit.overlay=16m",                            lines: &["overlay overlay rw", "written"] },
    DiskBoot { name: "overlay_ext4",   disk: EXT4,     words: "root=/dev/vda virtinit.overlay=16m",                            lines: &["overlay overlay rw", "written"] },
    DiskBoot { name: "no_such_device", disk: GPT,      words: "root=/dev/vdb virtinit.wait=0", lines: &["virtinit: find root=/dev/vdb: no such device; block devices: vda, vda1, vda2 (ext4), vda3"] },
    DiskBoot { name: "wait_in_seconds", disk: EROFS,   words: "root=/dev/vdb rootwait=1", lines: &["virtinit: find root=/dev/vdb: no such device; block devices: vda (erofs)"] },
];

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("late_disk_is_waited_for", late_disk_is_waited_for),
    ("mounts_beside_the_root",  mounts_beside_the_root),
    ("btrfs_and_xfs_are_found", btrfs_and_xfs_are_found),
];

impl DiskBoot {
    /// Boots from the disk, and checks the console. If an error is expected, no payload runs.
    pub(crate) fn check(&self, bed: &Bed) -> Result<()> {
        let mut machine = bed.machine(&format!(
            "{SHOW_ROOT}\n echo x 2> /dev/null > /new && echo written
            echo flags $(grep -c ' / ext4 ro,nosuid,noatime' /proc/mounts)"
        ))?;
        add_disks(bed, &mut machine, MODULES, &[(self.disk, "disk")])?;
        machine.append(self.words);
        let is_error = self.lines.iter().any(|line| line.starts_with("virtinit: "));
        let status = if is_error { 125 } else { 0 };
        machine.boot()?.ends_with(status, self.lines)?.lacks("Kernel panic")
    }
}

/// Gives the machine disks with its root, and the modules that they need.
fn add_disks(
    bed: &Bed,
    machine: &mut Machine,
    modules: &[&str],
    disks: &[(DiskCommand, &str)],
) -> Result<()> {
    machine.initrd(&initrd::with_modules(bed, modules)?)?;
    for (command, name) in disks {
        let image = machine.path(name);
        make_disk(command, &machine.root(), &image)?;
        machine.disk(&image);
    }
    Ok(())
}

/// `rootwait` waits without an end, until the host adds a disk.
fn late_disk_is_waited_for(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine(SHOW_ROOT)?;
    add_disks(bed, &mut machine, MODULES, &[(ZEROS, "other")])?;
    let image = machine.path("late");
    make_disk(EXT4, &machine.root(), &image)?;
    machine.append("\"root=LABEL=the root\" rootwait virtinit.wait=0");
    let monitor = machine.path("monitor");
    let options = format!(
        "{} -drive if=none,id=late,format=raw,readonly=on,file={}",
        hotplug(&monitor),
        image.display()
    );
    let mut running = machine.start_unwatched(&options)?;
    running.wait_for("virtinit: waiting for root=LABEL=the root; block devices: vda")?;
    let mut monitor = UnixStream::connect(&monitor).context("connect to the monitor")?;
    writeln!(monitor, "device_add virtio-blk-pci,drive=late,bus=hotplug0")?;
    running.ends_with(0)?;
    running.shows(&["/dev/vdb ext4 ro"])
}

/// `/init` finds the type in the superblock, so the command line need not name it.
fn btrfs_and_xfs_are_found(bed: &Bed) -> Result<()> {
    let mut machine = bed
        .machine(&format!("{SHOW_ROOT}\n awk '$2 == \"/data\" {{ print $1, $3 }}' /proc/mounts"))?;
    fs::create_dir(machine.root().join("data"))?;
    let disks = [(BTRFS, "root.btrfs"), (XFS, "data.xfs")];
    add_disks(bed, &mut machine, &["virtio_blk", "btrfs", "xfs"], &disks)?;
    // A module of btrfs measures the processor; on a busy host that takes longer than
    // `/init` waits for a module.
    machine.append("root=/dev/vda virtinit.mount=/dev/vdb:/data virtinit.wait=120");
    machine.boot()?.shows(&["/dev/vda btrfs ro", "/dev/vdb xfs"])
}

/// `virtinit.mount=` and `virtinit.etc=` on a read-only root.
fn mounts_beside_the_root(bed: &Bed) -> Result<()> {
    let mut machine = bed.machine(
        "awk '$2 ~ /^.(data|run.scratch|etc|src)/ { split($4, o, \",\"); print $1, $2, $3, o[1], o[2] }' /proc/mounts
        cat /data/text /src/text /etc/hostname
        echo other > /etc/hostname; cat /etc/hostname
        echo below run: $(ls /run)",
    )?;
    for dir in ["data", "etc", "src"] {
        fs::create_dir(machine.root().join(dir))?;
    }
    fs::write(machine.root().join("etc/hostname"), "image\n")?;
    let source = machine.mount("--mount", "src")?;
    fs::write(source.join("text"), "of the host\n")?;
    let more = machine.directory("more")?;
    fs::write(more.join("text"), "of a disk\n")?;
    add_disks(bed, &mut machine, MODULES, &[(EROFS, "disk")])?;
    let image = machine.path("data");
    make_disk(EXT4, &more, &image)?;
    machine.disk(&image);
    machine.append(
        "root=/dev/vda virtinit.etc=overlay \"virtinit.mount=LABEL=the root:/data::nodev\" \
         virtinit.mount=scratch:/run/scratch:tmpfs:size=1m,noexec virtinit.mount=src:/src:virtiofs:ro",
    );
    machine.boot()?.shows(&[
        "/dev/vdb /data ext4 ro nodev",
        "scratch /run/scratch tmpfs rw noexec",
        "overlay /etc overlay rw relatime",
        "src /src virtiofs ro relatime",
        "of a disk",
        "of the host",
        "image",
        "other",
        "below run: mnt scratch",
    ])
}
