//! Inodes of ext4.
//!
//! Format: kernel doc filesystems/ext4/inodes.rst, `struct ext4_inode` in
//! `fs/ext4/ext4.h`, little endian. We write 256 bytes; an old file system has only the
//! first 128. Times reach from 1901 to 2446.
//!
//! | At | Bytes | Field | At | Bytes | Field |
//! |---|---|---|---|---|---|
//! | 0x00 | 2 | `i_mode` | 0x6c | 4 | `i_size_high` |
//! | 0x02 | 2 | `i_uid` | 0x74 | 2 | `l_i_blocks_high` |
//! | 0x04 | 4 | `i_size_lo` | 0x76 | 2 | `l_i_file_acl_high` |
//! | 0x08 | 4x3 | `i_atime`, `i_ctime`, `i_mtime` | 0x78 | 2 | `l_i_uid_high` |
//! | 0x18 | 2 | `i_gid` | 0x7a | 2 | `l_i_gid_high` |
//! | 0x1a | 2 | `i_links_count` | 0x7c | 2 | `l_i_checksum_lo` |
//! | 0x1c | 4 | `i_blocks_lo`: units of 512 bytes | 0x80 | 2 | `i_extra_isize`: bytes in use after the first 128 |
//! | 0x20 | 4 | `i_flags` | 0x82 | 2 | `i_checksum_hi` |
//! | 0x28 | 60 | `i_block`: block map, target of a link or device | 0x84 | 4x3 | `i_ctime_extra`, `i_mtime_extra`, `i_atime_extra` |
//! | 0x64 | 4 | `i_generation` | 0x90 | 4+4 | `i_crtime`, `i_crtime_extra` |
//! | 0x68 | 4 | `i_file_acl_lo`: block of extended attributes | 0xa0 | 96 | extended attributes |

use super::bytes::{
    get, get_halves, get_quarters, get16, get32, low16, low32, put, put_halves, put_quarters,
    put16, put32,
};
use crate::disk_parts::crc32c::crc32c;

/// Base 2 logarithm of [`SIZE`].
pub(in crate::ext4) const SIZE_BITS: u32 = 8;

/// Bytes of an inode in the images that we write (`s_inode_size`).
pub(in crate::ext4) const SIZE: usize = 1 << SIZE_BITS;

/// Bytes of the block map (`i_block`, `EXT4_N_BLOCKS` pointers).
pub(in crate::ext4) const BLOCK_MAP: usize = 60;

/// Bytes of fields after the first 128 (`i_extra_isize`). The extended attributes follow.
pub(in crate::ext4) const EXTRA: u16 = 32;

/// Bytes for extended attributes in an inode.
pub(in crate::ext4) const XATTR_SPACE: usize = SIZE - OLD - EXTRA as usize;

/// Bytes of an inode of an old file system (`EXT4_GOOD_OLD_INODE_SIZE`).
pub(in crate::ext4) const OLD_SIZE: u16 = 128;

/// [`OLD_SIZE`] as an offset.
const OLD: usize = OLD_SIZE as usize;

/// Inode of the root directory (`EXT4_ROOT_INO`).
pub(in crate::ext4) const ROOT: u32 = 2;

/// Inode of the journal (`EXT4_JOURNAL_INO`).
pub(in crate::ext4) const JOURNAL: u32 = 8;

/// First inode that is not reserved (`EXT4_GOOD_OLD_FIRST_INO`).
pub(in crate::ext4) const FIRST: u32 = 11;

/// Bits of `i_flags`.
pub(in crate::ext4) mod flags {
    /// The contents are encrypted (`EXT4_ENCRYPT_FL`).
    pub(in crate::ext4) const ENCRYPT: u32 = 0x800;
    /// The directory has an index (`EXT4_INDEX_FL`).
    pub(in crate::ext4) const INDEX: u32 = 0x1000;
    /// The block map is an extent tree (`EXT4_EXTENTS_FL`).
    pub(in crate::ext4) const EXTENTS: u32 = 0x8_0000;
    /// The contents lie in the inode (`EXT4_INLINE_DATA_FL`).
    pub(in crate::ext4) const INLINE_DATA: u32 = 0x1000_0000;
}

/// Inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ext4) struct Ext4Inode {
    /// Type and permissions (`i_mode`).
    pub(in crate::ext4) mode: u16,
    /// User that owns the file (`i_uid`).
    pub(in crate::ext4) uid: u32,
    /// Group that owns the file (`i_gid`).
    pub(in crate::ext4) gid: u32,
    /// Bytes of the contents (`i_size`).
    pub(in crate::ext4) size: u64,
    /// Number of hard links (`i_links_count`).
    pub(in crate::ext4) links: u16,
    /// Space that the file takes, in units of 512 bytes (`i_blocks`).
    pub(in crate::ext4) units: u64,
    /// Bits of [`flags`].
    pub(in crate::ext4) flags: u32,
    /// Block map, or in its place a device number or the target of a short link (`i_block`).
    pub(in crate::ext4) map: [u8; BLOCK_MAP],
    /// Block of extended attributes (`i_file_acl`); 0 without such a block.
    pub(in crate::ext4) xattr_block: u64,
    /// Modification time in seconds since 1970 (`i_mtime`).
    pub(in crate::ext4) mtime: i64,
    /// Nanoseconds of the modification time (upper 30 bits of `i_mtime_extra`).
    pub(in crate::ext4) nanoseconds: u32,
    /// Extended attributes in the inode, with their header.
    pub(in crate::ext4) xattrs: Vec<u8>,
}

/// Bits of the seconds in the fields `i_*time_extra` (`EXT4_EPOCH_BITS`); the others are
/// nanoseconds.
const EPOCH_BITS: u32 = 2;

/// Start of the checksums of inode `number` and of the blocks that it owns. `file_system` is
/// the start of the file system's checksums.
pub(in crate::ext4) fn seed(file_system: u32, number: u32) -> u32 {
    /// Generation of every inode that we write (`i_generation`).
    const GENERATION: u32 = 0;
    crc32c(crc32c(file_system, &number.to_le_bytes()), &GENERATION.to_le_bytes())
}

/// Encodes a time: the lower 32 bits of the seconds, and two more bits for the field
/// `i_mtime_extra`. A time out of range becomes the nearest one in range, as in the kernel.
fn time(seconds: i64) -> (u32, u32) {
    /// First and last time that an inode can hold: 2^34 seconds from 1901-12-13.
    const RANGE: (i64, i64) = (-(1 << 31), (1 << 34) - (1 << 31) - 1);
    let seconds = seconds.clamp(RANGE.0, RANGE.1);
    // The low 32 bits are signed. The epoch counts the multiples of 2^32 to add to them.
    let epoch = (seconds + (1 << 31)) >> 32;
    (low32(seconds.cast_unsigned()), low32(epoch.cast_unsigned()))
}

/// Encodes a device number for the block map. A small number goes into the first word in
/// the old form, any other into the second word in the new form (`old_encode_dev` and
/// `new_encode_dev` in `include/linux/kdev_t.h`).
pub(in crate::ext4) fn device(major: u32, minor: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    match major < 256 && minor < 256 {
        true => put32(&mut bytes, 0, major << 8 | minor),
        false => put32(&mut bytes, 4, minor & 0xff | major << 8 | (minor & !0xff) << 12),
    }
    bytes
}

/// Decodes a device number from a block map; the inverse of [`device`].
pub(in crate::ext4) fn device_number(map: &[u8; BLOCK_MAP]) -> (u32, u32) {
    match (get32(map, 0), get32(map, 4)) {
        (0, new) => (new >> 8 & 0xfff, new & 0xff | new >> 12 & 0xf_ff00),
        (old, _) => (old >> 8 & 0xff, old & 0xff),
    }
}

