//! A tar archive as a [`Tree`].
//!
//! Format: blocks of 512 bytes; ustar headers of POSIX pax(1) with its extended
//! headers, and GNU tar's long names, big numbers and sparse files (tar(5) of
//! libarchive). The input is not trusted: of two members with one name the last
//! counts; none is outside of the tree, and links above it are followed in the tree.

use std::fs::File;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::bytes_at;
use super::pax::Extended;
use super::sparse::Sparse;
use crate::image::format::tar_sum;
use crate::image::notes::Notes;
use crate::image::paths::{PATH_MAX, directory};
use crate::image::tree::{Content, Kind, Meta, Tree, components, show};

/// Bytes that headers and data are padded to.
const BLOCK: usize = 512;
/// As an offset.
const BLOCK_BYTES: u64 = BLOCK as u64;

/// Bytes of an extended header at the most: room for the attributes of one file,
/// each of which the kernel limits to 64 KiB.
const EXTENDED_MAX: u64 = 1 << 20;

/// Text that is in no attribute, and that nothing here reads.
const ACL: &str = "a POSIX ACL in text form is left out";

/// The members of `archive`, which is not compressed.
///
/// # Errors
/// Damage, with its offset; a member that cannot be where its name says.
pub fn read(archive: &Arc<File>, notes: &mut Notes) -> Result<Tree> {
    let size = match archive.metadata()?.file_type().is_block_device() {
        true => u64::MAX,
        false => archive.metadata()?.len(),
    };
    let meta = Meta { permissions: 0o755, ..Meta::default() };
    let mut reader = Reader {
        archive,
        size,
        at: 0,
        tree: Tree::new(meta),
        global: Extended::default(),
        next: Extended::default(),
        notes,
    };
    while let Some(header) = reader.header()? {
        let at = reader.at;
        reader.member(&header).with_context(|| format!("member at offset {at}"))?;
    }
    Ok(reader.tree)
}

struct Reader<'a> {
    archive: &'a Arc<File>,
    size: u64,
    /// Where the next block is.
    at: u64,
    tree: Tree,
    /// For all members to come.
    global: Extended,
    /// For the next one.
    next: Extended,
    notes: &'a mut Notes,
}

