//! Finding block devices, and mounting what is on them.
//!
//! Interfaces: `/sys/class/block` (kernel doc: ABI/stable/sysfs-block), mount(2).
//!
//! Invariant: looking for a device keeps no memory, for `rootwait` has no end.

use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec;
use core::ffi::CStr;
use core::fmt::Write;
use core::time::Duration;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;
use virtinitrd_proto::superblock::{self, HEAD, Superblock};
use virtinitrd_proto::text::{compose, show};
use virtinitrd_proto::words::number;

use crate::device::Device;
use crate::error::{Context, Error, Hints, Result};
use crate::file;
use crate::log::Log;
use crate::mount_options::Options;
use crate::partitions::{self, Wanted};
use crate::wait::{self, Attempt};

const CLASS: &CStr = c"/sys/class/block";

/// A limit that is none: `rootwait`.
pub const FOREVER: Duration = Duration::MAX;

/// A file system on a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk<'a> {
    /// Which device.
    pub device: Device<'a>,
    /// The word of the command line that names it, for messages.
    pub word: &'static str,
    /// The value of that word up to the end of the device's name.
    pub name: &'a [u8],
    /// Types to be tried in order, separated by commas; the superblock tells
    /// where there is none.
    pub kinds: &'a [u8],
    /// Mount options, separated by commas.
    pub options: &'a [u8],
}

/// Why a file system cannot be mounted.
#[rustfmt::skip]
const HINTS: Hints = &[
    (Some(Errno::NODEV),  "this kernel does not know that file system type; pack its module"),
    (Some(Errno::INVAL),  "no file system of that type is on it, or an option is wrong"),
    (Some(Errno::NOTBLK), "it is no block device"),
    (Some(Errno::NODATA), "no file system that is told by itself is on it (ext2-4, erofs, squashfs, btrfs, xfs): name its type"),
];

/// What is said of a device that may yet come.
const LATE: &[Errno] = &[Errno::NOENT, Errno::NXIO];

/// Mounts `disk` at `at`, which messages call `shown`; a device that is not there
/// is waited for up to `limit`. What is write-protected is mounted read-only.
pub fn mount(
    disk: &Disk<'_>,
    at: &CStr,
    shown: &[u8],
    flags: MountFlags,
    limit: Duration,
    log: &Log,
) -> Result<()> {
    let Disk { device, word, name, kinds, options } = *disk;
    let Options { flags, data } = Options::parse(options, flags);
    let name = show(name);
    let mounted = wait::until(limit, LATE, &mut |attempt| {
        match (attempt, limit) {
            (Attempt::Second, FOREVER) => {
                log.warning(format_args!("waiting for {word}={name}; {}", list_devices()));
            }
            (Attempt::Second, _) => {
                let seconds = limit.as_secs();
                log.debug(format_args!("waiting up to {seconds} s for {word}={name}"));
            }
            _ => {}
        }
        let (path, mut kinds) = (locate(&device)?, kinds);
        if kinds.is_empty() {
            read_superblock(&path, &mut |found| kinds = found.kind.as_bytes())?;
        }
        mount_as_any(&path, at, kinds, flags, &data)
    });
    match mounted {
        Err(errno) if LATE.contains(&errno) => {
            let what = device.what();
            Err(Error::new(
                format_args!("find {word}={name}: no such {what}; {}", list_devices()),
                "",
            ))
        }
        _ => mounted
            .hinted(format_args!("mount {word}={name} at {}", show(shown)), HINTS)
            .inspect(|()| log.debug(format_args!("mounted {word}={name} at {}", show(shown)))),
    }
}

/// As the kernel mounts its root: one type after the other, as long as they do
/// not fit.
fn mount_as_any(
    path: &CStr,
    at: &CStr,
    kinds: &[u8],
    flags: MountFlags,
    data: &[u8],
) -> Result<(), Errno> {
    let mut refusal = Errno::NODEV;
    for kind in kinds.split(|&byte| byte == b',').filter(|kind| !kind.is_empty()) {
        match mount_as_one(path, at, kind, flags, data) {
            Err(Errno::NODEV) => {}
            Err(Errno::INVAL) => refusal = Errno::INVAL,
            result => return result,
        }
    }
    Err(refusal)
}

