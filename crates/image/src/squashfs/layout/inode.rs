//! Inodes of squashfs.
//!
//! Format: `struct squashfs_base_inode` and others in `fs/squashfs/squashfs_fs.h`, little
//! endian. A field has 4 bytes unless the table names another size. All inodes start with 0
//! `inode_type` (2 bytes), 2 `mode` (2 bytes, permissions only), 4 `uid` and 6 `guid` (2
//! bytes each, indexes into the table of owners), 8 `mtime`, 12 `inode_number`. From byte 16
//! on the fields depend on the type:
//!
//! | Type | Basic inode | Extended inode |
//! |---|---|---|
//! | directory | `start_block`, `nlink`, `file_size` (2), `offset` (2), `parent_inode` | `nlink`, `file_size`, `start_block`, `parent_inode`, `i_count` (2), `offset` (2), `xattr`; index |
//! | file | `start_block`, `fragment`, `offset`, `file_size`; block descriptions | `start_block` (8), `file_size` (8), `sparse` (8), `nlink`, `fragment`, `offset`, `xattr`; block descriptions |
//! | symbolic link | `nlink`, `symlink_size`; target | as basic, then `xattr` |
//! | device | `nlink`, `rdev` | `nlink`, `rdev`, `xattr` |
//! | FIFO, socket | `nlink` | `nlink`, `xattr` |
//!
//! The `file_size` of a directory is the bytes of its names plus 3. An entry of its index
//! (`struct squashfs_dir_index`) is `index`, the bytes of names before it; `start_block`;
//! `size`, the length of the name minus 1; and the name. The number of an extended type is
//! that of the basic type plus 7.

use anyhow::{Context, Result, bail, ensure};

use super::fields::Fields;
use super::position::Position;
use super::units::NONE;

/// Longest target of a symbolic link, in bytes (`PATH_MAX`).
const TARGET_MAX: u32 = 4096;
/// Difference between an extended type and its basic type (`SQUASHFS_LDIR_TYPE` minus
/// `SQUASHFS_DIR_TYPE`).
const EXTENDED: u16 = 7;
/// Number that `file_size` of a directory has besides the bytes of its names, for `.` and
/// `..`.
pub(in crate::squashfs) const DOTS: u32 = 3;

/// Basic types of inodes.
pub(in crate::squashfs) mod kind {
    /// Directory (`SQUASHFS_DIR_TYPE`).
    pub(in crate::squashfs) const DIRECTORY: u16 = 1;
    /// Regular file (`SQUASHFS_REG_TYPE`).
    pub(in crate::squashfs) const FILE: u16 = 2;
    /// Symbolic link (`SQUASHFS_SYMLINK_TYPE`).
    pub(in crate::squashfs) const SYMLINK: u16 = 3;
    /// Block device (`SQUASHFS_BLKDEV_TYPE`).
    pub(in crate::squashfs) const BLOCK_DEVICE: u16 = 4;
    /// Character device (`SQUASHFS_CHRDEV_TYPE`).
    pub(in crate::squashfs) const CHAR_DEVICE: u16 = 5;
    /// FIFO (`SQUASHFS_FIFO_TYPE`).
    pub(in crate::squashfs) const FIFO: u16 = 6;
    /// Socket (`SQUASHFS_SOCKET_TYPE`).
    pub(in crate::squashfs) const SOCKET: u16 = 7;
}

/// Inode without the block descriptions or the index that follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::squashfs) struct SquashfsInode {
    /// Basic type, see [`kind`].
    pub kind: u16,
    /// Permissions (`mode`).
    pub permissions: u16,
    /// Index of the owner in the table of owners and groups.
    pub uid: u16,
    /// Index of the group in the same table (`guid`).
    pub gid: u16,
    /// Modification time in seconds since 1970.
    pub mtime: u32,
    /// Number of the inode (`inode_number`).
    pub number: u32,
    /// Number of hard links (`nlink`).
    pub links: u32,
    /// Number of the set of attributes (`xattr`), or [`NONE`].
    pub xattrs: u32,
    /// Fields that depend on the type.
    pub body: InodeBody,
}

/// Fields of an inode that depend on its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::squashfs) enum InodeBody {
    /// Directory.
    Directory {
        /// Position of the names in the table of names.
        names: Position,
        /// Bytes of the names, without [`DOTS`].
        size: u32,
        /// Inode number of the directory above (`parent_inode`).
        parent: u32,
        /// Index of the names.
        index: Vec<IndexEntry>,
    },
    /// Regular file. The descriptions of its blocks follow the inode.
    File {
        /// Address of the first block (`start_block`).
        start: u64,
        /// Bytes of the file (`file_size`).
        size: u64,
        /// Bytes of blocks that are not stored because they are zero (`sparse`).
        holes: u64,
        /// Place of the bytes that do not fill a block.
        fragment: FragmentPart,
    },
    /// Symbolic link with its target.
    Symlink(Box<[u8]>),
    /// Device with its number (`rdev`).
    Device(u32),
    /// FIFO or socket.
    Nothing,
}

