//! Roots on block devices, as the kernel's own words name them, and what is
//! mounted beside them.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::Case;
use crate::harness::{Bed, Guest};
use crate::initrd;
use crate::trial::needs;

/// What makes an image of a directory: a command with `{root}` and `{image}`.
type Maker = &'static str;

const EXT4: Maker = "mke2fs -q -t ext4 -L \"the root\" -U 11223344-5566-7788-99aa-bbccddeeff00 -d {root} {image} 16M";
const EROFS: Maker = "mkfs.erofs --quiet -U 21223344-5566-7788-99aa-bbccddeeff00 {image} {root}";
const SQUASHFS: Maker = "mksquashfs {root} {image} -quiet -no-progress";
const BTRFS: Maker = "truncate -s 128M {image} && mkfs.btrfs -q --rootdir {root} {image}";
/// Empty; the smallest that mkfs.xfs(8) makes.
const XFS: Maker = "truncate -s 300M {image} && mkfs.xfs -q {image}";
/// The root is the second partition of three.
const GPT: Maker = "mke2fs -q -t ext4 -d {root} {image}.part 16M && truncate -s 32M {image} &&
    printf 'label: gpt\nstart=2048,size=2048\nstart=4096,size=32768,uuid=31223344-5566-7788-99aa-bbccddeeff00,name=system\nstart=36864,size=2048\n' |
    sfdisk --quiet --no-reread --no-tell-kernel {image} &&
    dd if={image}.part of={image} bs=512 seek=4096 conv=notrunc status=none";
const MBR: Maker = "mke2fs -q -t ext4 -d {root} {image}.part 16M && truncate -s 32M {image} &&
    printf 'label: dos\nlabel-id: 0xdeadbeef\nstart=2048,size=2048\nstart=4096,size=32768\n' |
    sfdisk --quiet --no-reread --no-tell-kernel {image} &&
    dd if={image}.part of={image} bs=512 seek=4096 conv=notrunc status=none";
/// Those that not every host has.
const TOOLS: &[&str] = &["mke2fs", "mkfs.erofs", "mksquashfs", "mkfs.btrfs", "mkfs.xfs", "sfdisk"];
const NOTHING: Maker = "truncate -s 1M {image}";

/// A boot from one disk.
pub(crate) struct Root {
    pub(crate) name: &'static str,
    maker: Maker,
    words: &'static str,
    lines: &'static [&'static str],
}

/// How `/` is mounted, less what only concerns the file system.
const SHOW_ROOT: &str =
    "awk '$2 == \"/\" { split($4, o, \",\"); print $1, $3, o[1] }' /proc/mounts";

