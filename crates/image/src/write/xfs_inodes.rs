//! Inodes of an XFS image that mkfs.xfs made from a protofile.
//!
//! A protofile has neither sticky bits nor times, and mkfs.xfs gives every file the time at
//! which it runs. So the protofile names each file by its user id, and this module replaces
//! that id by the metadata of the file. Interface: `struct xfs_dinode`, version 3
//! (`fs/xfs/libxfs/xfs_format.h` of Linux 6.1), all numbers big-endian:
//!
//! | Offset | Field | |
//! |---|---|---|
//! | 0, 2 | `di_magic`, `di_mode` | `IN`; type and permissions |
//! | 4 | `di_version` | 3 |
//! | 8, 12 | `di_uid`, `di_gid` | owner and group |
//! | 32, 40, 48 | `di_atime`, `di_mtime`, `di_ctime` | times |
//! | 100 | `di_crc` | CRC-32C of the inode, little-endian |
//! | 120 | `di_flags2` | bit 3: times are nanoseconds since 1901 |
//! | 144 | `di_crtime` | time of the file's birth |
//! | 160 | `di_uuid` | UUID of the file system |
//!
//! Invariant: an inode counts only if its check sum and its UUID are right, and each file
//! must be found exactly once; anything else is an error.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use archive::bytes::is_zero;
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use crate::disk_parts::crc32c::crc32c;

/// Bytes that are read at a time: a multiple of every size of an inode.
const BUFFER: usize = 1 << 20;
/// Bytes of a part that becomes a hole if it is zero. mkfs.xfs writes a log of zeros.
const HOLE: usize = 1 << 16;
/// Sizes of an inode in bytes (`XFS_DINODE_MIN_LOG`, `XFS_DINODE_MAX_LOG`, mkfs.xfs(8)).
const INODE_SIZES: std::ops::RangeInclusive<usize> = 512..=2048;
/// Bytes of the part of an inode that has the fields above.
const CORE: usize = 176;
/// Bits of `di_mode` with the type of the file (`S_IFMT`).
const TYPE: u16 = 0o170_000;
/// `XFS_DIFLAG2_BIGTIME`.
const BIGTIME: u64 = 1 << 3;
/// Seconds from the first time of `BIGTIME` to 1970 (`XFS_BIGTIME_EPOCH_OFFSET`).
const BIGTIME_EPOCH: i64 = 1 << 31;
/// Latest second of `BIGTIME` (`XFS_BIGTIME_TIME_MAX`, in seconds since 1970).
const BIGTIME_MAX: i64 = 18_446_744_072 - BIGTIME_EPOCH;

/// Metadata of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XfsInode {
    /// Type and permissions, as `st_mode`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since 1970. Other times are set to it.
    pub mtime: i64,
    /// Nanoseconds to add to it.
    pub nanoseconds: u32,
}

/// Writes the metadata `inodes` to the image `out` with the UUID `uuid`. The inode of the
/// first one has the user id 1 in the image, that of the second 2, and so on. Inodes with user
/// id 0, which XFS has for itself, get the time `time`. Zeros become holes.
///
/// # Errors
/// An image that is no XFS of version 5; an inode that is missing, or that is there twice.
pub fn complete(out: &File, uuid: [u8; 16], inodes: &[XfsInode], time: i64) -> Result<()> {
    let size = inode_size(out)?;
    let mut pass = Pass { uuid, inodes, time, found: vec![false; inodes.len()] };
    let length = out.metadata()?.len();
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    while at < length {
        let data = match rustix::fs::seek(out, SeekFrom::Data(at)) {
            Ok(data) => data / BUFFER as u64 * BUFFER as u64,
            Err(Errno::NXIO) => length,
            // The file system knows no holes.
            Err(_) => at,
        };
        // What was reserved and not written takes room, too.
        let data = data.max(at);
        make_hole(out, at, data - at);
        at = data;
        let count = usize::try_from(length.saturating_sub(at)).unwrap_or(BUFFER).min(BUFFER);
        let Some(bytes) = buffer.get_mut(..count) else { break };
        out.read_exact_at(bytes, at).context("read the image")?;
        for (index, part) in bytes.chunks_mut(HOLE).enumerate() {
            let offset = at + (index * HOLE) as u64;
            pass.part(out, part, size, offset)?;
        }
        at += BUFFER as u64;
    }
    match pass.found.iter().position(|found| !found) {
        None => Ok(()),
        Some(index) => bail!("mkfs.xfs made no inode for file {} of its protofile", index + 1),
    }
}