fn mount_as_one(
    path: &CStr,
    at: &CStr,
    kind: &[u8],
    flags: MountFlags,
    data: &[u8],
) -> Result<(), Errno> {
    let (kind, data) = (file::c_string(&[kind])?, file::c_string(&[data])?);
    let mount = |flags| rustix::mount::mount(path, at, &*kind, flags, &*data);
    match mount(flags) {
        Err(Errno::ACCESS | Errno::ROFS) => mount(flags | MountFlags::RDONLY),
        result => result,
    }
}

/// The node of `device`.
///
/// # Errors
/// ENOENT where there is none.
fn locate(device: &Device<'_>) -> Result<CString, Errno> {
    if let Device::Path(path) = device {
        return file::c_string(&[path]);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let class = rustix::fs::open(CLASS, flags, Mode::empty())?;
    let mut found: Option<CString> = None;
    file::visit(&class, &mut |name| {
        // Of several the first by name.
        if let Some(node) = look(&class, name.to_bytes(), device)
            && found.as_ref().is_none_or(|found| node < *found)
        {
            found = Some(node);
        }
    })?;
    found.ok_or(Errno::NOENT)
}

/// The node of `device` where that is block device `name`, or a partition of it.
fn look(class: &OwnedFd, name: &[u8], device: &Device<'_>) -> Option<CString> {
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
            let mut is_meant = false;
            read_superblock(&node, &mut |found| is_meant = device.is_on(found)).ok()?;
            is_meant.then_some(node)
        }
    }
}

/// The node of the partition of disk `name` that is meant.
fn find_partition(class: &OwnedFd, name: &[u8], wanted: &Wanted<'_>) -> Option<CString> {
    has_size(class, name)?;
    // A partition has no block size of its own, and no table.
    let block = attribute(class, name, b"/queue/logical_block_size", &number)?;
    let block = usize::try_from(block).ok()?;
    let disk = open_block(&node(name)?).ok()?;
    let mut buffer = vec![0; HEAD];
    let head = buffer.get_mut(..2 * block.min(partitions::BLOCK_MAX))?;
    let head = file::read_from(&disk, 0, head).ok()?;
    let number = match partitions::gpt(head, block) {
        None => wanted.find_in_mbr(head),
        Some(entries) => {
            let room = buffer.get_mut(..entries.length)?;
            wanted.find_in_gpt(file::read_from(&disk, entries.at, room).ok()?)
        }
    }?;
    // As the kernel names partitions (`bdev_add_partition()`, block/partitions/core.c).
    let infix = if name.last().is_some_and(u8::is_ascii_digit) { "p" } else { "" };
    let number = compose(format_args!("{infix}{number}"));
    let partition = file::c_string(&[name, number.as_bytes()]).ok()?;
    has_size(class, partition.to_bytes())?;
    node(partition.to_bytes())
}

/// Gives `read` an attribute of a device in `/sys`, its newline taken away; what
/// it makes of that.
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

/// Whether there is something on a device: a drive may have no medium, a loop
/// device no file.
fn has_size(class: &OwnedFd, name: &[u8]) -> Option<u64> {
    attribute(class, name, b"/size", &|text| number(text).filter(|size| *size > 0))
}

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

/// Shows `look` the superblock on `path`.
///
/// # Errors
/// ENODATA: no file system that tells.
fn read_superblock(path: &CStr, look: &mut dyn FnMut(&Superblock<'_>)) -> Result<(), Errno> {
    let device = open_block(path)?;
    let mut head = vec![0; HEAD];
    let found = superblock::identify(file::read_from(&device, 0, &mut head)?);
    found.as_ref().map(look).ok_or(Errno::NODATA)
}

/// What block devices there are, for a person.
fn list_devices() -> String {
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
        // Nothing is said of what does not tell.
        let _ = node(name.to_bytes()).map(|node| read_superblock(&node, describe));
    }
    list
}
