//! Inodes as bytes.
//!
//! Format: kernel doc filesystems/ext4/inodes.rst. 256 bytes, of which an old
//! file system has the first 128; times from 1901 to 2446.
//!
//! | At | Bytes | Field | At | Bytes | Field |
//! |---|---|---|---|---|---|
//! | 0x00 | 2 | mode | 0x6c | 4 | size, high |
//! | 0x02 | 2 | owner, low | 0x74 | 2 | units of 512 bytes, high |
//! | 0x04 | 4 | size, low | 0x76 | 2 | attribute block, high |
//! | 0x08 | 4x3 | times of access, of change, of modification | 0x78 | 2 | owner, high |
//! | 0x18 | 2 | group, low | 0x7a | 2 | group, high |
//! | 0x1a | 2 | links | 0x7c | 2 | checksum, low |
//! | 0x1c | 4 | units of 512 bytes, low | 0x80 | 2 | bytes in use from here on |
//! | 0x20 | 4 | flags | 0x82 | 2 | checksum, high |
//! | 0x28 | 60 | block map, target or device | 0x84 | 4x3 | high parts of change, modification, access |
//! | 0x64 | 4 | generation | 0x90 | 4+4 | time of birth and its high part |
//! | 0x68 | 4 | attribute block, low | 0xa0 | 96 | attributes |

use super::bytes::{
    crc32c, get, get_halves, get_quarters, get16, get32, low16, low32, put, put_halves,
    put_quarters, put16, put32,
};

/// log2 of [`SIZE`].
pub(super) const SIZE_BITS: u32 = 8;

/// Bytes of an inode that we write.
pub(super) const SIZE: usize = 1 << SIZE_BITS;

/// Bytes of the block map.
pub(super) const MAP: usize = 60;

/// Bytes that we use behind the first 128, attributes not counted.
pub(super) const EXTRA: u16 = 32;

/// Bytes for attributes.
pub(super) const BODY: usize = SIZE - OLD - EXTRA as usize;

/// Bytes of an inode of an old file system.
const OLD: usize = 128;

/// The root directory.
pub(super) const ROOT: u32 = 2;

/// The journal.
pub(super) const JOURNAL: u32 = 8;

/// The first that is free for anything.
pub(super) const FIRST: u32 = 11;

/// `i_flags`.
pub(super) mod flags {
    /// Encrypted.
    pub(in super::super) const ENCRYPT: u32 = 0x800;
    /// A directory with an index.
    pub(in super::super) const INDEX: u32 = 0x1000;
    /// The block map is an extent tree.
    pub(in super::super) const EXTENTS: u32 = 0x8_0000;
    /// The contents are in the inode.
    pub(in super::super) const INLINE_DATA: u32 = 0x1000_0000;
}

/// An inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inode {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) links: u16,
    /// What it occupies, in units of 512 bytes.
    pub(super) units: u64,
    pub(super) flags: u32,
    pub(super) map: [u8; MAP],
    /// 0: none.
    pub(super) xattr_block: u64,
    pub(super) mtime: i64,
    /// The attributes within, header included.
    pub(super) body: Vec<u8>,
}

/// Where the checksums of inode `number` start, and of the blocks that it owns.
pub(super) fn seed(file_system: u32, number: u32) -> u32 {
    /// `i_generation`.
    const GENERATION: u32 = 0;
    crc32c(crc32c(file_system, &number.to_le_bytes()), &GENERATION.to_le_bytes())
}

/// Seconds that an inode can hold, and their two higher bits in the place of those
/// of `i_*time_extra`. What lies beyond is cut to the nearest, as Linux does.
fn time(seconds: i64) -> (u32, u32) {
    /// 2^34 seconds from 1901-12-13.
    const RANGE: (i64, i64) = (-(1 << 31), (1 << 34) - (1 << 31) - 1);
    let seconds = seconds.clamp(RANGE.0, RANGE.1);
    // The low 32 bits are signed; the epoch says what to add to them.
    let epoch = (seconds + (1 << 31)) >> 32;
    (low32(seconds.cast_unsigned()), low32(epoch.cast_unsigned()))
}

/// What a device has in the place of its map: its number in the old form where
/// that fits, or else in the new one behind it (include/linux/kdev_t.h).
pub(super) fn device(major: u32, minor: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    match major < 256 && minor < 256 {
        true => put32(&mut bytes, 0, major << 8 | minor),
        false => put32(&mut bytes, 4, minor & 0xff | major << 8 | (minor & !0xff) << 12),
    }
    bytes
}

/// Major and minor number of what [`device`] made.
pub(super) fn device_number(map: &[u8; MAP]) -> (u32, u32) {
    match (get32(map, 0), get32(map, 4)) {
        (0, new) => (new >> 8 & 0xfff, new & 0xff | new >> 12 & 0xf_ff00),
        (old, _) => (old >> 8 & 0xff, old & 0xff),
    }
}

impl Inode {
    /// Encodes inode `number`; `body` is at most [`BODY`] bytes.
    pub(super) fn encode(&self, file_system: u32, number: u32) -> [u8; SIZE] {
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
            put32(&mut bytes, at_epoch, epoch);
        }
        bytes[SIZE - BODY..][..self.body.len()].copy_from_slice(&self.body);
        let checksum = crc32c(seed(file_system, number), &bytes);
        put_quarters(&mut bytes, 0x7c, 0x82, checksum);
        bytes
    }

    /// Decodes an inode of 128 or more bytes.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        let extra = if bytes.len() > OLD { usize::from(get16(bytes, 0x80)) } else { 0 };
        // What the inode is too short to hold is zero.
        let epoch = if extra >= 12 { get32(bytes, 0x88) & 3 } else { 0 };
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
            body: bytes.get(OLD + extra..).unwrap_or_default().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_is_read_as_it_was_written() {
        let inode = Inode {
            mode: 0o104_755,
            uid: 0x0001_0002,
            gid: 0xfffe_fffd,
            size: 0x12_3456_789a,
            links: 3,
            units: 0x1234_5678_9abc,
            flags: flags::EXTENTS,
            map: [7; MAP],
            xattr_block: 0x1234_5678_9abc,
            mtime: 0,
            body: vec![9; BODY],
        };
        let times = [
            (0, 0),
            (-1, -1),
            (i64::from(i32::MAX) + 1, i64::from(i32::MAX) + 1),
            (i64::MIN, -(1 << 31)),
            (i64::MAX, 15_032_385_535),
        ];
        for (mtime, expected) in times {
            let written = Inode { mtime, ..inode.clone() };
            let read = Inode::decode(&written.encode(1, 2));
            assert_eq!(read, Inode { mtime: expected, ..inode.clone() });
        }
    }

    /// As mknod(2) on a mounted ext4 leaves them.
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
            let mut map = [0; MAP];
            put(&mut map, 0, bytes);
            assert_eq!(device_number(&map), (major, minor));
        }
    }
}