/// Part of a fragment that holds the end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::squashfs) struct FragmentPart {
    /// Number of the fragment, or [`NONE`].
    pub number: u32,
    /// Offset in the unpacked fragment, in bytes.
    pub offset: u32,
}

/// Entry of a directory's index. A search for a name can start at this entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::squashfs) struct IndexEntry {
    /// Bytes of names before the name of this entry (`index`).
    pub before: u32,
    /// Address of the metadata block that holds the name (`start_block`).
    pub block: u32,
    /// The name.
    pub name: Box<[u8]>,
}

impl SquashfsInode {
    /// Encodes the inode and the index of a directory.
    ///
    /// # Errors
    /// A directory has too many names.
    pub(in crate::squashfs) fn encode(&self) -> Result<Vec<u8>> {
        let is_extended = self.is_extended();
        let mut out = Vec::with_capacity(64);
        let kind = self.kind + if is_extended { EXTENDED } else { 0 };
        for number in [kind, self.permissions, self.uid, self.gid] {
            out.extend(number.to_le_bytes());
        }
        put(&mut out, &[self.mtime, self.number]);
        match &self.body {
            InodeBody::Directory { names, size, parent, index } => {
                let size = size.checked_add(DOTS).context("too many names in a directory")?;
                if is_extended {
                    put(&mut out, &[self.links, size, names.block, *parent]);
                    out.extend(u16::try_from(index.len())?.to_le_bytes());
                    out.extend(names.offset.to_le_bytes());
                    put(&mut out, &[self.xattrs]);
                    for entry in index {
                        let last = u32::try_from(entry.name.len())?.saturating_sub(1);
                        put(&mut out, &[entry.before, entry.block, last]);
                        out.extend_from_slice(&entry.name);
                    }
                } else {
                    put(&mut out, &[names.block, self.links]);
                    out.extend(u16::try_from(size)?.to_le_bytes());
                    out.extend(names.offset.to_le_bytes());
                    put(&mut out, &[*parent]);
                }
            }
            InodeBody::File { start, size, holes, fragment } => {
                if is_extended {
                    // The kernel subtracts the holes from the size before it rounds up.
                    let holes = (*holes).min(size.saturating_sub(1));
                    out.extend([*start, *size, holes].into_iter().flat_map(u64::to_le_bytes));
                    put(&mut out, &[self.links, fragment.number, fragment.offset, self.xattrs]);
                } else {
                    let (start, size) = (u32::try_from(*start)?, u32::try_from(*size)?);
                    put(&mut out, &[start, fragment.number, fragment.offset, size]);
                }
            }
            InodeBody::Symlink(target) => {
                put(&mut out, &[self.links, u32::try_from(target.len())?]);
                out.extend_from_slice(target);
            }
            InodeBody::Device(device) => put(&mut out, &[self.links, *device]),
            InodeBody::Nothing => put(&mut out, &[self.links]),
        }
        if is_extended && !matches!(self.body, InodeBody::Directory { .. } | InodeBody::File { .. })
        {
            put(&mut out, &[self.xattrs]);
        }
        Ok(out)
    }

    /// Whether the inode needs the extended form.
    fn is_extended(&self) -> bool {
        let is_small = |number: u64| u32::try_from(number).is_ok();
        self.xattrs != NONE
            || match &self.body {
                InodeBody::Directory { size, index, .. } => {
                    !index.is_empty() || *size > u32::from(u16::MAX) - DOTS
                }
                InodeBody::File { start, size, holes, .. } => {
                    self.links != 1 || *holes > 0 || !is_small(*start) || !is_small(*size)
                }
                _ => false,
            }
    }

