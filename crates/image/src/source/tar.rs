//! A tar archive as a [`Tree`].
//!
//! Format: blocks of 512 bytes; ustar headers of POSIX pax(1) with its extended
//! headers, and GNU tar's long names, big numbers and sparse files (tar(5) of
//! libarchive). The input is not trusted: of two members with one name the last
//! counts, but a directory that is not empty stays; none is outside of the tree, and links above it are followed in the tree.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use files::notes::Notes;
use tar::GnuExtSparseHeader;

use super::pax::Extended;
use super::sparse::Sparse;
use super::tar_blocks::Blocks;
use super::{bytes_at, sparse_map};
use crate::paths::{PATH_MAX, directory};
use crate::tree::{Content, Kind, Meta, Tree, components, show};
use crate::ustar::{self, Header};

/// Bytes of an extended header at the most: room for the attributes of one file,
/// each of which the kernel limits to 64 KiB.
const EXTENDED_MAX: u64 = 1 << 20;
/// Most bytes of the attributes of all members, each member's own counted: members
/// share the attributes of a global header in memory, but an image stores them for
/// each.
const XATTRS_MAX: usize = 1 << 30;
/// Bytes that an attribute takes in memory besides its name and value.
const XATTR_OVERHEAD: usize = 128;
/// Pieces of all sparse files together: about 100 MB of memory.
const PIECES_MAX: usize = 1 << 22;

const ACL: &str = "an access control list that names no numbers, or is not of Linux, is left out";
const UNKNOWN: &str = "a member of an unknown type is read as a file";
const DIRECTORY_STAYS: &str =
    "a member whose name belongs to a directory that is not empty is left out, as tar does";
const SOLARIS_ACL: &str = "an access control list of Solaris is left out";

const CONTINUED: &str =
    "it begins in another volume: join the volumes first, as tar --multi-volume reads them";

/// The members of `archive`, which is not compressed.
///
/// # Errors
/// Damage, with its offset; a member that cannot be where its name says.
pub fn read(archive: &Arc<File>, notes: &mut Notes) -> Result<Tree> {
    let meta = Meta { permissions: 0o755, ..Meta::default() };
    let mut reader = Reader {
        blocks: Blocks::new(archive)?,
        tree: Tree::new(meta),
        global: Extended::default(),
        next: None,
        xattrs_left: XATTRS_MAX,
        pieces_left: PIECES_MAX,
        notes,
    };
    while let Some((header, at)) = reader.blocks.header(reader.notes)? {
        reader.member(&header).with_context(|| format!("member at offset {at}"))?;
    }
    ensure!(reader.next.is_none(), "truncated: nothing follows an extended header");
    Ok(reader.tree)
}

struct Reader<'a> {
    blocks: Blocks<'a>,
    tree: Tree,
    /// For all members to come.
    global: Extended,
    /// Records for the next member, if there are any.
    next: Option<Extended>,
    /// Bytes that attributes may still have.
    xattrs_left: usize,
    /// Pieces that sparse files may still have.
    pieces_left: usize,
    notes: &'a mut Notes,
}

