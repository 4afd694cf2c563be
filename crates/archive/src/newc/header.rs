//! The header of a member of a newc archive.
//!
//! Format: kernel doc driver-api/early-userspace/buffer-format.rst. A header has 110
//! bytes: the magic `070701` (or `070702` with check sums), then thirteen fields of eight
//! hexadecimal digits: ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor,
//! rdevmajor, rdevminor, namesize, check. The name (with its NUL) and the contents are
//! each padded to four bytes, counted from the start of the segment.
//!
//! This module only parses; `write` writes headers with the crate `cpio`. The reader of that
//! crate refuses names that are not UTF-8, and reads all contents instead of seeking.

use anyhow::{Context, Result, ensure};

/// Bytes of a header.
pub(super) const HEADER: usize = 110;
/// Offset of the first field, after the magic.
const FIELDS: usize = 6;
/// First bytes of a header (`c_magic`).
pub const MAGIC: &[u8; FIELDS] = b"070701";
/// First bytes of a header whose contents have a check sum: the sum of all bytes, modulo
/// 2^32. Kernels since 5.19 refuse a file whose sum differs.
pub const MAGIC_CHECKED: &[u8; FIELDS] = b"070702";
/// First bytes of cpio's old portable format.
const MAGIC_OLD: &[u8; FIELDS] = b"070707";
/// Multiple of bytes at which an archive, the contents of a member and the next header
/// begin.
pub(super) const ALIGNMENT: u64 = 4;
/// Name of the member that ends an archive.
pub const TRAILER: &[u8] = b"TRAILER!!!";

/// Mask of the file type in `st_mode` (inode(7)).
pub const S_IFMT: u32 = 0o170_000;
/// File type of a directory (inode(7)).
pub const S_IFDIR: u32 = 0o040_000;
/// File type of a symbolic link (inode(7)).
pub const S_IFLNK: u32 = 0o120_000;
/// File type of a regular file (inode(7)).
pub const S_IFREG: u32 = 0o100_000;

/// The fields of a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Inode number (`c_ino`).
    pub ino: u32,
    /// File type and permissions (`c_mode`).
    pub mode: u32,
    /// Owner (`c_uid`).
    pub uid: u32,
    /// Group (`c_gid`).
    pub gid: u32,
    /// Number of links (`c_nlink`).
    pub nlink: u32,
    /// Modification time in seconds since 1970 (`c_mtime`).
    pub mtime: u32,
    /// Bytes of contents (`c_filesize`).
    pub size: u32,
    /// Major number of the device that had the file (`c_maj`).
    pub dev_major: u32,
    /// Minor number of the device that had the file (`c_min`).
    pub dev_minor: u32,
    /// Major number of a device node (`c_rmaj`).
    pub rdev_major: u32,
    /// Minor number of a device node (`c_rmin`).
    pub rdev_minor: u32,
    /// Bytes of the name, its NUL included (`c_namesize`).
    pub name_size: u32,
    /// Sum of the bytes of the contents (`c_chksum`); `None` if the archive has no sums.
    pub check: Option<u32>,
}

impl Header {
    /// Parses a header.
    ///
    /// # Errors
    /// Another magic, or a field that is not a hexadecimal number.
    pub fn parse(bytes: &[u8; HEADER]) -> Result<Self> {
        let is_checked = bytes.starts_with(MAGIC_CHECKED);
        ensure!(
            !bytes.starts_with(MAGIC_OLD),
            "an archive in cpio's old format, which no kernel unpacks: make it with cpio -H newc"
        );
        ensure!(is_checked || bytes.starts_with(MAGIC), "no newc header");
        let field = |index: usize| hex(&bytes[FIELDS + 8 * index..][..8]);
        Ok(Self {
            ino: field(0)?,
            mode: field(1)?,
            uid: field(2)?,
            gid: field(3)?,
            nlink: field(4)?,
            mtime: field(5)?,
            size: field(6)?,
            dev_major: field(7)?,
            dev_minor: field(8)?,
            rdev_major: field(9)?,
            rdev_minor: field(10)?,
            name_size: field(11)?,
            check: is_checked.then(|| field(12)).transpose()?,
        })
    }

    /// Whether the member is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.mode & S_IFMT == S_IFREG
    }

    /// Whether the member is a symbolic link.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.mode & S_IFMT == S_IFLNK
    }
}

fn hex(digits: &[u8]) -> Result<u32> {
    let text = std::str::from_utf8(digits).ok();
    text.filter(|text| text.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .and_then(|text| u32::from_str_radix(text, 16).ok())
        .context("header field is no hexadecimal number")
}