    /// Decodes the next inode. The block descriptions of a file and the index of a directory
    /// are left in `fields`.
    ///
    /// # Errors
    /// The type is unknown, or the target of a link is too long.
    pub(in crate::squashfs) fn decode(fields: &mut impl Fields) -> Result<Self> {
        let kind = fields.u16()?;
        let (permissions, uid, gid) = (fields.u16()?, fields.u16()?, fields.u16()?);
        let (mtime, number) = (fields.u32()?, fields.u32()?);
        let is_extended = kind > EXTENDED;
        let kind = if is_extended { kind - EXTENDED } else { kind };
        let (mut links, mut xattrs) = (1, NONE);
        let body = match (kind, is_extended) {
            (kind::DIRECTORY, false) => {
                let block = fields.u32()?;
                links = fields.u32()?;
                let (size, offset) = (fields.u16()?, fields.u16()?);
                let size = u32::from(size).saturating_sub(DOTS);
                let (names, index) = (Position { block, offset }, Vec::new());
                InodeBody::Directory { names, size, parent: fields.u32()?, index }
            }
            (kind::DIRECTORY, true) => {
                links = fields.u32()?;
                let (size, block, parent) = (fields.u32()?, fields.u32()?, fields.u32()?);
                let (_, offset) = (fields.u16()?, fields.u16()?);
                xattrs = fields.u32()?;
                let size = size.saturating_sub(DOTS);
                let (names, index) = (Position { block, offset }, Vec::new());
                InodeBody::Directory { names, size, parent, index }
            }
            (kind::FILE, false) => {
                let start = fields.u32()?.into();
                let fragment = FragmentPart { number: fields.u32()?, offset: fields.u32()? };
                InodeBody::File { start, size: fields.u32()?.into(), holes: 0, fragment }
            }
            (kind::FILE, true) => {
                let (start, size, holes) = (fields.u64()?, fields.u64()?, fields.u64()?);
                links = fields.u32()?;
                let fragment = FragmentPart { number: fields.u32()?, offset: fields.u32()? };
                xattrs = fields.u32()?;
                InodeBody::File { start, size, holes, fragment }
            }
            (kind::SYMLINK, _) => {
                links = fields.u32()?;
                let size = fields.u32()?;
                ensure!(size <= TARGET_MAX, "a symbolic link of {size} bytes");
                let mut target = vec![0; size as usize];
                fields.fill(&mut target)?;
                InodeBody::Symlink(target.into())
            }
            (kind::BLOCK_DEVICE | kind::CHAR_DEVICE, _) => {
                links = fields.u32()?;
                InodeBody::Device(fields.u32()?)
            }
            (kind::FIFO | kind::SOCKET, _) => {
                links = fields.u32()?;
                InodeBody::Nothing
            }
            _ => bail!("an inode has the unknown type {kind}"),
        };
        if is_extended && !matches!(body, InodeBody::Directory { .. } | InodeBody::File { .. }) {
            xattrs = fields.u32()?;
        }
        Ok(Self { kind, permissions, uid, gid, mtime, number, links, xattrs, body })
    }
}

/// Appends numbers of 32 bits.
fn put(out: &mut Vec<u8>, numbers: &[u32]) {
    out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(kind: u16, body: InodeBody) -> SquashfsInode {
        let (permissions, uid, gid, mtime, number) = (0o4751, 1, 2, 7, 9);
        SquashfsInode { kind, permissions, uid, gid, mtime, number, links: 1, xattrs: NONE, body }
    }

    /// The expected bytes were written by hand after `squashfs_fs.h`.
    #[test]
    fn inodes_have_the_format_of_the_kernel() {
        let fragment = FragmentPart { number: 3, offset: 4 };
        let body = InodeBody::File { start: 96, size: 5, holes: 0, fragment };
        let expected = [
            &[2, 0, 0xe9, 9, 1, 0, 2, 0, 7, 0, 0, 0, 9, 0, 0, 0][..],
            &[96, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0],
        ];
        assert_eq!(inode(kind::FILE, body).encode().unwrap(), expected.concat());
        let names = Position { block: 5, offset: 6 };
        let body = InodeBody::Directory { names, size: 100, parent: 8, index: Vec::new() };
        let expected = [5, 0, 0, 0, 1, 0, 0, 0, 103, 0, 6, 0, 8, 0, 0, 0];
        assert_eq!(inode(kind::DIRECTORY, body).encode().unwrap()[16..], expected);
    }

    #[test]
    fn inodes_of_all_kinds_decode_to_themselves() {
        let names = Position { block: 5, offset: 6 };
        let fragment = FragmentPart { number: NONE, offset: 0 };
        let directory = |size| InodeBody::Directory { names, size, parent: 8, index: Vec::new() };
        let file = |start, size, holes| InodeBody::File { start, size, holes, fragment };
        let bodies = [
            (kind::DIRECTORY, directory(0)),
            (kind::DIRECTORY, directory(65532)),
            (kind::DIRECTORY, directory(65533)),
            (kind::FILE, file(96, 5, 0)),
            (kind::FILE, file(1 << 32, 5, 0)),
            (kind::FILE, file(96, 1 << 32, 5)),
            (kind::SYMLINK, InodeBody::Symlink(b"target".as_slice().into())),
            (kind::BLOCK_DEVICE, InodeBody::Device(u32::MAX)),
            (kind::CHAR_DEVICE, InodeBody::Device(5)),
            (kind::FIFO, InodeBody::Nothing),
            (kind::SOCKET, InodeBody::Nothing),
        ];
        for (kind, body) in bodies {
            for (links, xattrs) in [(1, NONE), (1, 0), (3, NONE), (3, 7)] {
                let inode = SquashfsInode { links, xattrs, ..inode(kind, body.clone()) };
                let bytes = inode.encode().unwrap();
                assert_eq!(SquashfsInode::decode(&mut &bytes[..]).unwrap(), inode);
                let cut = &bytes[..bytes.len() - 1];
                assert!(SquashfsInode::decode(&mut &*cut).is_err(), "{inode:?}");
            }
        }
    }
}