impl Reader<'_> {
    fn member(&mut self, header: &Header) -> Result<()> {
        let size = header.number(ustar::SIZE)?;
        let size = u64::try_from(size).with_context(|| format!("a size of {size} bytes"))?;
        match header.kind() {
            // Solaris' own letter for the same.
            b'x' | b'X' => {
                let text = self.extension(size)?;
                self.next().take(&text)
            }
            b'g' => {
                let text = self.extension(size)?;
                self.global.take_global(&text)
            }
            b'L' => {
                self.next().path = Some(self.gnu_name(size)?.into());
                Ok(())
            }
            b'K' => {
                self.next().link = Some(self.gnu_name(size)?.into());
                Ok(())
            }
            // A volume's label.
            b'V' => {
                self.next = None;
                self.blocks.data(size).map(drop)
            }
            kind => {
                let has_records = self.next.is_some();
                let extended = self.next.take().unwrap_or_else(|| self.global.clone());
                let named = extended.sparse.name.as_ref().or(extended.path.as_ref());
                let path = named.map_or_else(|| header.path().into(), Arc::clone);
                let member = Member { header, kind, path: &path, has_records };
                self.file(&member, extended, size).with_context(|| show(&path))
            }
        }
    }

    /// The records for the next member.
    fn next(&mut self) -> &mut Extended {
        self.next.get_or_insert_with(|| self.global.clone())
    }

    /// The contents of a member that describes the next one.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        let (offset, _) = self.blocks.data(size)?;
        bytes_at(self.blocks.archive, offset, size, EXTENDED_MAX).context("extended header")
    }

    fn gnu_name(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut name = self.extension(size)?;
        let end = name.iter().position(|&byte| byte == 0);
        name.truncate(end.unwrap_or(name.len()));
        Ok(name)
    }

    fn file(&mut self, member: &Member<'_>, extended: Extended, size: u64) -> Result<()> {
        let Member { header, path, .. } = *member;
        ensure!(!path.is_empty(), "it has no name");
        ensure!(!extended.is_continued, "{CONTINUED}");
        let size = extended.size.unwrap_or(size);
        let used = extended.xattrs.size() + XATTR_OVERHEAD * extended.xattrs.len();
        let left = self.xattrs_left.checked_sub(used);
        self.xattrs_left = left
            .with_context(|| format!("the attributes have more than {} MiB", XATTRS_MAX >> 20))?;
        let sparse = &extended.sparse;
        ensure!(
            sparse.size.is_some() || sparse.major.is_none() && sparse.map.is_empty(),
            "a sparse file without its size"
        );
        if extended.has_lost_acl {
            self.notes.add(ACL, path);
        }
        // Before POSIX a directory was told by its name alone.
        let is_directory = path.ends_with(b"/");
        let node = match member.kind {
            b'1' => return self.hard_link(member, extended, size),
            b'0' | 0 | b'7' if is_directory => {
                self.skip(member, size)?;
                directory()
            }
            b'0' | 0 | b'7' => Kind::File(self.content(&extended, size)?),
            b'S' => Kind::File(self.gnu_sparse(header, size)?),
            b'2' => {
                self.skip(member, size)?;
                Kind::Symlink(target(header, &extended)?.into())
            }
            b'3' | b'4' => {
                self.skip(member, size)?;
                member.device(&extended)?
            }
            b'5' => {
                self.skip(member, size)?;
                directory()
            }
            b'6' => {
                self.skip(member, size)?;
                Kind::Fifo
            }
            // With a list of names, of an incremental archive.
            b'D' => {
                self.blocks.data(size)?;
                directory()
            }
            b'A' => {
                self.notes.add(SOLARIS_ACL, path);
                return self.blocks.data(size).map(drop);
            }
            b'M' => bail!("{CONTINUED}"),
            b'N' => bail!("the names of an archive of GNU tar before 1.12 are not supported"),
            _ => {
                self.notes.add(UNKNOWN, path);
                Kind::File(self.content(&extended, size)?)
            }
        };
        if matches!(node, Kind::Directory(_)) || !self.is_filled(path) {
            self.tree.put(path, meta(header, extended)?, node)?;
        }
        Ok(())
    }

    /// Whether a member that is no directory is left out, with a note, because its
    /// name belongs to a directory that is not empty.
    fn is_filled(&mut self, path: &[u8]) -> bool {
        let is_filled = self.tree.find_member(path).is_some_and(|id| self.tree.is_filled(id));
        if is_filled {
            self.notes.add(DIRECTORY_STAYS, path);
        }
        is_filled
    }

    /// Adds a hard link. The member may have the contents once more; if its target is
    /// missing, it becomes a file with them.
    fn hard_link(&mut self, member: &Member<'_>, extended: Extended, size: u64) -> Result<()> {
        let target = target(member.header, &extended)?;
        ensure!(components(&target).all(|name| name != b".."), "a link out of the archive");
        let has_data = self.blocks.has_data(size, member.has_records)?;
        let id = self.tree.find_member(&target);
        if self.is_filled(member.path) {
            return self.skip(member, size);
        }
        if !has_data {
            let id =
                id.with_context(|| format!("a link to {}, which is missing", show(&target)))?;
            return self.tree.put_link(member.path, id);
        }
        let content = self.content(&extended, size)?;
        let Some(id) = id else {
            let meta = meta(member.header, extended)?;
            return self.tree.put(member.path, meta, Kind::File(content)).map(drop);
        };
        self.tree.put_link(member.path, id)?;
        if let Kind::File(old) = &mut self.tree.node_mut(id).kind {
            *old = content;
        }
        Ok(())
    }

    /// Skips data that mean nothing in a member of its type.
    fn skip(&mut self, member: &Member<'_>, size: u64) -> Result<()> {
        if self.blocks.has_data(size, member.has_records)? {
            self.blocks.data(size)?;
        }
        Ok(())
    }

    fn content(&mut self, extended: &Extended, size: u64) -> Result<Content> {
        let (offset, end) = self.blocks.data(size)?;
        let sparse = &extended.sparse;
        let Some(real) = sparse.size else {
            return Ok(Content::Part { archive: Arc::clone(self.blocks.archive), offset, size });
        };
        let (map, offset) = match sparse.major {
            Some(1) => sparse_map::before_data(self.blocks.archive, offset, end)?,
            _ => (sparse_map::of_records(&sparse.map)?, offset),
        };
        self.sparse(real, &map, offset, end)
    }

    fn sparse(&mut self, real: u64, map: &sparse_map::Map, from: u64, end: u64) -> Result<Content> {
        self.take_pieces(map.len())?;
        let sparse = Sparse::new(self.blocks.archive, real, map, from, end)?;
        Ok(Content::Stored(Arc::new(sparse)))
    }

    fn take_pieces(&mut self, count: usize) -> Result<()> {
        let left = self.pieces_left.checked_sub(count);
        self.pieces_left =
            left.with_context(|| format!("sparse files have more than {PIECES_MAX} pieces"))?;
        Ok(())
    }

    /// With its map in the header and in blocks that follow it.
    fn gnu_sparse(&mut self, header: &Header, size: u64) -> Result<Content> {
        let gnu = header.gnu().context("a sparse file without a header of GNU tar")?;
        let mut map = Vec::new();
        sparse_map::add(&gnu.sparse, &mut map)?;
        let mut is_extended = gnu.is_extended();
        while is_extended {
            let mut more = GnuExtSparseHeader::new();
            self.blocks.block(more.as_mut_bytes())?;
            sparse_map::add(more.sparse(), &mut map)?;
            ensure!(map.len() <= self.pieces_left, "it has more than {PIECES_MAX} pieces");
            is_extended = more.is_extended();
        }
        let (offset, end) = self.blocks.data(size)?;
        self.sparse(gnu.real_size()?, &map, offset, end)
    }
}

