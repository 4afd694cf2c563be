//! Archives that are damaged behind their sums: compressed again, and with sums
//! that are right, so that the damage reaches what reads the members.

use std::io::Write;

use archive::compress::{Compression, Encoder, Method};
use proptest::prelude::*;

use super::{STREAMS, read, written};
use crate::format::Format;
use crate::inject;
use crate::paths::directory;
use crate::sample::read_contents;
use crate::tree::{Content, Kind, Meta, Tree};

/// Target of a symbolic link, which is nowhere else in an archive.
const TARGET: &[u8] = b"here";

fn small() -> Tree {
    let mut tree = Tree::new(Meta::default());
    inject::init(&mut tree, STREAMS[0], b"#!".into(), 0).unwrap();
    tree.put(b"a/b", Meta::default(), Kind::Symlink(TARGET.into())).unwrap();
    let meta = Meta { uid: u32::MAX, mtime: -5, ..Meta::default() };
    tree.put("a/".repeat(60).as_bytes(), meta.clone(), directory()).unwrap();
    let xattrs = [(b"user.a"[..].into(), b"b"[..].into())].into();
    let content = Content::Bytes(vec![7; 1500].into());
    let file = tree.put(b"file", Meta { xattrs, ..meta }, Kind::File(content)).unwrap();
    tree.link(Tree::ROOT, b"link", file).unwrap();
    tree
}

/// An archive before it is compressed, which can be damaged behind the sums of
/// its compression and of tar.
struct Plain {
    format: Format,
    bytes: Vec<u8>,
    /// Offsets of tar's headers.
    headers: Vec<usize>,
}

impl Plain {
    const BLOCK: usize = 512;
    /// Field `chksum` of a header (tar(5)).
    const SUM: std::ops::Range<usize> = 148..156;

    fn new(tree: &Tree, format: Format) -> Self {
        let is_tar = matches!(format, Format::Tar(_));
        let plain = if is_tar { Format::Tar(Compression::None) } else { STREAMS[0] };
        let bytes = written(tree, plain, 0);
        let blocks = (0..bytes.len() / Self::BLOCK).map(|index| index * Self::BLOCK);
        let headers = blocks.filter(|at| is_tar && bytes[at + 257..].starts_with(b"ustar"));
        Self { format, headers: headers.collect(), bytes }
    }

    /// The archive with right sums.
    fn sealed(mut self) -> Vec<u8> {
        for at in self.headers {
            let header = &mut self.bytes[at..at + Self::BLOCK];
            header[Self::SUM].fill(b' ');
            let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
            header[Self::SUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let method = Method { compression: self.format.compression(), level: None };
        let mut out = Encoder::new(Vec::new(), method, 0).unwrap();
        out.write_all(&self.bytes).unwrap();
        out.finish().unwrap()
    }
}

/// Proves that `no_damage_makes_a_reader_panic` tests more than the sums.
#[test]
fn damage_gets_past_the_sums() {
    for &format in STREAMS {
        let mut plain = Plain::new(&small(), format);
        let mut places = plain.bytes.windows(TARGET.len());
        let at = places.position(|bytes| bytes == TARGET).unwrap();
        plain.bytes[at] = b'w';
        let tree = read(&plain.sealed()).unwrap();
        let link = &tree.node(tree.find(b"a/b").unwrap()).kind;
        assert!(matches!(link, Kind::Symlink(target) if **target == *b"were"), "{format}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_damage_makes_a_reader_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        length in any::<prop::sample::Index>(),
        format in 0..STREAMS.len(),
    ) {
        let mut plain = Plain::new(&small(), STREAMS[format]);
        // Contents and padding have little that can be wrong.
        let fields: Vec<_> = match plain.headers.is_empty() {
            true => (0..plain.bytes.len()).collect(),
            // A header, and the records that follow an extended one.
            false => plain.headers.iter().flat_map(|at| *at..at + 600).collect(),
        };
        for (at, byte) in changes {
            plain.bytes[*at.get(&fields)] = byte;
        }
        let mut bytes = plain.sealed();
        if let Ok(tree) = read(&bytes) {
            read_contents(&tree);
        }
        // And the compression itself.
        let at = length.index(bytes.len());
        bytes[at] ^= 0x55;
        let _ = read(&bytes);
        bytes.truncate(at);
        let _ = read(&bytes);
    }
}