impl Ext4Inode {
    /// Encodes inode `number`. [`Self::xattrs`] has at most [`XATTR_SPACE`] bytes.
    /// `file_system` is the start of the file system's checksums.
    pub(in crate::ext4) fn encode(&self, file_system: u32, number: u32) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        put16(&mut bytes, 0x00, self.mode);
        put_quarters(&mut bytes, 0x02, 0x78, self.uid);
        put_quarters(&mut bytes, 0x18, 0x7a, self.gid);
        put_halves(&mut bytes, 0x04, 0x6c, self.size);
        put16(&mut bytes, 0x1a, self.links);
        put32(&mut bytes, 0x1c, low32(self.units));
        put16(&mut bytes, 0x74, low16(low32(self.units >> 32)));
        put32(&mut bytes, 0x20, self.flags);
        put(&mut bytes, 0x28, self.map);
        put32(&mut bytes, 0x68, low32(self.xattr_block));
        put16(&mut bytes, 0x76, low16(low32(self.xattr_block >> 32)));
        put16(&mut bytes, 0x80, EXTRA);
        let (seconds, epoch) = time(self.mtime);
        for (at, at_epoch) in [(0x08, 0x8c), (0x0c, 0x84), (0x10, 0x88), (0x90, 0x94)] {
            put32(&mut bytes, at, seconds);
            put32(&mut bytes, at_epoch, self.nanoseconds << EPOCH_BITS | epoch);
        }
        bytes[SIZE - XATTR_SPACE..][..self.xattrs.len()].copy_from_slice(&self.xattrs);
        let checksum = crc32c(seed(file_system, number), &bytes);
        put_quarters(&mut bytes, 0x7c, 0x82, checksum);
        bytes
    }

    /// Decodes an inode of at least 128 bytes.
    pub(in crate::ext4) fn decode(bytes: &[u8]) -> Self {
        let extra = if bytes.len() > OLD { usize::from(get16(bytes, 0x80)) } else { 0 };
        // A field beyond the end of a short inode counts as zero.
        let mtime_extra = if extra >= 12 { get32(bytes, 0x88) } else { 0 };
        let epoch = mtime_extra & ((1 << EPOCH_BITS) - 1);
        Self {
            mode: get16(bytes, 0x00),
            uid: get_quarters(bytes, 0x02, 0x78),
            gid: get_quarters(bytes, 0x18, 0x7a),
            size: get_halves(bytes, 0x04, 0x6c),
            links: get16(bytes, 0x1a),
            units: u64::from(get32(bytes, 0x1c)) | u64::from(get16(bytes, 0x74)) << 32,
            flags: get32(bytes, 0x20),
            map: get(bytes, 0x28),
            xattr_block: u64::from(get32(bytes, 0x68)) | u64::from(get16(bytes, 0x76)) << 32,
            mtime: i64::from(get32(bytes, 0x10).cast_signed()) + (i64::from(epoch) << 32),
            nanoseconds: mtime_extra >> EPOCH_BITS,
            xattrs: bytes.get(OLD + extra..).unwrap_or_default().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_decodes_to_itself() {
        let inode = Ext4Inode {
            mode: 0o104_755,
            uid: 0x0001_0002,
            gid: 0xfffe_fffd,
            size: 0x12_3456_789a,
            links: 3,
            units: 0x1234_5678_9abc,
            flags: flags::EXTENTS,
            map: [7; BLOCK_MAP],
            xattr_block: 0x1234_5678_9abc,
            mtime: 0,
            nanoseconds: 999_999_999,
            xattrs: vec![9; XATTR_SPACE],
        };
        let times = [
            (0, 0),
            (-1, -1),
            (i64::from(i32::MAX) + 1, i64::from(i32::MAX) + 1),
            (i64::MIN, -(1 << 31)),
            (i64::MAX, 15_032_385_535),
        ];
        for (mtime, expected) in times {
            let written = Ext4Inode { mtime, ..inode.clone() };
            let read = Ext4Inode::decode(&written.encode(1, 2));
            assert_eq!(read, Ext4Inode { mtime: expected, ..inode.clone() });
        }
    }

    /// The expected words are those that mknod(2) writes to a mounted ext4.
    #[test]
    fn devices_have_two_forms() {
        for (major, minor, words) in [
            (0, 0, [0, 0]),
            (1, 3, [0x0103, 0]),
            (255, 255, [0xffff, 0]),
            (8, 256, [0, 0x0010_0800]),
            (4095, 0xf_ffff, [0, 0xffff_ffff]),
        ] {
            let bytes = device(major, minor);
            assert_eq!(bytes, words.map(u32::to_le_bytes).concat()[..]);
            let mut map = [0; BLOCK_MAP];
            put(&mut map, 0, bytes);
            assert_eq!(device_number(&map), (major, minor));
        }
    }
}