#[rustfmt::skip]
pub(crate) const ROOTS: &[Root] = &[
    Root { name: "path",           maker: EXT4,     words: "root=/dev/vda",                                                 lines: &["/dev/vda ext4 ro"] },
    Root { name: "path_erofs",     maker: EROFS,    words: "root=/dev/vda rootfstype=erofs",                                lines: &["/dev/vda erofs ro"] },
    Root { name: "number",         maker: SQUASHFS, words: "root=254:0 rw",                                                 lines: &["/dev/vda squashfs ro"] },
    Root { name: "label",          maker: EXT4,     words: "\"root=LABEL=the root\" rw",                                    lines: &["/dev/vda ext4 ro"] },
    Root { name: "uuid",           maker: EROFS,    words: "root=UUID=21223344-5566-7788-99AA-bbccddeeff00 rootfstype=ext4,erofs", lines: &["/dev/vda erofs ro"] },
    Root { name: "partuuid",       maker: GPT,      words: "root=PARTUUID=31223344-5566-7788-99AA-BBCCDDEEFF00 rootwait",   lines: &["/dev/vda2 ext4 ro"] },
    Root { name: "partlabel",      maker: GPT,      words: "root=PARTLABEL=system",                                         lines: &["/dev/vda2 ext4 ro"] },
    Root { name: "partuuid_mbr",   maker: MBR,      words: "root=PARTUUID=deadbeef-02",                                     lines: &["/dev/vda2 ext4 ro"] },
    Root { name: "overlay_erofs",  maker: EROFS,    words: "root=/dev/vda virtinit.overlay=16m",                            lines: &["overlay overlay rw", "written"] },
    Root { name: "overlay_squash", maker: SQUASHFS, words: "root=/dev/vda virtinit.overlay=16m",                            lines: &["overlay overlay rw", "written"] },
    Root { name: "overlay_ext4",   maker: EXT4,     words: "root=/dev/vda virtinit.overlay=16m",                            lines: &["overlay overlay rw", "written"] },
    Root { name: "flags",          maker: EXT4,     words: "root=/dev/vda rootflags=noatime,nosuid,data=ordered",           lines: &["/dev/vda ext4 ro", "flags 1"] },
    Root { name: "no_such_label",  maker: EXT4,     words: "root=LABEL=data virtinit.wait=0",
        lines: &["virtinit: find root=LABEL=data: no such label; block devices: vda (ext4, label \"the root\")"] },
    Root { name: "no_such_device", maker: GPT,      words: "root=/dev/vdb virtinit.wait=0",
        lines: &["virtinit: find root=/dev/vdb: no such device; block devices: vda, vda1, vda2 (ext4), vda3"] },
    Root { name: "delay",          maker: EROFS,    words: "root=/dev/vda rootdelay=1",                                     lines: &["/dev/vda erofs ro"] },
    Root { name: "wait_in_seconds", maker: EROFS,   words: "root=/dev/vdb rootwait=1",
        lines: &["virtinit: find root=/dev/vdb: no such device; block devices: vda (erofs)"] },
    Root { name: "nothing_on_it",  maker: NOTHING,  words: "root=/dev/vda",
        lines: &["virtinit: mount root=/dev/vda at /sysroot: ENODATA: no file system of a known type is on it (ext2-4, erofs, squashfs, btrfs, xfs): name its type"] },
];

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("late_disk_is_waited_for", late_disk_is_waited_for),
    ("more_mounts",             more_mounts),
    ("btrfs_and_xfs",           btrfs_and_xfs),
];

impl Root {
    /// Boots from the disk and compares: the payload does not run where an error
    /// is expected.
    pub(crate) fn check(&self, bed: &Bed) -> Result<()> {
        let mut guest = bed.guest(&format!(
            "{SHOW_ROOT}\n echo x 2> /dev/null > /new && echo written
            echo flags $(grep -c ' / ext4 ro,nosuid,noatime' /proc/mounts)"
        ))?;
        with_disks(bed, &mut guest, &[(self.maker, "disk")])?;
        guest.append(self.words);
        let is_error = self.lines.iter().any(|line| line.starts_with("virtinit: "));
        let status = if is_error { 125 } else { 0 };
        guest.boot()?.ends_with(status, self.lines)?.lacks("Kernel panic")
    }
}

