//! Extended attributes as bytes: in the inode, and in one block.
//!
//! Format: kernel doc filesystems/ext4/attributes.rst. Entries grow from the
//! start, values from the end; an entry of 16 bytes and its name, padded to 4:
//!
//! | At | Bytes | Field |
//! |---|---|---|
//! | 0 | 1 | length of the name without its prefix |
//! | 1 | 1 | which prefix |
//! | 2 | 2 | where the value is, from the first entry (inode) or the block's start |
//! | 4 | 4 | inode of the value: 0 |
//! | 8 | 4 | bytes of the value |
//! | 12 | 4 | hash of name and value |
//!
//! In the inode they follow a magic number; the block's header has 32 bytes:
//!
//! | At | Bytes | Field |
//! |---|---|---|
//! | 0 | 4 | magic |
//! | 4 | 4 | inodes that share it |
//! | 8 | 4 | blocks: 1 |
//! | 12 | 4 | hash of all entries |
//! | 16 | 4 | checksum |

use anyhow::{Context, Result, ensure};

use super::acl;
use super::bytes::{BLOCK, Block, ZEROS, crc32c, get16, get32, low32, put16, put32, small};
use super::inode::BODY;
use crate::tree::Xattrs;

const MAGIC: u32 = 0xea02_0000;

/// Bytes before the entries in the inode, and in a block.
const BODY_HEADER: usize = 4;
const BLOCK_HEADER: usize = 32;

/// Bytes of an entry without its name.
const ENTRY: usize = 16;

/// Bytes of zeros behind the last entry.
const END: usize = 4;

/// The name under which the rest of a file is that begins in its inode.
pub(super) const INLINE_DATA: &[u8] = b"system.data";

/// Prefixes and their numbers; where two fit, the first.
#[rustfmt::skip]
const PREFIXES: &[(u8, &[u8])] = &[
    (acl::ACCESS,  acl::ACCESS_NAME),
    (acl::DEFAULT, acl::DEFAULT_NAME),
    (1, b"user."),
    (4, b"trusted."),
    (6, b"security."),
];

/// The prefix of ext4's own, of which Linux shows nothing.
const SYSTEM: (u8, &[u8]) = (7, b"system.");

/// As they are stored: prefix, name, value.
struct Attribute {
    prefix: u8,
    name: Box<[u8]>,
    value: Vec<u8>,
}

/// The attributes of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Encoded {
    /// For the inode; empty, or [`BODY`] bytes.
    pub(super) body: Vec<u8>,
    /// What did not fit there; its checksum depends on where it is put.
    pub(super) block: Option<Box<Block>>,
}

/// Encodes all attributes of a file.
///
/// # Errors
/// An attribute that ext4 cannot have; more than fit.
pub(super) fn encode(xattrs: &Xattrs) -> Result<Encoded> {
    let mut attributes = xattrs
        .iter()
        .map(|(name, value)| {
            attribute(name, value).with_context(|| format!("attribute {}", name.escape_ascii()))
        })
        .collect::<Result<Vec<_>>>()?;
    // The order in which Linux looks for them in a block.
    attributes
        .sort_by(|a, b| (a.prefix, a.name.len(), &a.name).cmp(&(b.prefix, b.name.len(), &b.name)));
    let mut body = Area::new(BODY_HEADER, BODY - BODY_HEADER);
    let mut block = Area::new(0, BLOCK);
    block.end_of_entries = BLOCK_HEADER;
    for attribute in &attributes {
        ensure!(
            body.add(attribute) || block.add(attribute),
            "its attributes need more than the {BODY} bytes of the inode and one block of 4 KiB: \
             leave some out with --xattrs"
        );
    }
    let mut encoded = Encoded::default();
    if body.count > 0 {
        put32(&mut body.bytes, 0, MAGIC);
        encoded.body = body.bytes;
    }
    if block.count > 0 {
        for (at, value) in [(0, MAGIC), (4, 1), (8, 1), (12, block.hash)] {
            put32(&mut block.bytes, at, value);
        }
        let mut bytes = ZEROS;
        bytes.copy_from_slice(&block.bytes);
        encoded.block = Some(Box::new(bytes));
    }
    Ok(encoded)
}

/// Stores the checksum of an attribute block that will be block `at`.
pub(super) fn seal(block: &mut Block, file_system: u32, at: u64) {
    let checksum = crc32c(crc32c(file_system, &at.to_le_bytes()), &block[..]);
    put32(block, 16, checksum);
}

fn attribute(name: &[u8], value: &[u8]) -> Result<Attribute> {
    let prefix = PREFIXES.iter().find_map(|(number, prefix)| {
        let rest = name.strip_prefix(*prefix)?;
        (prefix.ends_with(b".") != rest.is_empty()).then_some((*number, rest))
    });
    let (prefix, rest) = prefix.context("ext4 has no such attribute")?;
    ensure!(u8::try_from(rest.len()).is_ok() && !rest.contains(&0), "its name is too long");
    let is_acl = matches!(prefix, acl::ACCESS | acl::DEFAULT);
    let value = if is_acl { acl::encode(value)? } else { value.to_vec() };
    Ok(Attribute { prefix, name: rest.into(), value })
}

/// Entries from one end, values from the other.
struct Area {
    bytes: Vec<u8>,
    /// Where offsets of values count from.
    base: usize,
    end_of_entries: usize,
    start_of_values: usize,
    count: usize,
    hash: u32,
}

impl Area {
    fn new(base: usize, length: usize) -> Self {
        let size = base + length;
        let bytes = vec![0; size];
        Self { bytes, base, end_of_entries: base, start_of_values: size, count: 0, hash: 0 }
    }

