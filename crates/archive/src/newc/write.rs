//! Writing newc archives with the crate `cpio`.
//!
//! The crate writes header, name, contents and padding of each member, and the trailer.
//! It takes a name as `str`, and it flushes its output after each padding. [`Patch`]
//! corrects both: it puts the name's bytes into the header, and it ignores the flush,
//! which would end a block of a compressed stream and so change the output.
//!
//! Invariant: the order and every field of an archive follow from its contents alone, so
//! that equal contents give equal bytes.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{Context, Result, ensure};
use cpio::newc::Builder;

use super::header::{HEADER, Header, S_IFDIR, S_IFMT, S_IFREG};

/// `st_mode` of a directory that [`Archive`] adds because a file is in it.
const DIR_MODE: u32 = S_IFDIR | 0o755;

/// Files of an initrd, and the directories that contain them.
#[derive(Debug, Default)]
pub struct Archive {
    /// Files and directories by their paths, which have no leading `/`. In byte order, a
    /// directory comes before its contents.
    nodes: BTreeMap<String, Node>,
}

#[derive(Debug)]
struct Node {
    mode: u32,
    contents: Vec<u8>,
}

impl Archive {
    /// Adds the regular file `path` with permission bits `mode`, and the directories
    /// above it.
    pub fn add_file(&mut self, path: &str, mode: u32, contents: Vec<u8>) {
        for (end, _) in path.match_indices('/') {
            let parent = Node { mode: DIR_MODE, contents: Vec::new() };
            self.nodes.entry(path[..end].to_owned()).or_insert(parent);
        }
        self.nodes.insert(path.to_owned(), Node { mode: S_IFREG | mode, contents });
    }

    /// Writes the archive. Every member belongs to root and has the modification time
    /// `mtime`, in seconds since 1970.
    ///
    /// # Errors
    /// A file of 4 GiB or more, since sizes in newc have 32 bits; errors of writing to
    /// `out`.
    pub fn write(&self, mut out: impl Write, mtime: u32) -> Result<()> {
        for (number, (path, node)) in (1..).zip(&self.nodes) {
            let size = u32::try_from(node.contents.len())
                .with_context(|| format!("{path}: a file in a newc archive is below 4 GiB"))?;
            let (mode, nlink) = (node.mode, self.link_count(path, node));
            let header = Header { ino: number, mode, nlink, mtime, size, ..Header::default() };
            write_member(&mut out, &header, path.as_bytes(), &node.contents)?;
        }
        Ok(write_trailer(&mut out)?)
    }

    /// `st_nlink` of a node: 1 for a file. A directory has two links (its name and `.`)
    /// and one for the `..` of each directory in it.
    fn link_count(&self, path: &str, node: &Node) -> u32 {
        if node.mode & S_IFMT != S_IFDIR {
            return 1;
        }
        let is_child_dir = |(child, node): &(&String, &Node)| {
            node.mode & S_IFMT == S_IFDIR
                && child.rsplit_once('/').is_some_and(|(parent, _)| parent == path)
        };
        2 + u32::try_from(self.nodes.iter().filter(is_child_dir).count()).unwrap_or(u32::MAX - 2)
    }
}

/// Writes one member with all of its contents, which must have [`Header::size`] bytes.
///
/// # Errors
/// Errors of writing to `out`.
pub fn write_member(
    out: &mut dyn Write,
    header: &Header,
    name: &[u8],
    contents: &[u8],
) -> Result<()> {
    let mut member = MemberWriter::new(out, header, name);
    member.write_all(contents)?;
    Ok(member.finish()?)
}

/// Writes the member `TRAILER!!!`, which ends an archive.
///
/// # Errors
/// Errors of writing to `out`.
pub fn write_trailer(out: &mut dyn Write) -> io::Result<()> {
    cpio::newc::trailer(Patch { out, name: None }).map(drop)
}

/// Writer of the contents of one member. It writes the header before the first byte of
/// contents; [`MemberWriter::finish`] writes the padding.
pub struct MemberWriter<'a>(cpio::newc::Writer<Patch<'a>>);

impl<'a> MemberWriter<'a> {
    /// A writer of the member `name`. The contents must have [`Header::size`] bytes; the
    /// length of the name comes from `name`, not from [`Header::name_size`].
    pub fn new(out: &'a mut dyn Write, header: &Header, name: &'a [u8]) -> Self {
        // The crate needs a text of the right length; `Patch` replaces other bytes.
        let text = std::str::from_utf8(name);
        let builder = match text {
            Ok(text) => Builder::new(text),
            Err(_) => Builder::new(&"?".repeat(name.len())),
        };
        let builder = builder
            .ino(header.ino)
            .mode(header.mode)
            .uid(header.uid)
            .gid(header.gid)
            .nlink(header.nlink)
            .mtime(header.mtime)
            .dev_major(header.dev_major)
            .dev_minor(header.dev_minor)
            .rdev_major(header.rdev_major)
            .rdev_minor(header.rdev_minor);
        let patch = Patch { out, name: text.is_err().then_some(name) };
        Self(match header.check {
            None => builder.write(patch, header.size),
            Some(sum) => builder.write_crc(patch, header.size, sum),
        })
    }