/// Makes an image of the guest's root at `image`.
pub(crate) fn make_image(root: &Path, image: &Path, maker: Maker) -> Result<()> {
    let used = TOOLS.iter().copied().filter(|tool| maker.contains(tool));
    needs(&used.collect::<Vec<_>>())?;
    let quoted = |path: &Path| format!("'{}'", path.display());
    let script = maker.replace("{root}", &quoted(root)).replace("{image}", &quoted(image));
    let output = Command::new("sh")
        .args(["-ec", &script])
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .context("run sh")?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Gives the machine disks, images of its root, and the modules that they need.
fn with_disks(bed: &Bed, guest: &mut Guest, disks: &[(Maker, &str)]) -> Result<Vec<PathBuf>> {
    with_modules(bed, guest, &["virtio_blk", "erofs", "squashfs", "overlay"], disks)
}

fn with_modules(
    bed: &Bed,
    guest: &mut Guest,
    modules: &[&str],
    disks: &[(Maker, &str)],
) -> Result<Vec<PathBuf>> {
    guest.initrd(&initrd::with_modules(bed, modules)?)?;
    let mut images = Vec::new();
    for (maker, name) in disks {
        let image = guest.path(name);
        make_image(&guest.root(), &image, maker)?;
        guest.option("--qemu-arg", "-drive");
        let drive = format!("file={},format=raw,if=virtio,readonly=on", image.display());
        guest.option("--qemu-arg", drive);
        images.push(image);
    }
    Ok(images)
}

/// `rootwait` has no end; a disk is plugged in meanwhile.
fn late_disk_is_waited_for(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest(SHOW_ROOT)?;
    with_disks(bed, &mut guest, &[(NOTHING, "other")])?;
    let image = guest.path("late");
    make_image(&guest.root(), &image, EXT4)?;
    guest.append("\"root=LABEL=the root\" rootwait virtinit.wait=0");
    let monitor = guest.path("monitor");
    let options = format!(
        "-device pcie-root-port,id=hotplug0,chassis=1 -monitor unix:{},server=on,wait=off \
         -drive if=none,id=late,format=raw,readonly=on,file={}",
        monitor.display(),
        image.display()
    );
    let mut running = guest.start_unwatched(&options)?;
    running.wait_for("virtinit: waiting for root=LABEL=the root; block devices: vda")?;
    let mut monitor = UnixStream::connect(&monitor).context("connect to the monitor")?;
    writeln!(monitor, "device_add virtio-blk-pci,drive=late,bus=hotplug0")?;
    ensure!(running.finish()? == 0, "{running}");
    ensure!(running.to_string().contains("/dev/vdb ext4 ro"), "{running}");
    Ok(())
}

/// Neither has to be named: the superblocks tell.
fn btrfs_and_xfs(bed: &Bed) -> Result<()> {
    let mut guest =
        bed.guest(&format!("{SHOW_ROOT}\n awk '$2 == \"/data\" {{ print $1, $3 }}' /proc/mounts"))?;
    fs::create_dir(guest.root().join("data"))?;
    let disks = [(BTRFS, "root.btrfs"), (XFS, "data.xfs")];
    with_modules(bed, &mut guest, &["virtio_blk", "btrfs", "xfs"], &disks)?;
    // A module of btrfs measures the processor; on a busy host that takes longer than
    // `/init` waits for a module.
    guest.append("root=/dev/vda virtinit.mount=/dev/vdb:/data virtinit.wait=120");
    guest.boot()?.shows(&["/dev/vda btrfs ro", "/dev/vdb xfs"])
}

/// `virtinit.mount=` and `virtinit.etc=`, over a root that cannot be written to.
fn more_mounts(bed: &Bed) -> Result<()> {
    let mut guest = bed.guest(
        "awk '$2 ~ /^.(data|run.scratch|etc|src)/ { split($4, o, \",\"); print $1, $2, $3, o[1], o[2] }' /proc/mounts
        cat /data/text /src/text /etc/hostname
        echo other > /etc/hostname; cat /etc/hostname
        echo below run: $(ls /run)",
    )?;
    for dir in ["data", "etc", "src"] {
        fs::create_dir(guest.root().join(dir))?;
    }
    fs::write(guest.root().join("etc/hostname"), "image\n")?;
    let source = guest.mount("--mount", "src")?;
    fs::write(source.join("text"), "of the host\n")?;
    let more = guest.directory("more")?;
    fs::write(more.join("text"), "of a disk\n")?;
    with_disks(bed, &mut guest, &[(EROFS, "disk")])?;
    let image = guest.path("data");
    make_image(&more, &image, EXT4)?;
    guest.option("--qemu-arg", "-drive");
    let drive = format!("file={},format=raw,if=virtio,readonly=on", image.display());
    guest.option("--qemu-arg", drive);
    guest.append(
        "root=/dev/vda virtinit.etc=overlay \"virtinit.mount=LABEL=the root:/data::nodev\" \
         virtinit.mount=scratch:/run/scratch:tmpfs:size=1m,noexec virtinit.mount=src:/src:virtiofs:ro",
    );
    guest.boot()?.shows(&[
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
