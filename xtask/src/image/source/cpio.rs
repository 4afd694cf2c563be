//! An initramfs as a [`Tree`]: all its segments, compressed or not, one unpacked
//! over the other as the kernel does.
//!
//! Format: [`crate::archive::newc`]. Of files with several names (equal inode,
//! `nlink` above 1) any may have the contents; those of a compressed segment are
//! unpacked once.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::bytes_at;
use crate::archive::newc::{HEADER, Header, TRAILER};
use crate::archive::spool::{BUFFER, spool};
use crate::archive::stream;
use crate::image::content::At;
use crate::image::paths::PATH_MAX;
use crate::image::tree::{Content, Id, Kind, Meta, Tree, Xattrs, kind_of, show};

/// How often a segment may be compressed inside another.
const NESTING: u32 = 4;

/// The files of `archive`, of which all that is compressed unpacks to at most `limit`
/// bytes.
///
/// # Errors
/// Anything but whole segments, with the offset at which sense ends.
pub fn read(archive: &Arc<File>, mut limit: u64) -> Result<Tree> {
    let mut tree = Tree::new(Meta { permissions: 0o755, ..Meta::default() });
    segments(archive, &mut limit, NESTING, &mut tree)?;
    Ok(tree)
}

fn segments(archive: &Arc<File>, left: &mut u64, nesting: u32, tree: &mut Tree) -> Result<()> {
    let mut at = 0;
    while let Some(start) = after_padding(archive, at)? {
        at = segment(archive, start, left, nesting, tree)
            .with_context(|| format!("segment at offset {start}"))?;
    }
    Ok(())
}

/// The offset of the first byte that is not 0.
pub(super) fn after_padding(archive: &File, mut at: u64) -> Result<Option<u64>> {
    let mut input = BufReader::with_capacity(BUFFER, At { file: archive, offset: at });
    loop {
        let ahead = input.fill_buf()?;
        if ahead.is_empty() {
            return Ok(None);
        }
        if let Some(zeroes) = ahead.iter().position(|&byte| byte != 0) {
            return Ok(Some(at + zeroes as u64));
        }
        let count = ahead.len();
        at += count as u64;
        input.consume(count);
    }
}

/// Takes the segment at `start`; gives where it ends.
fn segment(
    archive: &Arc<File>,
    start: u64,
    left: &mut u64,
    nesting: u32,
    tree: &mut Tree,
) -> Result<u64> {
    let mut input = BufReader::with_capacity(BUFFER, At { file: archive, offset: start });
    if input.fill_buf()?.starts_with(b"07070") {
        return plain(archive, start, tree);
    }
    ensure!(nesting > 0, "compressed more than {NESTING} times");
    let unpacked = spool(|out| {
        let found = stream::decompress(&mut input, out, *left)?;
        *left -= found.context("neither newc nor compressed")?;
        Ok(())
    })?;
    // What is buffered was read from the file, but not taken.
    let end = input.get_ref().offset - input.buffer().len() as u64;
    drop(input);
    segments(&Arc::new(unpacked), left, nesting - 1, tree)?;
    Ok(end)
}

/// Takes an uncompressed one up to its trailer.
fn plain(archive: &Arc<File>, start: u64, tree: &mut Tree) -> Result<u64> {
    let mut input = BufReader::with_capacity(BUFFER, At { file: archive, offset: start });
    let (mut at, mut links) = (0_u64, Links::new());
    loop {
        let mut bytes = [0; HEADER];
        input.read_exact(&mut bytes).context("truncated header, or no trailer")?;
        let header = Header::parse(&bytes).with_context(|| format!("offset {}", start + at))?;
        let name = name(&mut input, header.name_size)?;
        let data = (at + HEADER as u64 + u64::from(header.name_size)).next_multiple_of(4);
        let end = data + u64::from(header.size);
        ensure!(has(archive, start + end)?, "{}: truncated", show(&name));
        at = end.next_multiple_of(4);
        if name == TRAILER {
            return Ok(start + at);
        }
        let member = Member { archive, header: &header, offset: start + data };
        member.add(&name, &mut links, tree).with_context(|| show(&name))?;
        seek(&mut input, start + at);
    }
}

fn name(input: &mut impl Read, size: u32) -> Result<Vec<u8>> {
    ensure!(size as usize <= PATH_MAX + 1, "a name has {size} bytes");
    let mut name = vec![0; size as usize];
    input.read_exact(&mut name).context("truncated name")?;
    ensure!(name.pop() == Some(0), "name without NUL");
    Ok(name)
}

/// Whether there are bytes up to `end`.
fn has(archive: &File, end: u64) -> Result<bool> {
    let Some(last) = end.checked_sub(1) else { return Ok(true) };
    Ok(At { file: archive, offset: last }.read(&mut [0])? == 1)
}

/// Goes to `offset`, where it may well be in the buffer.
fn seek(input: &mut BufReader<At<'_>>, offset: u64) {
    let buffered = input.buffer().len();
    let here = input.get_ref().offset - buffered as u64;
    match usize::try_from(offset - here) {
        Ok(count) if count <= buffered => input.consume(count),
        _ => {
            input.consume(buffered);
            input.get_mut().offset = offset;
        }
    }
}

/// Nodes with several names, by what the kernel compares (`find_link`,
/// init/initramfs.c).
type Links = HashMap<(u32, u32, u32, u32), Id>;

struct Member<'a> {
    archive: &'a Arc<File>,
    header: &'a Header,
    /// Of its contents.
    offset: u64,
}

impl Member<'_> {
    fn add(&self, name: &[u8], links: &mut Links, tree: &mut Tree) -> Result<()> {
        let Header { ino, mode, uid, gid, nlink, mtime, .. } = *self.header;
        let kind = self.kind()?;
        let is_directory = matches!(kind, Kind::Directory(_));
        let key = (self.header.dev_major, self.header.dev_minor, ino, mode >> 12);
        if let Some(&id) = links.get(&key).filter(|_| nlink > 1 && !is_directory) {
            if self.header.size > 0 {
                tree.node_mut(id).kind = kind;
            }
            return tree.put_link(name, id);
        }
        let permissions = u16::try_from(mode & 0o7777).unwrap_or_default();
        let xattrs = Xattrs::new();
        let meta = Meta { permissions, uid, gid, mtime: mtime.into(), xattrs };
        let id = tree.put(name, meta, kind)?;
        if nlink > 1 && !is_directory {
            links.insert(key, id);
        }
        Ok(())
    }

    fn kind(&self) -> Result<Kind> {
        let Header { mode, size, rdev_major, rdev_minor, .. } = *self.header;
        let (offset, size) = (self.offset, u64::from(size));
        Ok(match mode >> 12 {
            0o10 => Kind::File(Content::Part { archive: Arc::clone(self.archive), offset, size }),
            0o12 => {
                let target = bytes_at(self.archive, offset, size, PATH_MAX as u64)?;
                Kind::Symlink(target.into())
            }
            _ => kind_of(mode, (rdev_major, rdev_minor))
                .with_context(|| format!("mode {mode:o} is of no type"))?,
        })
    }
}