    /// Writes the padding, and the header if there were no contents.
    ///
    /// # Errors
    /// Errors of writing to the underlying writer.
    pub fn finish(self) -> io::Result<()> {
        self.0.finish().map(drop)
    }
}

impl Write for MemberWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Output of the crate `cpio` on its way to `out`.
struct Patch<'a> {
    out: &'a mut dyn Write,
    /// Bytes to put in place of the name in the header, which is written first and in
    /// one piece; `None` once this is done, or if the name is text.
    name: Option<&'a [u8]>,
}

impl Write for Patch<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(name) = self.name.take() else { return self.out.write(bytes) };
        let mut header = bytes.to_vec();
        let place = header.get_mut(HEADER..HEADER + name.len());
        place.ok_or(io::ErrorKind::InvalidData)?.copy_from_slice(name);
        self.out.write_all(&header)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Parses the value of `SOURCE_DATE_EPOCH`, the modification time of all members
/// (reproducible-builds.org/specs/source-date-epoch); 0 if the variable is not set.
///
/// # Errors
/// A value that is not a number of seconds, or that does not fit newc's 32 bits.
pub fn source_date_epoch(variable: Option<&str>) -> Result<u32> {
    let Some(text) = variable else { return Ok(0) };
    let seconds = text.parse();
    ensure!(seconds.is_ok(), "SOURCE_DATE_EPOCH=\"{text}\": seconds since 1970, below 2^32");
    Ok(seconds?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::newc::entries;
    use crate::spool::spool;

    fn sample() -> Vec<u8> {
        let mut archive = Archive::default();
        archive.add_file("usr/lib/modules/001-a.ko", 0o644, b"12345".to_vec());
        archive.add_file("init", 0o755, b"\x7fELF".to_vec());
        let mut bytes = Vec::new();
        archive.write(&mut bytes, 7).unwrap();
        bytes
    }

    /// Compares the first member field by field with the kernel's document.
    #[test]
    fn the_header_is_what_the_kernel_documents() {
        let expected = [
            "070701",   // magic
            "00000001", // ino
            "000081ed", // mode: regular, 0755
            "00000000", // uid
            "00000000", // gid
            "00000001", // nlink
            "00000007", // mtime
            "00000004", // size
            "00000000", "00000000", // device
            "00000000", "00000000", // rdev
            "00000005", // length of the name and its NUL
            "00000000", // check sum: none
            "init\0",   // 110 + 5 bytes, padded to 116
        ]
        .concat();
        let bytes = sample();
        assert_eq!(bytes[..115].to_ascii_lowercase(), expected.as_bytes().to_ascii_lowercase());
        assert_eq!(&bytes[115..120], b"\0\x7fELF");
    }

    #[test]
    fn parents_come_first_with_right_link_counts() {
        let archive = spool(|out| Ok(out.write_all(&sample())?)).unwrap();
        let entries = entries(&archive.into()).unwrap();
        let rows: Vec<_> = entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.mode, entry.nlink, entry.size))
            .collect();
        assert_eq!(
            rows,
            [
                ("init", 0o100_755, 1, 4),
                ("usr", 0o040_755, 3, 0),
                ("usr/lib", 0o040_755, 3, 0),
                ("usr/lib/modules", 0o040_755, 2, 0),
                ("usr/lib/modules/001-a.ko", 0o100_644, 1, 5),
            ]
        );
    }

    /// The crate takes text only, and pads to a multiple of four bytes.
    #[test]
    fn names_may_have_any_bytes() {
        for name in [&b"\xff\xfe"[..], b"a\xff\n", b"\xff", b"four\xff"] {
            let header = Header { size: 3, mode: S_IFREG, ..Header::default() };
            let mut bytes = Vec::new();
            write_member(&mut bytes, &header, name, b"abc").unwrap();
            assert_eq!(bytes[HEADER..HEADER + name.len()], *name);
            let data = (HEADER + name.len() + 1).next_multiple_of(4);
            assert_eq!(bytes[data..], *b"abc\0");
        }
    }

    #[test]
    fn epoch_is_checked() {
        assert_eq!(source_date_epoch(None).unwrap(), 0);
        assert_eq!(source_date_epoch(Some("1700000000")).unwrap(), 1_700_000_000);
        for bad in ["", "-1", "4294967296", "yesterday"] {
            assert!(source_date_epoch(Some(bad)).is_err(), "{bad}");
        }
    }
}
