//! newc archives, as the kernel unpacks them into its initramfs.
//!
//! Format: kernel doc driver-api/early-userspace/buffer-format.rst. The order
//! and every field of an archive follow from its contents alone, so that equal
//! contents give equal bytes.

pub mod bytes;
pub mod compress;
pub mod lz4;
pub mod newc;
pub mod read;
pub mod segments;
pub mod spool;
pub mod stream;
pub mod unpack;

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result, ensure};
use newc::Header;

/// `st_mode` of a directory made on the way to a file.
const DIR_MODE: u32 = file_type::S_IFDIR | 0o755;

/// File type bits of `st_mode` (inode(7)).
pub mod file_type {
    /// Mask of the file type.
    pub const S_IFMT: u32 = 0o170_000;
    /// Directory.
    pub const S_IFDIR: u32 = 0o040_000;
    /// Symbolic link.
    pub const S_IFLNK: u32 = 0o120_000;
    /// Regular file.
    pub const S_IFREG: u32 = 0o100_000;
}

/// A tree to be written: regular files, and the directories above them.
#[derive(Debug, Default)]
pub struct Archive {
    /// Path without a leading `/` → node. In byte order a directory comes
    /// before what it holds.
    nodes: BTreeMap<String, Node>,
}

#[derive(Debug)]
struct Node {
    mode: u32,
    contents: Vec<u8>,
}

impl Archive {
    /// Adds the regular file `path` with permission bits `mode`, and the
    /// directories it needs.
    pub fn add_file(&mut self, path: &str, mode: u32, contents: Vec<u8>) {
        for (end, _) in path.match_indices('/') {
            let parent = Node { mode: DIR_MODE, contents: Vec::new() };
            self.nodes.entry(path[..end].to_owned()).or_insert(parent);
        }
        self.nodes.insert(path.to_owned(), Node { mode: file_type::S_IFREG | mode, contents });
    }

    /// Writes the archive; every entry belongs to root and was modified at
    /// `mtime` (seconds since the epoch).
    ///
    /// # Errors
    /// A file of 4 GiB or more: newc has 32-bit sizes.
    pub fn write(&self, mut out: impl Write, mtime: u32) -> Result<()> {
        for (number, (path, node)) in (1..).zip(&self.nodes) {
            let size = u32::try_from(node.contents.len())
                .with_context(|| format!("{path}: a file in a newc archive is below 4 GiB"))?;
            let (mode, nlink) = (node.mode, self.link_count(path, node));
            let header = Header { ino: number, mode, nlink, mtime, size, ..Header::default() };
            header.write(&mut out, path.as_bytes())?;
            out.write_all(&node.contents)?;
            newc::pad(&mut out, size.into())?;
        }
        newc::trailer(&mut out)
    }

    /// `st_nlink`: one name, and for a directory its `.` and the `..` of each
    /// directory in it.
    fn link_count(&self, path: &str, node: &Node) -> u32 {
        if node.mode & file_type::S_IFMT != file_type::S_IFDIR {
            return 1;
        }
        let is_child_dir = |(child, node): &(&String, &Node)| {
            node.mode & file_type::S_IFMT == file_type::S_IFDIR
                && child.rsplit_once('/').is_some_and(|(parent, _)| parent == path)
        };
        2 + u32::try_from(self.nodes.iter().filter(is_child_dir).count()).unwrap_or(u32::MAX - 2)
    }
}

/// The modification time of all entries: `SOURCE_DATE_EPOCH`
/// (reproducible-builds.org/specs/source-date-epoch), or 0.
///
/// # Errors
/// A value that is no number of seconds in newc's 32 bits.
pub fn source_date_epoch(variable: Option<&str>) -> Result<u32> {
    let Some(text) = variable else { return Ok(0) };
    let seconds = text.parse();
    ensure!(seconds.is_ok(), "SOURCE_DATE_EPOCH=\"{text}\": seconds since 1970, below 2^32");
    Ok(seconds?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut archive = Archive::default();
        archive.add_file("usr/lib/modules/001-a.ko", 0o644, b"12345".to_vec());
        archive.add_file("init", 0o755, b"\x7fELF".to_vec());
        let mut bytes = Vec::new();
        archive.write(&mut bytes, 7).unwrap();
        bytes
    }

    /// The first entry byte for byte, field by field after the kernel's document.
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
            "00000000", // checksum: none
            "init\0",   // 110 + 5 bytes, padded to 116
        ]
        .concat();
        let bytes = sample();
        assert_eq!(bytes[..115].to_ascii_lowercase(), expected.as_bytes().to_ascii_lowercase());
        assert_eq!(&bytes[115..120], b"\0\x7fELF");
    }

    #[test]
    fn parents_come_first_with_right_link_counts() {
        let archive = spool::spool(|out| Ok(out.write_all(&sample())?)).unwrap();
        let entries = read::entries(&archive.into()).unwrap();
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

    #[test]
    fn epoch_is_checked() {
        assert_eq!(source_date_epoch(None).unwrap(), 0);
        assert_eq!(source_date_epoch(Some("1700000000")).unwrap(), 1_700_000_000);
        for bad in ["", "-1", "4294967296", "yesterday"] {
            assert!(source_date_epoch(Some(bad)).is_err(), "{bad}");
        }
    }
}