/// Makes `length` zero bytes from `at` on a hole.
fn make_hole(out: &File, at: u64, length: u64) {
    if length > 0 {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Without holes, the image takes more room, and is the same.
        let _ = rustix::fs::fallocate(out, flags, at, length);
    }
}

/// Size of an inode by the superblock (`sb_inodesize`, offset 104).
fn inode_size(out: &File) -> Result<usize> {
    let mut superblock = [0; 512];
    out.read_exact_at(&mut superblock, 0).context("read the superblock")?;
    ensure!(superblock.starts_with(b"XFSB"), "mkfs.xfs made no XFS");
    let size = usize::from(u16::from_be_bytes(field(&superblock, 104)));
    let is_size = INODE_SIZES.contains(&size) && size.is_power_of_two();
    ensure!(is_size, "inodes of {size} bytes: only XFS of version 5 can be completed");
    Ok(size)
}

/// The bytes of a field at offset `at`; zeros if it is not in `bytes`.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// Sets the field at offset `at`.
fn set<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(field) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *field = value;
    }
}

/// One pass over an image.
struct Pass<'a> {
    uuid: [u8; 16],
    inodes: &'a [XfsInode],
    time: i64,
    found: Vec<bool>,
}

impl Pass<'_> {
    /// Completes the inodes in `part`, which is at `offset` of the image.
    fn part(&mut self, out: &File, part: &mut [u8], size: usize, offset: u64) -> Result<()> {
        if is_zero(part) {
            make_hole(out, offset, part.len() as u64);
            return Ok(());
        }
        for (index, inode) in part.chunks_mut(size).enumerate() {
            if self.inode(inode)? {
                out.write_all_at(inode, offset + (index * size) as u64).context("write inode")?;
            }
        }
        Ok(())
    }

    /// Completes `bytes`, if they are an inode in use. Returns whether they have changed.
    fn inode(&mut self, bytes: &mut [u8]) -> Result<bool> {
        let is_inode = bytes.len() >= CORE
            && bytes.starts_with(b"IN")
            && field(bytes, 4) == [3]
            && field(bytes, 160) == self.uuid
            && checksum(bytes) == field(bytes, 100);
        let mode = u16::from_be_bytes(field(bytes, 2));
        if !is_inode || mode == 0 {
            return Ok(false);
        }
        let number = u32::from_be_bytes(field(bytes, 8));
        let (mtime, nanoseconds) = match number.checked_sub(1) {
            None => (self.time, 0),
            Some(index) => {
                let index = usize::try_from(index)?;
                let row = self.inodes.get(index).zip(self.found.get_mut(index));
                let (wanted, found) = row.with_context(|| format!("inode {number} is unknown"))?;
                ensure!(!*found, "two inodes have the number {number}");
                ensure!(wanted.mode & TYPE == mode & TYPE, "inode {number} has another type");
                *found = true;
                set(bytes, 2, wanted.mode.to_be_bytes());
                set(bytes, 8, wanted.uid.to_be_bytes());
                set(bytes, 12, wanted.gid.to_be_bytes());
                (wanted.mtime, wanted.nanoseconds)
            }
        };
        let is_big = u64::from_be_bytes(field(bytes, 120)) & BIGTIME != 0;
        let time = timestamp(mtime, nanoseconds, is_big.then_some(Big));
        for at in [32, 40, 48, 144] {
            set(bytes, at, time);
        }
        let checksum = checksum(bytes);
        set(bytes, 100, checksum);
        Ok(true)
    }
}

/// Marks times in the form of `BIGTIME`.
#[derive(Clone, Copy)]
struct Big;

/// A time as an inode has it; one that it cannot have becomes the nearest one that it can.
fn timestamp(seconds: i64, nanoseconds: u32, big: Option<Big>) -> [u8; 8] {
    if big.is_some() {
        let seconds = seconds.clamp(-BIGTIME_EPOCH, BIGTIME_MAX) + BIGTIME_EPOCH;
        let since = seconds.unsigned_abs() * 1_000_000_000 + u64::from(nanoseconds);
        return since.to_be_bytes();
    }
    let seconds = seconds.clamp(i32::MIN.into(), i32::MAX.into());
    let seconds = i32::try_from(seconds).unwrap_or_default();
    (u64::from(seconds.cast_unsigned()) << 32 | u64::from(nanoseconds)).to_be_bytes()
}