/// A member that is a file itself, not a description of the next member.
#[derive(Clone, Copy)]
struct Member<'a> {
    header: &'a Header,
    /// `typeflag`
    kind: u8,
    path: &'a [u8],
    /// Whether an extended header precedes it: then the format is that of POSIX or GNU.
    has_records: bool,
}

impl Member<'_> {
    fn device(&self, extended: &Extended) -> Result<Kind> {
        let number = |said: Option<u64>, field| {
            let number =
                said.map_or_else(|| Ok(self.header.number(field)?.cast_unsigned()), anyhow::Ok);
            u32::try_from(number?).context("a device number above 32 bits")
        };
        let major = number(extended.dev_major, ustar::DEV_MAJOR)?;
        let minor = number(extended.dev_minor, ustar::DEV_MINOR)?;
        Ok(match self.kind {
            b'3' => Kind::CharDevice(major, minor),
            _ => Kind::BlockDevice(major, minor),
        })
    }
}

/// Target of a link.
fn target(header: &Header, extended: &Extended) -> Result<Vec<u8>> {
    let target = extended.link.as_deref().unwrap_or_else(|| header.link());
    ensure!(!target.is_empty(), "a link to nothing");
    ensure!(target.len() <= PATH_MAX, "a link to a path of more than {PATH_MAX} bytes");
    ensure!(!target.contains(&0), "a link to a path with NUL");
    Ok(target.to_vec())
}

fn meta(header: &Header, extended: Extended) -> Result<Meta> {
    let id = |id: Option<u64>, field| {
        let id = id.map_or_else(|| Ok(header.number(field)?.cast_unsigned()), anyhow::Ok);
        u32::try_from(id?).context("an owner or group above 32 bits")
    };
    Ok(Meta {
        permissions: u16::try_from(header.number(ustar::MODE)? & 0o7777).unwrap_or_default(),
        uid: id(extended.uid, ustar::UID)?,
        gid: id(extended.gid, ustar::GID)?,
        mtime: extended.mtime.map_or_else(|| header.number(ustar::MTIME), Ok)?,
        xattrs: extended.xattrs,
    })
}
