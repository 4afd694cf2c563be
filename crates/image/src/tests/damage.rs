//! Damaged archives with right check sums, compressed after the damage, so that the damage
//! reaches the readers of members.

use std::io::Write;

use archive::compress::{Compression, Encoder, Method};
use proptest::prelude::*;

use super::{STREAMS, read, written};
use crate::edit::inject;
use crate::format::Format;
use crate::sample::read_contents;
use crate::tree::{Content, Kind, Meta, Tree, directory};
use crate::ustar::{self, BLOCK};

/// Target of a symbolic link. The bytes are nowhere else in the archive.
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

/// An archive before its compression. Its bytes can be damaged before check sums are
/// calculated.
struct Plain {
    format: Format,
    bytes: Vec<u8>,
    /// Offsets of the headers in a tar.
    headers: Vec<usize>,
}

impl Plain {
    fn new(tree: &Tree, format: Format) -> Self {
        let is_tar = matches!(format, Format::Tar(_));
        let plain = if is_tar { Format::Tar(Compression::None) } else { STREAMS[0] };
        let bytes = written(tree, plain, 0);
        let blocks = (0..bytes.len() / BLOCK).map(|index| index * BLOCK);
        let headers = blocks.filter(|at| is_tar && bytes[at + 257..].starts_with(b"ustar"));
        Self { format, headers: headers.collect(), bytes }
    }

    /// The compressed archive, with right check sums.
    fn sealed(mut self) -> Vec<u8> {
        for at in self.headers {
            ustar::seal(self.bytes[at..].first_chunk_mut().unwrap());
        }
        let method = Method { compression: self.format.compression(), level: None };
        let mut out = Encoder::new(Vec::new(), method, 0).unwrap();
        out.write_all(&self.bytes).unwrap();
        out.finish().unwrap()
    }
}

/// Checks that damage reaches the reader of members, instead of failing at a check sum.
#[test]
fn damage_gets_past_the_check_sums() {
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
        // Damage in contents and padding would seldom matter.
        let fields: Vec<_> = match plain.headers.is_empty() {
            true => (0..plain.bytes.len()).collect(),
            // Headers, and the records after extended headers.
            false => plain.headers.iter().flat_map(|at| *at..at + 600).collect(),
        };
        for (at, byte) in changes {
            plain.bytes[*at.get(&fields)] = byte;
        }
        let mut bytes = plain.sealed();
        if let Ok(tree) = read(&bytes) {
            read_contents(&tree);
        }
        // Then damage the compressed data, too.
        let at = length.index(bytes.len());
        bytes[at] ^= 0x55;
        let _ = read(&bytes);
        bytes.truncate(at);
        let _ = read(&bytes);
    }
}
