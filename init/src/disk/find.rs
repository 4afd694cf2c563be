//! Finding the node of a block device.
//!
//! Interface: `/sys/class/block` (kernel doc: ABI/stable/sysfs-block).
//!
//! Invariant: a search keeps no memory, because `rootwait` repeats it without end.

use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec;
use core::ffi::CStr;
use core::fmt::Write;

use proto::superblock::{self, HEAD, Superblock};
use proto::text::{compose, show};
use proto::words::number;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::cmdline::device::{Device, PartitionId};
use crate::disk::partitions::{self, find_in_gpt, find_in_mbr};
use crate::sys::error::Result;
use crate::sys::file;

/// Directory with one link for each block device and partition.
const CLASS: &CStr = c"/sys/class/block";

/// The path of the node of `device`. If several devices match, the first by name wins.
///
/// # Errors
/// ENOENT: there is no such device.
pub fn locate(device: &Device<'_>) -> Result<CString, Errno> {
    if let Device::Path(path) = device {
        return file::c_string(&[path]);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let class = rustix::fs::open(CLASS, flags, Mode::empty())?;
    let mut found: Option<CString> = None;
    file::visit(&class, &mut |name| {
        if let Some(node) = match_device(&class, name.to_bytes(), device)
            && found.as_ref().is_none_or(|found| node < *found)
        {
            found = Some(node);
        }
    })?;
    found.ok_or(Errno::NOENT)
}

/// The node of `device`, if it is the block device `name` or a partition of it.
fn match_device(class: &OwnedFd, name: &[u8], device: &Device<'_>) -> Option<CString> {
    match device {
        Device::Path(_) => None,
        Device::Number(wanted) => {
            let number = |text: &[u8]| (text == *wanted).then_some(0);
            attribute(class, name, b"/dev", &number)?;
            node(name)
        }
        Device::Partition(wanted) => find_partition(class, name, wanted),
        Device::Label(_) | Device::Uuid(_) => {
            has_size(class, name)?;
            let node = node(name)?;
            let mut is_wanted = false;
            read_superblock(&node, &mut |found| is_wanted = is_on(device, found)).ok()?;
            is_wanted.then_some(node)
        }
    }
}

/// The node of the partition `wanted`, if it is on the disk `name`.
fn find_partition(class: &OwnedFd, name: &[u8], wanted: &PartitionId<'_>) -> Option<CString> {
    has_size(class, name)?;
    // A partition has no block size of its own, and so is left out.
    let block = attribute(class, name, b"/queue/logical_block_size", &number)?;
    let block = usize::try_from(block).ok()?;
    let disk = open_block(&node(name)?).ok()?;
    let mut buffer = vec![0; HEAD];
    let head = buffer.get_mut(..2 * block.min(partitions::BLOCK_MAX))?;
    let head = file::read_from(&disk, 0, head).ok()?;
    let number = match partitions::gpt(head, block) {
        None => find_in_mbr(wanted, head),
        Some(entries) => {
            let room = buffer.get_mut(..entries.length)?;
            find_in_gpt(wanted, file::read_from(&disk, entries.at, room).ok()?)
        }
    }?;
    // The kernel names partitions in this way (`bdev_add_partition()`, block/partitions/core.c).
    let infix = if name.last().is_some_and(u8::is_ascii_digit) { "p" } else { "" };
    let number = compose(format_args!("{infix}{number}"));
    let partition = file::c_string(&[name, number.as_bytes()]).ok()?;
    has_size(class, partition.to_bytes())?;
    node(partition.to_bytes())
}

/// Passes an attribute of a device in `/sys`, without its newline, to `read` and returns
/// the result.
fn attribute(
    class: &OwnedFd,
    name: &[u8],
    attribute: &[u8],
    read: &dyn Fn(&[u8]) -> Option<u64>,
) -> Option<u64> {
    let path = file::c_string(&[name, attribute]).ok()?;
    let contents = file::read_at(class.as_fd(), &path).ok()?;
    read(contents.trim_ascii_end())
}

/// Whether `superblock` has the label or UUID that `device` names.
fn is_on(device: &Device<'_>, superblock: &Superblock<'_>) -> bool {
    match device {
        Device::Label(label) => !label.is_empty() && superblock.label == *label,
        Device::Uuid(uuid) => superblock.uuid == Some(*uuid),
        Device::Path(_) | Device::Number(_) | Device::Partition(_) => false,
    }
}

/// The size of a device, if it is not 0. A drive without a medium and a loop device
/// without a file have size 0.
fn has_size(class: &OwnedFd, name: &[u8]) -> Option<u64> {
    attribute(class, name, b"/size", &|text| number(text).filter(|size| *size > 0))
}

/// The path of the node of block device `name`.
fn node(name: &[u8]) -> Option<CString> {
    file::c_string(&[b"/dev/", name]).ok()
}

fn open_block(path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
        FileType::BlockDevice => Ok(fd),
        _ => Err(Errno::NOTBLK),
    }
}

/// Passes the superblock on `path` to `look`.
///
/// # Errors
/// ENODATA: no known file system is on it.
pub fn read_superblock(path: &CStr, look: &mut dyn FnMut(&Superblock<'_>)) -> Result<(), Errno> {
    let device = open_block(path)?;
    let mut head = vec![0; HEAD];
    let found = superblock::identify(file::read_from(&device, 0, &mut head)?);
    found.as_ref().map(look).ok_or(Errno::NODATA)
}

/// A list of all block devices, for a person.
#[must_use]
pub fn list_devices() -> String {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let has_size = |name: &CStr| {
        let class = rustix::fs::open(CLASS, flags, Mode::empty());
        class.is_ok_and(|class| has_size(&class, name.to_bytes()).is_some())
    };
    let names = file::names(CLASS, &has_size).unwrap_or_default();
    let mut list = String::from("block devices: ");
    if names.is_empty() {
        list.push_str("none; a driver's module (virtio_blk) must be packed, and the host must have attached a disk");
    }
    for (at, name) in names.iter().enumerate() {
        let separator = if at == 0 { "" } else { ", " };
        let _ = write!(list, "{separator}{}", show(name.to_bytes()));
        let describe = &mut |found: &Superblock<'_>| {
            let _ = write!(list, " ({}", found.kind);
            if !found.label.is_empty() {
                let _ = write!(list, ", label \"{}\"", show(found.label));
            }
            list.push(')');
        };
        // A device without a known file system is listed by its name alone.
        let _ = node(name.to_bytes()).map(|node| read_superblock(&node, describe));
    }
    list
}
