//! Inodes: encoded and decoded, no I/O.
//!
//! Format: `fs/squashfs/squashfs_fs.h`, little endian, u32 where nothing is said.
//! All start with 0 type (u16), 2 permissions (u16), 4 owner and 6 group by number
//! (u16), 8 mtime, 12 the inode's number. From byte 16 on:
//!
//! | | Basic | Extended |
//! |---|---|---|
//! | directory | block of names, links, bytes of names + 3 (u16), offset of names (u16), parent | links, bytes + 3, block, parent, entries of index (u16), offset (u16), attributes; index |
//! | file | first block, fragment, offset in it, size; blocks | first block (u64), size (u64), bytes of holes (u64), links, fragment, offset, attributes; blocks |
//! | link | links, length; target | the same; then attributes |
//! | device | links, device | links, device, attributes |
//! | FIFO, socket | links | links, attributes |
//!
//! An entry of an index: bytes of names before it, block of names, length of the
//! name - 1; name. An extended type is the basic one and 7.

use anyhow::{Context, Result, bail, ensure};

use super::layout::{Fields, NONE};
use super::metadata::Position;

/// Longest target of a link (`PATH_MAX`).
const TARGET_MAX: u32 = 4096;
/// From a basic type to the extended one.
const EXTENDED: u16 = 7;
/// What the size of a directory counts beside its names: as `.` and `..`.
pub(super) const DOTS: u32 = 3;

/// Basic types.
pub(super) mod kind {
    pub(in super::super) const DIRECTORY: u16 = 1;
    pub(in super::super) const FILE: u16 = 2;
    pub(in super::super) const SYMLINK: u16 = 3;
    pub(in super::super) const BLOCK_DEVICE: u16 = 4;
    pub(in super::super) const CHAR_DEVICE: u16 = 5;
    pub(in super::super) const FIFO: u16 = 6;
    pub(in super::super) const SOCKET: u16 = 7;
}

/// An inode without what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inode {
    /// Basic.
    pub kind: u16,
    pub permissions: u16,
    /// By number.
    pub uid: u16,
    /// By number.
    pub gid: u16,
    pub mtime: u32,
    pub number: u32,
    pub links: u32,
    /// Number of the set of attributes, or [`NONE`].
    pub xattrs: u32,
    pub body: Body,
}

/// What differs by type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// `size` without [`DOTS`].
    Directory { names: Position, size: u32, parent: u32, index: Vec<Index> },
    /// Its blocks follow.
    File { start: u64, size: u64, holes: u64, fragment: Fragment },
    /// With its target.
    Symlink(Box<[u8]>),
    /// With its number.
    Device(u32),
    /// FIFO or socket.
    Nothing,
}

/// Where the end of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    /// Or [`NONE`].
    pub number: u32,
    /// In bytes, in what it unpacks to.
    pub offset: u32,
}

/// A name that the search for others may start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Index {
    /// Bytes of names before it.
    pub before: u32,
    /// The metadata block that it is in.
    pub block: u32,
    pub name: Box<[u8]>,
}

impl Inode {
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let is_extended = self.is_extended();
        let mut out = Vec::with_capacity(64);
        let kind = self.kind + if is_extended { EXTENDED } else { 0 };
        for number in [kind, self.permissions, self.uid, self.gid] {
            out.extend(number.to_le_bytes());
        }
        put(&mut out, &[self.mtime, self.number]);
        match &self.body {
            Body::Directory { names, size, parent, index } => {
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
            Body::File { start, size, holes, fragment } => {
                if is_extended {
                    // Linux takes both away from the size before it rounds up.
                    let holes = (*holes).min(size.saturating_sub(1));
                    out.extend([*start, *size, holes].into_iter().flat_map(u64::to_le_bytes));
                    put(&mut out, &[self.links, fragment.number, fragment.offset, self.xattrs]);
                } else {
                    let (start, size) = (u32::try_from(*start)?, u32::try_from(*size)?);
                    put(&mut out, &[start, fragment.number, fragment.offset, size]);
                }
            }
            Body::Symlink(target) => {
                put(&mut out, &[self.links, u32::try_from(target.len())?]);
                out.extend_from_slice(target);
            }
            Body::Device(device) => put(&mut out, &[self.links, *device]),
            Body::Nothing => put(&mut out, &[self.links]),
        }
        if is_extended && !matches!(self.body, Body::Directory { .. } | Body::File { .. }) {
            put(&mut out, &[self.xattrs]);
        }
        Ok(out)
    }

    /// Whether the basic form has no room for it.
    fn is_extended(&self) -> bool {
        let is_small = |number: u64| u32::try_from(number).is_ok();
        self.xattrs != NONE
            || match &self.body {
                Body::Directory { size, index, .. } => {
                    !index.is_empty() || *size > u32::from(u16::MAX) - DOTS
                }
                Body::File { start, size, holes, .. } => {
                    self.links != 1 || *holes > 0 || !is_small(*start) || !is_small(*size)
                }
                _ => false,
            }
    }

