//! Reading newc archives: what `/init` of somebody else's initrd is made of.
//!
//! An initrd is any number of segments, each an archive or a compressed one,
//! with NUL padding between them (kernel doc:
//! driver-api/early-userspace/buffer-format.rst). The input is not trusted.

use anyhow::{Context, Result, ensure};

use super::compress::decompress;
use super::newc::{HEADER, Header, TRAILER};

/// How often a segment may be compressed inside another.
const NESTING: u32 = 4;

/// One member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path, bytes that are not UTF-8 replaced.
    pub name: String,
    /// `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Link count.
    pub nlink: u32,
    /// Bytes of contents.
    pub size: u32,
}

/// Bytes that all segments together may unpack to.
const UNPACKED_MAX: u64 = 1 << 30;

/// The members of all segments, trailers left out.
///
/// # Errors
/// Anything but whole segments, with the offset at which sense ends.
pub fn entries(bytes: &[u8]) -> Result<Vec<Entry>> {
    let (mut entries, mut budget) = (Vec::new(), UNPACKED_MAX);
    read_segments(bytes, NESTING, &mut budget, &mut entries)?;
    Ok(entries)
}

fn read_segments(
    bytes: &[u8],
    nesting: u32,
    budget: &mut u64,
    entries: &mut Vec<Entry>,
) -> Result<()> {
    let mut at = 0;
    while let Some(padding) = bytes[at..].iter().position(|&byte| byte != 0) {
        at += padding;
        let segment = &bytes[at..];
        if segment.starts_with(b"07070") {
            at += read_segment(segment, entries)
                .with_context(|| format!("segment at offset {at}"))?;
            continue;
        }
        ensure!(nesting > 0, "offset {at}: compressed more than {NESTING} times");
        let unpacked = decompress(segment, *budget).with_context(|| format!("offset {at}"))?;
        let (inner, rest) =
            unpacked.with_context(|| format!("offset {at}: neither newc nor compressed"))?;
        *budget -= inner.len() as u64;
        at = bytes.len() - rest.len();
        read_segments(&inner, nesting - 1, budget, entries)?;
    }
    Ok(())
}

/// Reads up to the trailer; returns the segment's length.
fn read_segment(segment: &[u8], entries: &mut Vec<Entry>) -> Result<usize> {
    let mut at = 0;
    loop {
        let header = segment[at..].first_chunk().context("truncated header, or no trailer")?;
        let header = Header::parse(header).with_context(|| format!("offset {at}"))?;
        let Header { mode, uid, gid, nlink, size, name_size, .. } = header;
        let name_end = (at + HEADER).checked_add(name_size as usize).context("name too long")?;
        let name = segment.get(at + HEADER..name_end).context("truncated name")?;
        let name = name.strip_suffix(b"\0").context("name without NUL")?;
        let start = name_end.next_multiple_of(4);
        let end = start.checked_add(size as usize).context("file too long")?;
        ensure!(end <= segment.len(), "{}: truncated", String::from_utf8_lossy(name));
        at = end.next_multiple_of(4).min(segment.len());
        if name == TRAILER {
            return Ok(at);
        }
        let name = String::from_utf8_lossy(name).into_owned();
        entries.push(Entry { name, mode, uid, gid, nlink, size });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Archive;
    use crate::archive::compress::{Compression, compress};
    use proptest::prelude::*;

    fn archive(path: &str) -> Vec<u8> {
        let mut archive = Archive::default();
        archive.add_file(path, 0o644, b"abc".to_vec());
        let mut bytes = Vec::new();
        archive.write(&mut bytes, 0).unwrap();
        bytes
    }

    fn names(bytes: &[u8]) -> Vec<String> {
        entries(bytes).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn segments_follow_each_other_with_padding_and_compression() {
        let mut bytes = archive("one");
        bytes.extend([0; 512]);
        bytes.extend(archive("two"));
        bytes.extend([0; 4]);
        for (name, compression) in [
            ("3", Compression::Zstd),
            ("4", Compression::Gzip),
            ("5", Compression::Xz),
            ("6", Compression::Lz4),
        ] {
            bytes.extend(compress(archive(name), compression).unwrap());
            bytes.extend([0; 8]);
        }
        bytes.extend(archive("last"));
        assert_eq!(names(&bytes), ["one", "two", "3", "4", "5", "6", "last"]);
    }

    #[test]
    fn every_truncation_is_noticed() {
        let bytes = archive("file");
        for length in 1..bytes.len() {
            // Cutting the trailer's own padding loses nothing.
            let cut = entries(&bytes[..length]);
            assert!(cut.is_err() || bytes[length..].iter().all(|&byte| byte == 0), "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            at in 0_usize..300,
            byte: u8,
        ) {
            let _ = entries(&bytes);
            let mut damaged = archive("some/file");
            let at = at % damaged.len();
            damaged[at] = byte;
            let _ = entries(&damaged);
        }
    }
}
