//! One entry of a newc archive (kernel doc:
//! driver-api/early-userspace/buffer-format.rst).
//!
//! Header, 110 bytes: magic `070701` (or `070702` with checksums), then
//! thirteen fields of eight hexadecimal digits: ino, mode, uid, gid, nlink,
//! mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check.
//! Name (with its NUL) and contents are padded to four bytes, counted from the
//! start of the segment.

use std::io::Write;

use anyhow::{Context, Result, ensure};

use super::file_type;

/// Bytes in a header.
pub const HEADER: usize = 110;
/// Where in the header the fields begin.
const FIELDS: usize = 6;
/// How it starts.
const MAGIC: &[u8; FIELDS] = b"070701";
/// First bytes of a header whose contents have a check sum: the sum of their bytes, 32
/// bits wide. Kernels since 5.19 refuse a file that has another sum.
const MAGIC_CHECKED: &[u8; FIELDS] = b"070702";
/// First bytes of cpio's old portable format.
const MAGIC_OLD: &[u8; FIELDS] = b"070707";
/// The check sum of contents that have none.
const CHECK: u32 = 0;
/// What names and contents are padded to.
const ALIGNMENT: usize = 4;
/// The name of the entry that ends a segment.
pub const TRAILER: &[u8] = b"TRAILER!!!";

/// The fields of a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Inode number.
    pub ino: u32,
    /// `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Link count.
    pub nlink: u32,
    /// Modification time.
    pub mtime: u32,
    /// Bytes of contents.
    pub size: u32,
    /// Device it was on.
    pub dev_major: u32,
    /// As above.
    pub dev_minor: u32,
    /// Device it is.
    pub rdev_major: u32,
    /// As above.
    pub rdev_minor: u32,
    /// Bytes of the name, its NUL included.
    pub name_size: u32,
    /// Sum of the contents' bytes, where the archive has sums.
    pub check: Option<u32>,
}

impl Header {
    /// # Errors
    /// What does not start as a header, or has no number in a field.
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

    /// Whether it is the header of a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.mode & file_type::S_IFMT == file_type::S_IFREG
    }

    /// Whether it is the header of a symbolic link.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.mode & file_type::S_IFMT == file_type::S_IFLNK
    }

    /// Writes it with `name`, whose size takes the place of `name_size`, and what
    /// pads them.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut dyn Write, name: &[u8]) -> Result<()> {
        let name_size = u32::try_from(name.len() + 1).context("name too long")?;
        #[rustfmt::skip]
        let fields = [
            self.ino, self.mode, self.uid, self.gid, self.nlink, self.mtime, self.size,
            self.dev_major, self.dev_minor, self.rdev_major, self.rdev_minor, name_size,
            self.check.unwrap_or(CHECK),
        ];
        let mut bytes = if self.check.is_some() { MAGIC_CHECKED } else { MAGIC }.to_vec();
        bytes.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        out.write_all(&bytes)?;
        Ok(())
    }
}

/// Pads the `size` bytes that were written as contents.
///
/// # Errors
/// Those of `out`.
pub fn pad(out: &mut dyn Write, size: u64) -> Result<()> {
    let zeroes = size.next_multiple_of(ALIGNMENT as u64) - size;
    out.write_all(&[0; ALIGNMENT][..usize::try_from(zeroes)?])?;
    Ok(())
}

/// Writes the entry that ends a segment.
///
/// # Errors
/// Those of `out`.
pub fn trailer(out: &mut dyn Write) -> Result<()> {
    Header { nlink: 1, ..Header::default() }.write(out, TRAILER)
}

fn hex(digits: &[u8]) -> Result<u32> {
    let text = std::str::from_utf8(digits).ok();
    text.filter(|text| text.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .and_then(|text| u32::from_str_radix(text, 16).ok())
        .context("header field is no hexadecimal number")
}
