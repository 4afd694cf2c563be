//! Reading the members of an initramfs in the order in which the kernel unpacks them
//! (`init/initramfs.c`; kernel doc: driver-api/early-userspace/buffer-format.rst).
//!
//! An initramfs consists of any number of segments, with NUL bytes between them. A segment
//! is an archive, plain or compressed. An archive begins at a multiple of four bytes. The
//! kernel needs no member `TRAILER!!!`; this reader requires one in the last archive,
//! because without it nobody can tell whether the file was cut.
//!
//! The input is not trusted: unpacked bytes and names are bounded.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use files::tell::show;

use super::header::{ALIGNMENT, HEADER, Header, TRAILER};
use crate::bytes::At;
use crate::compress::{skip_padding, unpack};
use crate::spool::{BUFFER, spool};

/// Bytes of the longest name, its NUL included (`PATH_MAX`,
/// `include/uapi/linux/limits.h`). The kernel skips members with longer names.
const NAME_MAX: u32 = 4096;

/// One member of an archive.
#[derive(Debug)]
pub struct Member<'a> {
    /// The file with the uncompressed archive.
    pub archive: &'a Arc<File>,
    /// The fields of the member's header.
    pub header: Header,
    /// The name up to its first NUL. The name is empty if the header says so, or if it is
    /// longer than a path may be; the kernel skips such a member.
    pub name: &'a [u8],
    /// Offset of the contents in `archive`. The file has all [`Header::size`] bytes.
    pub data: u64,
}

/// Receiver of the members that [`walk`] finds.
pub trait Visitor {
    /// Takes a member. An error ends the walk.
    ///
    /// # Errors
    /// Any error; [`walk`] returns it.
    fn member(&mut self, member: &Member<'_>) -> Result<()>;

    /// Notes the end of an archive: in the next archive, equal inode numbers mean other
    /// files.
    fn end(&mut self);
}

/// Passes all members of `archive` to `visitor`. Compressed segments are unpacked into
/// unlinked files, which together may have at most `limit` bytes.
///
/// # Errors
/// Data that is not a whole segment, with its offset; contents with a wrong check sum;
/// errors of `visitor`.
pub fn walk(archive: &Arc<File>, limit: u64, visitor: &mut dyn Visitor) -> Result<()> {
    let (mut at, mut budget) = (0, limit);
    while let Some(start) = after_padding(archive, at)? {
        let context = || format!("segment at offset {start}");
        at = match magic(archive, start)? {
            Magic::Newc => {
                ensure!(
                    start.is_multiple_of(ALIGNMENT),
                    "offset {start}: an archive, but not at a multiple of four, where a kernel \
                     looks for one"
                );
                plain(archive, start, visitor).with_context(context)?
            }
            Magic::Other => {
                compressed(archive, start, &mut budget, visitor).with_context(context)?
            }
        };
    }
    Ok(())
}

/// Finds the first byte that is not 0, at offset `at` or later; `None` if there is no such
/// byte.
///
/// # Errors
/// Those of [`skip_padding`].
pub fn after_padding(archive: &File, at: u64) -> Result<Option<u64>> {
    let mut input = input(archive, at);
    let skipped = skip_padding(&mut input).with_context(|| format!("offset {at}"))?;
    Ok((!input.fill_buf()?.is_empty()).then_some(at + skipped))
}

/// Kind of a segment, by its first byte.
enum Magic {
    /// An archive.
    Newc,
    /// A container, or damage.
    Other,
}

fn magic(archive: &File, start: u64) -> Result<Magic> {
    // The kernel takes each segment that begins with this digit for an archive.
    let is_newc = input(archive, start).fill_buf()?.starts_with(b"0");
    Ok(if is_newc { Magic::Newc } else { Magic::Other })
}

fn input(archive: &File, offset: u64) -> BufReader<At<'_>> {
    BufReader::with_capacity(BUFFER, At { file: archive, offset })
}

/// Reads the containers at `start`, whose contents are archives. Returns their end.
fn compressed(
    archive: &File,
    start: u64,
    budget: &mut u64,
    visitor: &mut dyn Visitor,
) -> Result<u64> {
    let mut found = None;
    let unpacked = spool(|out| {
        found = unpack(&mut input(archive, start), out, *budget)?;
        Ok(())
    })?;
    let found = found.context("neither newc nor compressed")?;
    *budget -= found.size;
    let (unpacked, mut at) = (Arc::new(unpacked), 0);
    while let Some(inner) = after_padding(&unpacked, at)? {
        let context = || format!("offset {inner} of the unpacked data");
        match magic(&unpacked, inner)? {
            Magic::Newc => at = plain(&unpacked, inner, visitor).with_context(context)?,
            Magic::Other => bail!("{}: no archive, and a kernel unpacks only once", context()),
        }
    }
    Ok(start + found.end)
}