    /// The next inode; blocks of a file and the index of a directory are left.
    ///
    /// # Errors
    /// A type that there is not, or a target that is too long.
    pub(super) fn decode(fields: &mut impl Fields) -> Result<Self> {
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
                Body::Directory { names, size, parent: fields.u32()?, index }
            }
            (kind::DIRECTORY, true) => {
                links = fields.u32()?;
                let (size, block, parent) = (fields.u32()?, fields.u32()?, fields.u32()?);
                let (_, offset) = (fields.u16()?, fields.u16()?);
                xattrs = fields.u32()?;
                let size = size.saturating_sub(DOTS);
                let (names, index) = (Position { block, offset }, Vec::new());
                Body::Directory { names, size, parent, index }
            }
            (kind::FILE, false) => {
                let start = fields.u32()?.into();
                let fragment = Fragment { number: fields.u32()?, offset: fields.u32()? };
                Body::File { start, size: fields.u32()?.into(), holes: 0, fragment }
            }
            (kind::FILE, true) => {
                let (start, size, holes) = (fields.u64()?, fields.u64()?, fields.u64()?);
                links = fields.u32()?;
                let fragment = Fragment { number: fields.u32()?, offset: fields.u32()? };
                xattrs = fields.u32()?;
                Body::File { start, size, holes, fragment }
            }
            (kind::SYMLINK, _) => {
                links = fields.u32()?;
                let size = fields.u32()?;
                ensure!(size <= TARGET_MAX, "a link with {size} bytes");
                let mut target = vec![0; size as usize];
                fields.fill(&mut target)?;
                Body::Symlink(target.into())
            }
            (kind::BLOCK_DEVICE | kind::CHAR_DEVICE, _) => {
                links = fields.u32()?;
                Body::Device(fields.u32()?)
            }
            (kind::FIFO | kind::SOCKET, _) => {
                links = fields.u32()?;
                Body::Nothing
            }
            _ => bail!("an inode of unknown type {kind}"),
        };
        if is_extended && !matches!(body, Body::Directory { .. } | Body::File { .. }) {
            xattrs = fields.u32()?;
        }
        Ok(Self { kind, permissions, uid, gid, mtime, number, links, xattrs, body })
    }
}

fn put(out: &mut Vec<u8>, numbers: &[u32]) {
    out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(kind: u16, body: Body) -> Inode {
        let (permissions, uid, gid, mtime, number) = (0o4751, 1, 2, 7, 9);
        Inode { kind, permissions, uid, gid, mtime, number, links: 1, xattrs: NONE, body }
    }

    /// Laid out by hand after the kernel's header.
    #[test]
    fn bytes_are_those_of_the_kernel() {
        let fragment = Fragment { number: 3, offset: 4 };
        let body = Body::File { start: 96, size: 5, holes: 0, fragment };
        let expected = [
            &[2, 0, 0xe9, 9, 1, 0, 2, 0, 7, 0, 0, 0, 9, 0, 0, 0][..],
            &[96, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0],
        ];
        assert_eq!(inode(kind::FILE, body).encode().unwrap(), expected.concat());
        let names = Position { block: 5, offset: 6 };
        let body = Body::Directory { names, size: 100, parent: 8, index: Vec::new() };
        let expected = [5, 0, 0, 0, 1, 0, 0, 0, 103, 0, 6, 0, 8, 0, 0, 0];
        assert_eq!(inode(kind::DIRECTORY, body).encode().unwrap()[16..], expected);
    }

    #[test]
    fn all_kinds_are_read_as_they_are_written() {
        let names = Position { block: 5, offset: 6 };
        let fragment = Fragment { number: NONE, offset: 0 };
        let directory = |size| Body::Directory { names, size, parent: 8, index: Vec::new() };
        let file = |start, size, holes| Body::File { start, size, holes, fragment };
        let bodies = [
            (kind::DIRECTORY, directory(0)),
            (kind::DIRECTORY, directory(65532)),
            (kind::DIRECTORY, directory(65533)),
            (kind::FILE, file(96, 5, 0)),
            (kind::FILE, file(1 << 32, 5, 0)),
            (kind::FILE, file(96, 1 << 32, 5)),
            (kind::SYMLINK, Body::Symlink(b"target".as_slice().into())),
            (kind::BLOCK_DEVICE, Body::Device(u32::MAX)),
            (kind::CHAR_DEVICE, Body::Device(5)),
            (kind::FIFO, Body::Nothing),
            (kind::SOCKET, Body::Nothing),
        ];
        for (kind, body) in bodies {
            for (links, xattrs) in [(1, NONE), (1, 0), (3, NONE), (3, 7)] {
                let inode = Inode { links, xattrs, ..inode(kind, body.clone()) };
                let bytes = inode.encode().unwrap();
                assert_eq!(Inode::decode(&mut &bytes[..]).unwrap(), inode);
                let cut = &bytes[..bytes.len() - 1];
                assert!(Inode::decode(&mut &*cut).is_err(), "{inode:?}");
            }
        }
    }
}
