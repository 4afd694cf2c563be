//! The members of a tar archive: a header, its extended headers and its data become one value.
//!
//! Format: blocks of 512 bytes; ustar headers and extended headers of POSIX pax(1); long
//! names, big numbers and sparse files of GNU tar (tar(5) of libarchive).
//!
//! The input is not trusted: sizes, attributes and pieces of sparse files are bounded. Nothing
//! here knows a tree; the caller decides where a member goes.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use files::notes::Notes;
use tar::GnuExtSparseHeader;

use super::blocks::{Reading, TarBlocks};
use super::budget::Budget;
use super::pax::Extended;
use super::sparse::SparseContent;
use super::sparse_map;
use crate::tree::{Content, Kind, Meta, PATH_MAX, directory, show};
use crate::ustar::{self, Header};

/// Most bytes of an extended header. It has room for many attributes of one file; the kernel
/// limits each of them to 64 KiB.
const EXTENDED_MAX: u64 = 1 << 20;
/// Bytes of memory that an attribute needs besides its name and value.
const XATTR_OVERHEAD: usize = 128;

const ACL: &str =
    "an access control list without numbers, or of another system than Linux, is left out";
const UNKNOWN: &str = "a member of an unknown type is read as a file";
const SOLARIS_ACL: &str = "an access control list of Solaris is left out";

const CONTINUED: &str =
    "it begins in another volume: join the volumes first, as tar --multi-volume reads them";

/// A member of an archive.
#[derive(Debug)]
pub(super) struct Member {
    /// Offset of its header in the archive.
    pub(super) at: u64,
    /// Its path as the archive has it: with or without a leading `/`, perhaps with `..`.
    pub(super) path: Arc<[u8]>,
    /// The file that it stands for.
    pub(super) entry: Entry,
}

/// The file that a member stands for.
#[derive(Debug)]
pub(super) enum Entry {
    /// A file of its own.
    Node(Meta, Kind),
    /// One more name of another member.
    HardLink {
        /// Path of that member.
        target: Vec<u8>,
        /// The data again, if the member contains them.
        data: Option<(Meta, Content)>,
    },
}

/// Reader of the members of an archive.
pub(super) struct TarMembers<'a> {
    blocks: TarBlocks<'a>,
    /// Values of the global headers, for all members after them.
    global: Extended,
    /// Values of the extended headers for the next member; `None` if there are none.
    next: Option<Extended>,
    budget: &'a mut Budget,
}

impl<'a> TarMembers<'a> {
    /// A reader at the first member of `archive`, which must not be compressed. What its
    /// members need in memory is taken from `budget`.
    pub(super) fn new(
        archive: &'a Arc<File>,
        reading: Reading,
        budget: &'a mut Budget,
    ) -> Result<Self> {
        Ok(Self {
            blocks: TarBlocks::new(archive, reading)?,
            global: Extended::default(),
            next: None,
            budget,
        })
    }

    /// Reads the next member; `None` at the end of the archive.
    ///
    /// # Errors
    /// Damage, with its offset.
    pub(super) fn next(&mut self, notes: &mut Notes) -> Result<Option<Member>> {
        while let Some((header, at)) = self.blocks.header(notes)? {
            let member = self.header(&header, at, notes);
            if let Some(member) = member.with_context(|| format!("member at offset {at}"))? {
                return Ok(Some(member));
            }
        }
        ensure!(self.next.is_none(), "truncated: nothing follows an extended header");
        Ok(None)
    }

    /// Whether there was a header of any kind so far.
    pub(super) fn has_begun(&self) -> bool {
        self.blocks.has_begun()
    }