/// Reads one archive up to its trailer, or up to its last member if another segment
/// follows. Returns the offset after it.
fn plain(archive: &Arc<File>, start: u64, visitor: &mut dyn Visitor) -> Result<u64> {
    let mut input = input(archive, start);
    let mut at = 0_u64;
    loop {
        let ahead = input.fill_buf()?;
        ensure!(!ahead.is_empty(), "truncated: it has no trailer");
        if !ahead.starts_with(b"0") {
            // Padding or the next segment follows. The trailer may be in a later archive.
            let here = start + at;
            let next = after_padding(archive, here)?;
            return next.with_context(|| format!("offset {here}: truncated: it has no trailer"));
        }
        let mut bytes = [0; HEADER];
        input.read_exact(&mut bytes).context("truncated header, or no trailer")?;
        let here = || format!("offset {}", start + at);
        let header = Header::parse(&bytes).with_context(here)?;
        let name = name(&mut input, header.name_size).with_context(here)?;
        let data = at + HEADER as u64 + u64::from(header.name_size);
        let data = data.next_multiple_of(ALIGNMENT);
        let end = data + u64::from(header.size);
        ensure!(has(archive, start + end)?, "{}: truncated", show(&name));
        if name == TRAILER && !header.is_symlink() && (header.is_file() || header.size == 0) {
            visitor.end();
            return Ok(start + end);
        }
        let member = Member { archive, header, name: &name, data: start + data };
        member.check().and_then(|()| visitor.member(&member)).with_context(|| show(&name))?;
        at = end.next_multiple_of(ALIGNMENT);
        seek(&mut input, start + at);
    }
}

fn name(input: &mut impl Read, size: u32) -> Result<Vec<u8>> {
    if size > NAME_MAX {
        return Ok(Vec::new());
    }
    let mut name = vec![0; size as usize];
    input.read_exact(&mut name).context("truncated name")?;
    ensure!(name.last().is_none_or(|&byte| byte == 0), "name without NUL");
    Ok(until_nul(name))
}

/// Cuts `text` at its first NUL, where C code ends reading it.
#[must_use]
pub fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    let end = text.iter().position(|&byte| byte == 0);
    text.truncate(end.unwrap_or(text.len()));
    text
}

/// Whether the file has at least `end` bytes.
fn has(archive: &File, end: u64) -> Result<bool> {
    let Some(last) = end.checked_sub(1) else { return Ok(true) };
    Ok(At { file: archive, offset: last }.read(&mut [0])? == 1)
}

/// Moves `input` to `offset`; keeps the buffer if `offset` is in it.
fn seek(input: &mut BufReader<At<'_>>, offset: u64) {
    let buffered = input.buffer().len();
    let here = input.get_ref().offset - buffered as u64;
    match offset.checked_sub(here).map(usize::try_from) {
        Some(Ok(count)) if count <= buffered => input.consume(count),
        _ => {
            input.consume(buffered);
            input.get_mut().offset = offset;
        }
    }
}

impl Member<'_> {
    /// Verifies the check sum of the contents, if the header has one (`io_csum`,
    /// `init/initramfs.c`). The kernel verifies regular files only. If a file has several
    /// names, the kernel verifies each member by itself: one without contents has the sum
    /// 0.
    fn check(&self) -> Result<()> {
        let Some(expected) = self.header.check.filter(|_| self.header.is_file()) else {
            return Ok(());
        };
        let at = At { file: self.archive, offset: self.data };
        let mut input = BufReader::with_capacity(BUFFER, at.take(self.header.size.into()));
        let mut sum = 0_u32;
        loop {
            let bytes = input.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            sum = bytes.iter().fold(sum, |sum, &byte| sum.wrapping_add(byte.into()));
            let count = bytes.len();
            input.consume(count);
        }
        ensure!(
            sum == expected,
            "bad data checksum: the contents have {sum:08x}, the header {expected:08x}"
        );
        Ok(())
    }
}