    /// Adds it, or gives `false` where it does not fit.
    fn add(&mut self, attribute: &Attribute) -> bool {
        let Attribute { prefix, name, value } = attribute;
        let length = ENTRY + name.len().next_multiple_of(4);
        let room = self.start_of_values - self.end_of_entries;
        if length + END + value.len().next_multiple_of(4) > room {
            return false;
        }
        let start = self.start_of_values - value.len().next_multiple_of(4);
        // An empty value is nowhere.
        let offset = if value.is_empty() { 0 } else { start - self.base };
        self.bytes[start..][..value.len()].copy_from_slice(value);
        let hash = hash(name, &self.bytes[start..self.start_of_values]);
        let entry = &mut self.bytes[self.end_of_entries..][..length];
        entry[0] = name.len().to_le_bytes()[0];
        entry[1] = *prefix;
        put16(entry, 2, small(offset));
        put32(entry, 8, low32(value.len() as u64));
        put32(entry, 12, hash);
        entry[ENTRY..][..name.len()].copy_from_slice(name);
        self.hash = self.hash.rotate_left(16) ^ hash;
        self.end_of_entries += length;
        self.start_of_values = start;
        self.count += 1;
        true
    }
}

/// `e_hash`; `value` is padded to 4 bytes.
fn hash(name: &[u8], value: &[u8]) -> u32 {
    let name = name.iter().fold(0_u32, |hash, &byte| hash.rotate_left(5) ^ u32::from(byte));
    let words = value.chunks_exact(4).map(|word| get32(word, 0));
    words.fold(name, |hash, word| hash.rotate_left(16) ^ word)
}

/// Decodes what is in the inode; nothing where there is nothing.
pub(super) fn decode_body(body: &[u8], into: &mut Xattrs) -> Result<()> {
    match get32(body, 0) == MAGIC {
        true => decode(&body[BODY_HEADER..], 0, into),
        false => Ok(()),
    }
}

/// Decodes an attribute block.
pub(super) fn decode_block(block: &[u8], into: &mut Xattrs) -> Result<()> {
    ensure!(get32(block, 0) == MAGIC, "its attribute block is damaged: run e2fsck");
    decode(block, BLOCK_HEADER, into)
}

fn decode(area: &[u8], first: usize, into: &mut Xattrs) -> Result<()> {
    let mut rest = area.get(first..).unwrap_or_default();
    // Values cannot lie over each other, so that they are no more than the area.
    let mut left = area.len();
    while get32(rest, 0) != 0 {
        let attribute = decode_entry(rest, area, &mut left);
        let (length, attribute) = attribute.context("an attribute is damaged: run e2fsck")?;
        if let Some((name, value)) = attribute? {
            into.insert(name, value);
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(())
}

/// A name and a value.
type Pair = (Box<[u8]>, Box<[u8]>);

/// The bytes of an entry, and what it says; a prefix that Linux does not know
/// makes an attribute that nobody can see.
fn decode_entry(
    rest: &[u8],
    area: &[u8],
    left: &mut usize,
) -> Option<(usize, Result<Option<Pair>>)> {
    let name = rest.get(ENTRY..)?.get(..rest[0].into())?;
    let (offset, size) = (usize::from(get16(rest, 2)), usize::try_from(get32(rest, 8)).ok()?);
    let value = if size == 0 { &[] } else { area.get(offset..)?.get(..size)? };
    *left = left.checked_sub(size)?;
    let length = ENTRY + name.len().next_multiple_of(4);
    if get32(rest, 4) != 0 {
        let error = anyhow::anyhow!("an attribute has an inode of its own (ea_inode)");
        return Some((length, Err(error.context("this is not supported"))));
    }
    let prefix = PREFIXES.iter().chain([&SYSTEM]).find(|(number, _)| *number == rest[1]);
    let Some((prefix, text)) = prefix else {
        return Some((length, Ok(None)));
    };
    let value = match *prefix {
        acl::ACCESS | acl::DEFAULT => acl::decode(value),
        _ => Ok(value.to_vec()),
    };
    let pair = value.map(|value| Some(([text, name].concat().into(), value.into())));
    Some((length, pair))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xattrs(pairs: &[(&str, usize)]) -> Xattrs {
        let pair = |(name, size): &(&str, usize)| {
            (name.as_bytes().into(), (0..*size).map(|i| i.to_le_bytes()[0]).collect())
        };
        pairs.iter().map(pair).collect()
    }

    fn decoded(encoded: &Encoded) -> Xattrs {
        let mut xattrs = Xattrs::new();
        decode_body(&encoded.body, &mut xattrs).unwrap();
        if let Some(block) = &encoded.block {
            decode_block(&block[..], &mut xattrs).unwrap();
        }
        xattrs
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let long = format!("user.{}", "n".repeat(255));
        for (pairs, in_body, in_block) in [
            (&[][..], false, false),
            (&[("security.capability", 20)], true, false),
            (&[("user.empty", 0), ("user.one", 1)], true, false),
            (&[("user.a", 52), ("user.b", 20), ("trusted.c", 300)], true, true),
            (&[("user.big", 4024)], false, true),
            (&[(&long, 3)], false, true),
        ] {
            let xattrs = xattrs(pairs);
            let encoded = encode(&xattrs).unwrap();
            assert_eq!(decoded(&encoded), xattrs);
            let places = (!encoded.body.is_empty(), encoded.block.is_some());
            assert_eq!(places, (in_body, in_block), "{pairs:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let long = format!("user.{}", "n".repeat(256));
        for name in ["big", "user.", "system.posix_acl_accessory.x", &long] {
            let size = if name.starts_with("sys") { 5000 } else { 1 };
            assert!(encode(&xattrs(&[(name, size)])).is_err(), "{name}");
        }
        assert!(encode(&xattrs(&[("user.big", 4041)])).is_err());
    }
}