    /// Handles a header. Returns `None` if it describes the next member or no file.
    fn header(&mut self, header: &Header, at: u64, notes: &mut Notes) -> Result<Option<Member>> {
        let size = size(header).with_context(|| show(&header.path()))?;
        match header.kind() {
            // Solaris writes extended headers as `X`.
            b'x' | b'X' => {
                let text = self.extension(size)?;
                self.described().take(&text)?;
            }
            b'g' => {
                let text = self.extension(size)?;
                self.global.take_global(&text)?;
            }
            b'L' => self.described().path = Some(self.gnu_name(size)?.into()),
            b'K' => self.described().link = Some(self.gnu_name(size)?.into()),
            // The label of a volume.
            b'V' => {
                self.next = None;
                self.blocks.data(size)?;
            }
            kind => {
                let has_records = self.next.is_some();
                let extended = self.next.take().unwrap_or_else(|| self.global.clone());
                let named = extended.sparse.name.as_ref().or(extended.path.as_ref());
                let path = named.map_or_else(|| header.path().into(), Arc::clone);
                let member = FileMember { header, kind, path: &path, has_records };
                let entry = self.file(&member, extended, size, notes);
                let entry = entry.with_context(|| show(&path))?;
                return Ok(entry.map(|entry| Member { at, path, entry }));
            }
        }
        Ok(None)
    }

    /// The values for the next member, initially those of the global headers.
    fn described(&mut self) -> &mut Extended {
        self.next.get_or_insert_with(|| self.global.clone())
    }

    /// Reads the data of a member that describes the next member.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        let (offset, _) = self.blocks.data(size)?;
        self.blocks.bytes(offset, size, EXTENDED_MAX).context("extended header")
    }

    fn gnu_name(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut name = self.extension(size)?;
        let end = name.iter().position(|&byte| byte == 0);
        name.truncate(end.unwrap_or(name.len()));
        Ok(name)
    }

    /// Reads the rest of a member. Returns `None` if the member stands for no file.
    fn file(
        &mut self,
        member: &FileMember<'_>,
        extended: Extended,
        size: u64,
        notes: &mut Notes,
    ) -> Result<Option<Entry>> {
        let FileMember { header, path, .. } = *member;
        ensure!(!path.is_empty(), "it has no name");
        ensure!(!extended.is_continued, "{CONTINUED}");
        let size = extended.size.unwrap_or(size);
        let used = extended.xattrs.size() + XATTR_OVERHEAD * extended.xattrs.len();
        self.budget.take_xattrs(used)?;
        let sparse = &extended.sparse;
        ensure!(
            sparse.size.is_some() || sparse.major.is_none() && sparse.map.is_empty(),
            "a sparse file without its size"
        );
        if extended.has_lost_acl {
            notes.add(ACL, path);
        }
        // Before POSIX, only the slash at the end of the name marked a directory.
        let is_directory = path.ends_with(b"/");
        let node = match member.kind {
            b'1' => return self.hard_link(member, extended, size).map(Some),
            b'0' | 0 | b'7' if is_directory => {
                self.blocks.data(size)?;
                directory()
            }
            b'0' | 0 | b'7' => Kind::File(self.content(&extended, size)?),
            b'S' => Kind::File(self.gnu_sparse(header, size)?),
            b'2' => {
                self.skip(size)?;
                Kind::Symlink(target(header, &extended)?.into())
            }
            b'3' | b'4' => {
                self.skip(size)?;
                member.device(&extended)?
            }
            b'5' => {
                self.skip(size)?;
                directory()
            }
            b'6' => {
                self.skip(size)?;
                Kind::Fifo
            }
            // A directory of an incremental archive; its data is a list of names.
            b'D' => {
                self.blocks.data(size)?;
                directory()
            }
            b'A' => {
                notes.add(SOLARIS_ACL, path);
                return self.blocks.data(size).map(|_| None);
            }
            b'M' => bail!("{CONTINUED}"),
            b'N' => bail!("the names of an archive of GNU tar before 1.12 are not supported"),
            _ => {
                notes.add(UNKNOWN, path);
                Kind::File(self.content(&extended, size)?)
            }
        };
        let mut meta = meta(header, extended)?;
        // Linux gives every symbolic link these permissions.
        if let Kind::Symlink(_) = node {
            meta.permissions = 0o777;
        }
        Ok(Some(Entry::Node(meta, node)))
    }

    fn hard_link(
        &mut self,
        member: &FileMember<'_>,
        extended: Extended,
        size: u64,
    ) -> Result<Entry> {
        let target = target(member.header, &extended)?;
        // Writers of extended headers do write the data of hard links.
        let data = match self.blocks.has_data(size, member.has_records)? {
            true => {
                let content = self.content(&extended, size)?;
                Some((meta(member.header, extended)?, content))
            }
            false => None,
        };
        Ok(Entry::HardLink { target, data })
    }

    /// Skips the data of a member whose type has none; hardly any writer adds data.
    fn skip(&mut self, size: u64) -> Result<()> {
        if self.blocks.has_data(size, false)? {
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

    fn sparse(
        &mut self,
        real: u64,
        map: &sparse_map::SparseMap,
        from: u64,
        end: u64,
    ) -> Result<Content> {
        self.budget.take_pieces(map.len())?;
        let sparse = SparseContent::new(self.blocks.archive, real, map, from, end)?;
        Ok(Content::Stored(Arc::new(sparse)))
    }

    /// The contents of a sparse file whose map is in its header and in the blocks after it.
    fn gnu_sparse(&mut self, header: &Header, size: u64) -> Result<Content> {
        let gnu = header.gnu().context("a sparse file without a header of GNU tar")?;
        let mut map = Vec::new();
        sparse_map::add(&gnu.sparse, &mut map)?;
        let mut is_extended = gnu.is_extended();
        while is_extended {
            let mut more = GnuExtSparseHeader::new();
            self.blocks.block(more.as_mut_bytes())?;
            sparse_map::add(more.sparse(), &mut map)?;
            self.budget.check_pieces(map.len())?;
            is_extended = more.is_extended();
        }
        let (offset, end) = self.blocks.data(size)?;
        self.sparse(gnu.real_size()?, &map, offset, end)
    }
}

/// A member that is itself a file, not a description of the next member.
#[derive(Clone, Copy)]
struct FileMember<'a> {
    header: &'a Header,
    /// Type (`typeflag`).
    kind: u8,
    path: &'a [u8],
    /// Whether an extended header precedes the member. Only the formats of POSIX and GNU
    /// have such headers.
    has_records: bool,
}