impl Reader<'_> {
    /// Reads one; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>> {
        // Not every writer ends an archive as it should.
        if self.at == self.size {
            return Ok(None);
        }
        let mut header = Header::new_old();
        self.block(header.as_mut_bytes())?;
        if header.as_bytes().iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let sum = header.cksum().ok();
        let is_right = sum == Some(tar_sum(header.as_bytes()));
        ensure!(is_right, "offset {}: no header of a member", self.at - BLOCK_BYTES);
        Ok(Some(header))
    }

    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<()> {
        let read = self.archive.read_exact_at(block, self.at);
        read.with_context(|| format!("offset {}: truncated", self.at))?;
        self.at += BLOCK_BYTES;
        Ok(())
    }

    fn member(&mut self, header: &Header) -> Result<()> {
        let size = header.entry_size()?;
        match header.entry_type().as_byte() {
            b'x' => {
                let text = self.extension(size)?;
                self.next = self.global.clone();
                self.next.take(&text)
            }
            b'g' => {
                let text = self.extension(size)?;
                self.global.take(&text)?;
                self.next = self.global.clone();
                Ok(())
            }
            b'L' => {
                self.next.path = Some(self.gnu_name(size)?);
                Ok(())
            }
            b'K' => {
                self.next.link = Some(self.gnu_name(size)?);
                Ok(())
            }
            // A volume's label.
            b'V' => Ok(()),
            kind => {
                let extended = std::mem::replace(&mut self.next, self.global.clone());
                self.file(header, kind, extended, size)
            }
        }
    }

    /// The contents of a member that describes the next one.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        let (offset, _) = self.data(size)?;
        bytes_at(self.archive, offset, size, EXTENDED_MAX).context("extended header")
    }

    fn gnu_name(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut name = self.extension(size)?;
        let end = name.iter().position(|&byte| byte == 0);
        name.truncate(end.unwrap_or(name.len()));
        Ok(name)
    }

    /// Where `size` bytes of data begin and end; goes past them.
    fn data(&mut self, size: u64) -> Result<(u64, u64)> {
        let start = self.at;
        let end = start.checked_add(size).filter(|&end| end <= self.size);
        let end = end.with_context(|| format!("offset {start}: truncated"))?;
        // The padding of the last one may be missing.
        self.at = end.next_multiple_of(BLOCK_BYTES).min(self.size);
        Ok((start, end))
    }

    fn file(&mut self, header: &Header, kind: u8, mut extended: Extended, size: u64) -> Result<()> {
        let path = extended.sparse.name.take().or(extended.path.take());
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let size = extended.size.unwrap_or(size);
        let added = self.add(header, kind, extended, &path, size);
        added.with_context(|| show(&path))
    }

    fn add(
        &mut self,
        header: &Header,
        kind: u8,
        mut extended: Extended,
        path: &[u8],
        size: u64,
    ) -> Result<()> {
        if extended.has_acl {
            self.notes.add(ACL, path);
        }
        let target = extended.link.take();
        let target = target.or_else(|| header.link_name_bytes().map(Into::into));
        let target = || {
            let target = target.filter(|target| target.len() <= PATH_MAX);
            target.context("a link to nothing, or to a path that is too long")
        };
        let device = || {
            let numbers = (header.device_major()?, header.device_minor()?);
            anyhow::Ok((numbers.0.unwrap_or_default(), numbers.1.unwrap_or_default()))
        };
        let node = match kind {
            b'1' => return self.hard_link(path, &target()?),
            // Before POSIX a directory was told by its name alone.
            b'0' | 0 | b'7' if path.ends_with(b"/") => {
                self.data(size)?;
                directory()
            }
            b'0' | 0 | b'7' => Kind::File(self.content(&extended, size)?),
            b'S' => Kind::File(self.gnu_sparse(header, size)?),
            b'2' => Kind::Symlink(target()?.into()),
            b'3' => device().map(|(major, minor)| Kind::CharDevice(major, minor))?,
            b'4' => device().map(|(major, minor)| Kind::BlockDevice(major, minor))?,
            b'5' | b'D' => {
                self.data(size)?;
                directory()
            }
            b'6' => Kind::Fifo,
            other => bail!("a member of the unknown type '{}'", other.escape_ascii()),
        };
        self.tree.put(path, meta(header, extended)?, node)?;
        Ok(())
    }

    fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        ensure!(components(target).all(|name| name != b".."), "a link out of the archive");
        let id = self.tree.find_member(target);
        let id = id.with_context(|| format!("a link to {}, which is not there", show(target)))?;
        self.tree.put_link(path, id)
    }

    fn content(&mut self, extended: &Extended, size: u64) -> Result<Content> {
        let (offset, end) = self.data(size)?;
        let sparse = &extended.sparse;
        let Some(real) = sparse.size else {
            return Ok(Content::Part { archive: Arc::clone(self.archive), offset, size });
        };
        let (map, offset) = match sparse.major {
            Some(1) => self.map_before_data(offset, end)?,
            _ => (sparse.map.clone(), offset),
        };
        let (map, rest) = map.as_chunks::<2>();
        ensure!(rest.is_empty(), "half a piece in the map of a sparse file");
        let map: Vec<_> = map.iter().map(|[at, size]| (*at, *size)).collect();
        let sparse = Sparse::new(self.archive, real, &map, offset, end)?;
        Ok(Content::Stored(Arc::new(sparse)))
    }

    /// Lines with numbers: how many pieces, then the offset and length of each,
    /// padded to a block. Gives those, and where the data begin.
    fn map_before_data(&self, offset: u64, end: u64) -> Result<(Vec<u64>, u64)> {
        /// Bytes of a map: that of a million pieces.
        const MAP_MAX: u64 = 32 << 20;
        let size = (end - offset).min(MAP_MAX);
        let mut blocks = super::buffered(self.archive, offset, size);
        let mut line = || super::number_line(&mut blocks);
        let count = line()?;
        ensure!(count <= size, "the map of a sparse file is too long");
        let map = (0..count * 2).map(|_| line()).collect::<Result<Vec<_>>>()?;
        let length: u64 = std::iter::once(&count).chain(&map).map(|&number| digits(number)).sum();
        Ok((map, offset + length.next_multiple_of(BLOCK_BYTES)))
    }

    /// With its map in the header and in blocks that follow it.
    fn gnu_sparse(&mut self, header: &Header, size: u64) -> Result<Content> {
        let gnu = header.as_gnu().context("a sparse file without a GNU header")?;
        let mut map = Vec::new();
        pieces(&gnu.sparse, &mut map)?;
        let mut is_extended = gnu.is_extended();
        while is_extended {
            let mut more = GnuExtSparseHeader::new();
            self.block(more.as_mut_bytes())?;
            pieces(more.sparse(), &mut map)?;
            is_extended = more.is_extended();
        }
        let (offset, end) = self.data(size)?;
        let sparse = Sparse::new(self.archive, gnu.real_size()?, &map, offset, end)?;
        Ok(Content::Stored(Arc::new(sparse)))
    }
}

fn pieces(headers: &[GnuSparseHeader], map: &mut Vec<(u64, u64)>) -> Result<()> {
    for header in headers.iter().filter(|header| !header.is_empty()) {
        map.push((header.offset()?, header.length()?));
    }
    Ok(())
}

/// Of a line with a number.
fn digits(number: u64) -> u64 {
    u64::from(number.checked_ilog10().unwrap_or_default()) + 2
}

fn meta(header: &Header, extended: Extended) -> Result<Meta> {
    let id = |id: Option<u64>, field: std::io::Result<u64>| {
        u32::try_from(id.map_or(field, Ok)?).context("an owner or group above 32 bits")
    };
    // Negative ones are in two's complement.
    let mtime = || anyhow::Ok(header.mtime()?.cast_signed());
    Ok(Meta {
        permissions: u16::try_from(header.mode()? & 0o7777).unwrap_or_default(),
        uid: id(extended.uid, header.uid())?,
        gid: id(extended.gid, header.gid())?,
        mtime: extended.mtime.map_or_else(mtime, Ok)?,
        xattrs: extended.xattrs,
    })
}
