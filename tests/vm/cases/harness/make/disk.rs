//! Disks: a directory becomes a file system, alone or in a partition.

use std::path::Path;

use anyhow::Result;
use virtinitrd_vm_tests::tool;

use crate::harness::programs::stdout_of;
use crate::harness::trial::needs;

/// Shell command that makes an image of a directory. It contains `{root}` and `{image}`.
pub(crate) type DiskCommand = &'static str;

pub(crate) const EXT4: DiskCommand = "mke2fs -q -t ext4 -L \"the root\" -U 11223344-5566-7788-99aa-bbccddeeff00 -d {root} {image} 16M";
pub(crate) const EROFS: DiskCommand =
    "mkfs.erofs --quiet -U 21223344-5566-7788-99aa-bbccddeeff00 {image} {root}";
pub(crate) const SQUASHFS: DiskCommand = "mksquashfs {root} {image} -quiet -no-progress";
pub(crate) const BTRFS: DiskCommand =
    "truncate -s 128M {image} && mkfs.btrfs -q --rootdir {root} {image}";
/// An empty XFS of the smallest size that mkfs.xfs(8) makes.
pub(crate) const XFS: DiskCommand = "truncate -s 300M {image} && mkfs.xfs -q {image}";
/// Three partitions; the root is the second one.
pub(crate) const GPT: DiskCommand = "mke2fs -q -t ext4 -d {root} {image}.part 16M && truncate -s 32M {image} &&
    printf 'label: gpt\nstart=2048,size=2048\nstart=4096,size=32768,uuid=31223344-5566-7788-99aa-bbccddeeff00,name=system\nstart=36864,size=2048\n' |
    sfdisk --quiet --no-reread --no-tell-kernel {image} &&
    dd if={image}.part of={image} bs=512 seek=4096 conv=notrunc status=none";
/// Two partitions; the root is the second one.
pub(crate) const MBR: DiskCommand =
    "mke2fs -q -t ext4 -d {root} {image}.part 16M && truncate -s 32M {image} &&
    printf 'label: dos\nlabel-id: 0xdeadbeef\nstart=2048,size=2048\nstart=4096,size=32768\n' |
    sfdisk --quiet --no-reread --no-tell-kernel {image} &&
    dd if={image}.part of={image} bs=512 seek=4096 conv=notrunc status=none";
/// A disk full of zeros.
pub(crate) const ZEROS: DiskCommand = "truncate -s 1M {image}";

/// Tools in the commands that some hosts lack.
const TOOLS: &[&str] = &["mke2fs", "mkfs.erofs", "mksquashfs", "mkfs.btrfs", "mkfs.xfs", "sfdisk"];

/// Makes an image of the directory `root` at `image`.
pub(crate) fn make_disk(command: DiskCommand, root: &Path, image: &Path) -> Result<()> {
    let used = TOOLS.iter().copied().filter(|tool| command.contains(tool));
    needs(&used.collect::<Vec<_>>())?;
    let quoted = |path: &Path| format!("'{}'", path.display());
    let script = command.replace("{root}", &quoted(root)).replace("{image}", &quoted(image));
    stdout_of(tool("sh").args(["-ec", &script])).map(drop)
}