impl FileMember<'_> {
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

/// The target of a link.
fn target(header: &Header, extended: &Extended) -> Result<Vec<u8>> {
    let target = extended.link.as_deref().unwrap_or_else(|| header.link());
    ensure!(!target.is_empty(), "the link has no target");
    ensure!(target.len() <= PATH_MAX, "the target of the link has more than {PATH_MAX} bytes");
    ensure!(!target.contains(&0), "the target of the link contains NUL");
    Ok(target.to_vec())
}

fn size(header: &Header) -> Result<u64> {
    let size = header.number(ustar::SIZE)?;
    u64::try_from(size).with_context(|| format!("a size of {size} bytes"))
}

fn meta(header: &Header, extended: Extended) -> Result<Meta> {
    let id = |id: Option<u64>, field| {
        let id = id.map_or_else(|| Ok(header.number(field)?.cast_unsigned()), anyhow::Ok);
        u32::try_from(id?).context("an owner or group above 32 bits")
    };
    let (mtime, nanoseconds) = match extended.mtime {
        Some(time) => time,
        None => (header.number(ustar::MTIME)?, 0),
    };
    Ok(Meta {
        permissions: u16::try_from(header.number(ustar::MODE)? & 0o7777).unwrap_or_default(),
        uid: id(extended.uid, ustar::UID)?,
        gid: id(extended.gid, ustar::GID)?,
        mtime,
        nanoseconds,
        xattrs: extended.xattrs,
    })
}