/// The check sum of an inode, as it is stored: the field of the check sum counts as zero.
fn checksum(inode: &[u8]) -> [u8; 4] {
    let (head, rest) = inode.split_at(100.min(inode.len()));
    let rest = rest.get(4..).unwrap_or_default();
    let sum = crc32c(crc32c(crc32c(!0, head), &[0; 4]), rest);
    (!sum).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: [u8; 16] = [7; 16];

    fn inode(number: u32, mode: u16, uuid: [u8; 16]) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        set(&mut bytes, 0, *b"IN");
        set(&mut bytes, 2, mode.to_be_bytes());
        set(&mut bytes, 4, [3]);
        set(&mut bytes, 8, number.to_be_bytes());
        set(&mut bytes, 40, [9; 8]);
        set(&mut bytes, 120, BIGTIME.to_be_bytes());
        set(&mut bytes, 160, uuid);
        let sum = checksum(&bytes);
        set(&mut bytes, 100, sum);
        bytes
    }

    /// An image with these inodes in its second MiB.
    fn image(inodes: &[Vec<u8>]) -> File {
        let file = tempfile::tempfile().unwrap();
        let mut superblock = vec![0; 512];
        set(&mut superblock, 0, *b"XFSB");
        set(&mut superblock, 104, 512_u16.to_be_bytes());
        file.set_len(4 << 20).unwrap();
        file.write_all_at(&superblock, 0).unwrap();
        for (index, inode) in inodes.iter().enumerate() {
            file.write_all_at(inode, (1 << 20) + 512 * index as u64).unwrap();
        }
        file
    }

    fn wanted() -> XfsInode {
        XfsInode { mode: 0o41_777, uid: 5, gid: u32::MAX, mtime: -1, nanoseconds: 2 }
    }

    #[test]
    fn inodes_get_their_metadata() {
        let foreign = inode(1, 0o40_777, [8; 16]);
        let list = [inode(0, 0o100_000, UUID), foreign.clone(), inode(1, 0o40_777, UUID)];
        let file = image(&list);
        complete(&file, UUID, &[wanted()], 3).unwrap();
        let read = |index: u64| {
            let mut bytes = vec![0; 512];
            file.read_exact_at(&mut bytes, (1 << 20) + 512 * index).unwrap();
            bytes
        };
        assert_eq!(read(1), foreign);
        for (index, mode, owner, nanoseconds) in [
            (0, 0o100_000, (0, 0), (BIGTIME_EPOCH.unsigned_abs() + 3) * 1_000_000_000),
            (2, 0o41_777, (5, u32::MAX), (BIGTIME_EPOCH.unsigned_abs() - 1) * 1_000_000_000 + 2),
        ] {
            let bytes = read(index);
            assert_eq!(u16::from_be_bytes(field(&bytes, 2)), mode);
            let ids = [8, 12].map(|at| u32::from_be_bytes(field(&bytes, at)));
            assert_eq!((ids[0], ids[1]), owner);
            for at in [32, 40, 48, 144] {
                assert_eq!(u64::from_be_bytes(field(&bytes, at)), nanoseconds, "{at}");
            }
            assert_eq!(checksum(&bytes), field(&bytes, 100));
        }
    }

    #[test]
    fn inodes_that_are_not_as_expected_are_errors() {
        let good = || inode(1, 0o40_777, UUID);
        let mut damaged = good();
        damaged[300] = 1;
        for (name, inodes, expected) in [
            ("missing", vec![], "no inode for file 1"),
            ("damaged", vec![damaged], "no inode for file 1"),
            ("twice", vec![good(), good()], "two inodes"),
            ("unknown", vec![good(), inode(2, 0o40_777, UUID)], "inode 2 is unknown"),
            ("other type", vec![inode(1, 0o100_777, UUID)], "another type"),
        ] {
            let error = complete(&image(&inodes), UUID, &[wanted()], 0).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{name}: {error:#}");
        }
        let empty = tempfile::tempfile().unwrap();
        empty.set_len(1 << 20).unwrap();
        assert!(complete(&empty, UUID, &[], 0).is_err());
    }

    #[test]
    fn times_without_bigtime_are_two_numbers() {
        assert_eq!(timestamp(-1, 5, None), [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 5]);
        assert_eq!(timestamp(1 << 40, 0, None), [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(timestamp(i64::MIN, 0, Some(Big)), [0; 8]);
    }
}
