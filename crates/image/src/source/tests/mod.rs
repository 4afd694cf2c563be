//! Tar archives as other writers make them, and damaged ones; directories with a filter.

mod attributes;
mod fields;
mod filter;
mod layer_members;
mod layers;
mod limits;
mod members;

use std::fs;

use anyhow::Result;
use files::notes::Notes;

use super::{ReadOptions, open};
use crate::tree::{Kind, Node, Tree};
use crate::ustar;

/// A member that is being composed: header and data.
struct TestMember {
    block: [u8; ustar::BLOCK],
    data: Vec<u8>,
}

/// A member with all fields that POSIX requires. Its size is the size of `data`.
fn member(kind: u8, name: &str, data: &[u8]) -> TestMember {
    let empty = TestMember { block: [0; ustar::BLOCK], data: data.to_vec() };
    empty
        .with(0, name.as_bytes())
        .with(100, b"0000644\0")
        .with(108, b"0000000\0")
        .with(116, b"0000000\0")
        .with(124, format!("{:011o}\0", data.len()).as_bytes())
        .with(136, b"00000000000\0")
        .with(156, &[kind])
        .with(257, b"ustar\x0000")
}

impl TestMember {
    /// Writes `bytes` at an offset of the header.
    fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Sets the target of a link.
    fn to(self, target: &str) -> Self {
        self.with(157, target.as_bytes())
    }

    /// The header with its check sum, and the padded data.
    fn bytes(self) -> Vec<u8> {
        self.bytes_with_sum(i64::from)
    }

    fn bytes_with_sum(mut self, number: fn(u8) -> i64) -> Vec<u8> {
        self.block[148..156].fill(b' ');
        let sum: i64 = self.block.iter().map(|&byte| number(byte)).sum();
        self.block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut bytes = [&self.block[..], &self.data].concat();
        bytes.resize(bytes.len().next_multiple_of(ustar::BLOCK), 0);
        bytes
    }
}

/// An extended header: kind `x` for the next member, `g` for all members after it.
fn records(kind: u8, records: &[&[u8]]) -> Vec<u8> {
    let mut data = Vec::new();
    for record in records {
        let rest = record.len() + " \n".len();
        let length =
            (rest..rest + 9).find(|length| *length == rest + length.to_string().len()).unwrap();
        data.extend([length.to_string().as_bytes(), b" ", record, b"\n"].concat());
    }
    member(kind, "header", &data).bytes()
}

/// The blocks of zeros that end an archive.
const END: &[u8] = &[0; 2 * ustar::BLOCK];

fn read(parts: &[&[u8]]) -> Result<(Tree, Vec<String>)> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), parts.concat()).unwrap();
    let mut notes = Notes::default();
    let tree = open(file.path(), &ReadOptions::default(), &mut notes)?.tree;
    Ok((tree, notes.lines().collect()))
}

fn node<'t>(tree: &'t Tree, path: &str) -> &'t Node {
    tree.node(tree.find(path.as_bytes()).unwrap_or_else(|| panic!("{path} is missing")))
}

fn text(tree: &Tree, path: &str) -> Vec<u8> {
    let Kind::File(content) = &node(tree, path).kind else { panic!("{path} is no file") };
    let mut bytes = Vec::new();
    content.open().unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn paths(tree: &Tree) -> Vec<String> {
    let mut paths = Vec::new();
    let mut visit = |path: &[u8], _| {
        paths.push(String::from_utf8_lossy(path).into_owned());
        Ok(())
    };
    tree.walk(&mut visit).unwrap();
    paths.remove(0);
    paths
}

fn refused(name: &str, parts: &[&[u8]], word: &str) {
    let error = read(parts).map(|_| ()).expect_err(name);
    assert!(format!("{error:#}").contains(word), "{name}: {error:#}");
}
