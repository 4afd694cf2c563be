//! The members of an initrd as a list.

use std::fs::File;
use std::sync::Arc;

use anyhow::Result;

use super::header::Header;
use super::read::{Member, Visitor, walk};

/// One member in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path; bytes that are not UTF-8 are replaced by U+FFFD.
    pub name: String,
    /// File type and permissions (`st_mode`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of links.
    pub nlink: u32,
    /// Bytes of contents.
    pub size: u32,
}

/// Most bytes that all segments together may unpack to.
const UNPACKED_MAX: u64 = 1 << 30;

/// Lists the members of all segments of `archive`, without trailers.
///
/// # Errors
/// Those of [`walk`].
pub fn entries(archive: &Arc<File>) -> Result<Vec<Entry>> {
    let mut list = List(Vec::new());
    walk(archive, UNPACKED_MAX, &mut list)?;
    Ok(list.0)
}

struct List(Vec<Entry>);

impl Visitor for List {
    fn member(&mut self, member: &Member<'_>) -> Result<()> {
        let name = String::from_utf8_lossy(member.name).into_owned();
        let Header { mode, uid, gid, nlink, size, .. } = member.header;
        self.0.push(Entry { name, mode, uid, gid, nlink, size });
        Ok(())
    }

    fn end(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::{Compression, compress};
    use crate::newc::{Archive, write_member, write_trailer};
    use crate::spool::spool;
    use proptest::prelude::*;

    fn archive(path: &str) -> Vec<u8> {
        let mut archive = Archive::default();
        archive.add_file(path, 0o644, b"abc".to_vec());
        let mut bytes = Vec::new();
        archive.write(&mut bytes, 0).unwrap();
        bytes
    }

    fn entries_of(bytes: &[u8]) -> Result<Vec<Entry>> {
        entries(&Arc::new(spool(|out| Ok(out.write_all(bytes)?)).unwrap()))
    }

    fn names(bytes: &[u8]) -> Vec<String> {
        entries_of(bytes).unwrap().into_iter().map(|entry| entry.name).collect()
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
        // The kernel looks for an archive only at multiples of four bytes.
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(archive("last"));
        assert_eq!(names(&bytes), ["one", "two", "3", "4", "5", "6", "last"]);
    }

    /// Each part ends at a border of a member, or within a member; padding follows.
    #[test]
    fn parts_of_a_container_may_end_anywhere() {
        let bytes = [archive("a"), vec![0; 8], archive("b")].concat();
        for compression in [Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Lz4]
        {
            let part = |bytes: &[u8]| compress(bytes.to_vec(), compression).unwrap();
            for cut in [0, 1, 50, 111, 116, archive("a").len(), bytes.len() - 1, bytes.len()] {
                let (one, two) = bytes.split_at(cut);
                let parts = [part(one), vec![0; 4], part(two), vec![0; 4]].concat();
                assert_eq!(names(&parts), ["a", "b"], "{compression} cut at {cut}");
            }
        }
    }

    #[test]
    fn other_data_than_padding_and_segments_is_an_error() {
        let packed = |compression| compress(archive("a"), compression).unwrap();
        let member = |header: Header, name: &[u8]| {
            let mut bytes = Vec::new();
            write_member(&mut bytes, &header, name, b"").unwrap();
            bytes
        };
        let file = Header { mode: 0o100_644, nlink: 1, ..Header::default() };
        let untrailed = member(file, b"a");
        let frame = packed(Compression::Zstd);
        let odd = frame.len().next_multiple_of(4) + 2;
        for (name, bytes, expected) in [
            ("text", [archive("a"), b"text".to_vec()].concat(), "segment at offset"),
            ("gzip, text", [packed(Compression::Gzip), b"x".to_vec()].concat(), "neither newc nor"),
            ("zstd, cut magic", [&frame[..], &[0x28, 0xb5]].concat(), "neither newc nor"),
            (
                "unaligned",
                [frame.clone(), vec![0; odd - frame.len()], archive("b")].concat(),
                "not at a multiple of four",
            ),
            ("twice", compress(frame.clone(), Compression::Gzip).unwrap(), "unpacks only once"),
            ("old cpio", b"070707".repeat(30), "-H newc"),
            ("no trailer", untrailed.clone(), "no trailer"),
            ("no trailer, padding", [&untrailed[..], &[0; 400]].concat(), "no trailer"),
            (
                "lz4 and a word",
                [packed(Compression::Lz4), vec![0; 2], archive("b")].concat(),
                "a block is too long",
            ),
        ] {
            let error = entries_of(&bytes).expect_err(name);
            let text = format!("{error:#}");
            assert!(text.contains("offset") && text.contains(expected), "{name}: {text}");
        }
        // Like the kernel: one trailer at the end suffices, and padding may be anywhere.
        let aligned =
            [&frame[..], &vec![0; frame.len().next_multiple_of(4) - frame.len()]].concat();
        assert_eq!(
            names(&[&untrailed[..], &[0; 8], &aligned, &archive("c")].concat()),
            ["a", "a", "c"]
        );
    }

    /// A check sum is the sum of all bytes modulo 2^32. The sums of links and directories
    /// are ignored.
    #[test]
    fn check_sums_are_verified() {
        let read = |mode, check, data: &[u8]| {
            let size = u32::try_from(data.len()).unwrap();
            let mut bytes = Vec::new();
            let header = Header { mode, nlink: 1, size, check: Some(check), ..Header::default() };
            write_member(&mut bytes, &header, b"f", data).unwrap();
            write_trailer(&mut bytes).unwrap();
            assert!(bytes.starts_with(b"070702"));
            entries_of(&bytes).map(|entries| entries.len())
        };
        let large = vec![0xff; 300_000];
        let sum = 0xff * 300_000;
        for (mode, check, data, is_right) in [
            (0o100_644, 0x214, &b"hello"[..], true),
            (0o100_644, 1, b"hello", false),
            (0o100_644, 0, b"", true),
            (0o100_644, 1, b"", false),
            (0o100_644, sum, &large, true),
            (0o100_644, sum + 1, &large, false),
            (0o120_777, 1, b"target", true),
            (0o040_755, 1, b"", true),
        ] {
            let found = read(mode, check, data);
            assert_eq!(found.is_ok(), is_right, "{mode:o} {check:x}: {found:?}");
            if let Err(error) = found {
                assert!(format!("{error:#}").contains("f: bad data checksum"), "{error:#}");
            }
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let bytes = archive("file");
        for length in 1..bytes.len() {
            // The padding of the trailer may be missing.
            let cut = entries_of(&bytes[..length]);
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
            let _ = entries_of(&bytes);
            let mut damaged = archive("some/file");
            let at = at % damaged.len();
            damaged[at] = byte;
            let _ = entries_of(&damaged);
        }
    }
}
