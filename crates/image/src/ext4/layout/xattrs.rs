//! Extended attributes of ext4, in the inode and in one block.
//!
//! Format: kernel doc filesystems/ext4/attributes.rst, `fs/ext4/xattr.h`, little endian.
//! The entries start at the beginning of the area, and the values are stored from its end
//! backwards. An entry (`struct ext4_xattr_entry`) has 16 bytes, and then the name without
//! its prefix, padded to 4 bytes:
//!
//! | At | Bytes | Field |
//! |---|---|---|
//! | 0 | 1 | `e_name_len` |
//! | 1 | 1 | `e_name_index`: number of the prefix |
//! | 2 | 2 | `e_value_offs`: offset of the value, from the first entry in an inode, from the start in a block |
//! | 4 | 4 | `e_value_inum`: 0 if the value is in this area |
//! | 8 | 4 | `e_value_size` |
//! | 12 | 4 | `e_hash`: hash of name and value |
//!
//! In an inode, the entries follow a magic number (`struct ext4_xattr_ibody_header`). In a
//! block, they follow a header of 32 bytes (`struct ext4_xattr_header`):
//!
//! | At | Bytes | Field |
//! |---|---|---|
//! | 0 | 4 | `h_magic` |
//! | 4 | 4 | `h_refcount`: inodes that share the block |
//! | 8 | 4 | `h_blocks`: always 1 |
//! | 12 | 4 | `h_hash`: hash of all entries |
//! | 16 | 4 | `h_checksum` |

use anyhow::{Context, Result, ensure};

use super::acl;
use super::bytes::{BLOCK, Ext4Block, ZEROS, get16, get32, low32, put16, put32, small};
use super::inode::XATTR_SPACE;
use crate::disk_parts::crc32c::crc32c;
use crate::tree::Xattrs;

/// Magic number of both headers (`EXT4_XATTR_MAGIC`).
const MAGIC: u32 = 0xea02_0000;

/// Bytes of the header in an inode (`struct ext4_xattr_ibody_header`).
const INODE_HEADER: usize = 4;

/// Bytes of the header of a block (`struct ext4_xattr_header`).
const BLOCK_HEADER: usize = 32;

/// Bytes of an entry without its name (`struct ext4_xattr_entry`).
const ENTRY: usize = 16;

/// Bytes of zeros that end the list of entries (`IS_LAST_ENTRY`).
const END: usize = 4;

/// Attribute with the rest of a file whose first bytes are in `i_block`
/// (`EXT4_XATTR_SYSTEM_DATA`).
pub(in crate::ext4) const INLINE_DATA: &[u8] = b"system.data";

/// Prefixes with their numbers (`EXT4_XATTR_INDEX_USER` and others). The first prefix that
/// fits a name is used.
#[rustfmt::skip]
const PREFIXES: &[(u8, &[u8])] = &[
    (acl::ACCESS,  acl::ACCESS_NAME),
    (acl::DEFAULT, acl::DEFAULT_NAME),
    (1, b"user."),
    (4, b"trusted."),
    (6, b"security."),
];

/// Prefix that ext4 uses internally; the kernel does not show it
/// (`EXT4_XATTR_INDEX_SYSTEM`).
const SYSTEM: (u8, &[u8]) = (7, b"system.");

/// Attribute in its stored form: number of the prefix, rest of the name, value.
struct StoredAttribute {
    prefix: u8,
    name: Box<[u8]>,
    value: Vec<u8>,
}

/// Encoded attributes of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::ext4) struct EncodedXattrs {
    /// Part in the inode: empty, or [`XATTR_SPACE`] bytes.
    pub(in crate::ext4) in_inode: Vec<u8>,
    /// Block with the attributes that did not fit into the inode. Its checksum is missing;
    /// see [`seal`].
    pub(in crate::ext4) block: Option<Box<Ext4Block>>,
}

/// Encodes all attributes of a file.
///
/// # Errors
/// ext4 cannot hold an attribute, or they need more space than inode and block have.
pub(in crate::ext4) fn encode(xattrs: &Xattrs) -> Result<EncodedXattrs> {
    let mut attributes = xattrs
        .iter()
        .map(|(name, value)| {
            attribute(name, value).with_context(|| format!("attribute {}", name.escape_ascii()))
        })
        .collect::<Result<Vec<_>>>()?;
    // The kernel searches a block in this order (`xattr_find_entry`).
    attributes
        .sort_by(|a, b| (a.prefix, a.name.len(), &a.name).cmp(&(b.prefix, b.name.len(), &b.name)));
    let mut inode = XattrArea::new(INODE_HEADER, XATTR_SPACE - INODE_HEADER);
    let mut block = XattrArea::new(0, BLOCK);
    block.end_of_entries = BLOCK_HEADER;
    for attribute in &attributes {
        ensure!(
            inode.add(attribute) || block.add(attribute),
            "its attributes need more than the {XATTR_SPACE} bytes of the inode and one block of 4 KiB: \
             leave some out with --xattrs"
        );
    }
    let mut encoded = EncodedXattrs::default();
    if inode.count > 0 {
        put32(&mut inode.bytes, 0, MAGIC);
        encoded.in_inode = inode.bytes;
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

/// Stores the checksum of an attribute block that will be block `at` of the image.
/// `file_system` is the start of the file system's checksums.
pub(in crate::ext4) fn seal(block: &mut Ext4Block, file_system: u32, at: u64) {
    let checksum = crc32c(crc32c(file_system, &at.to_le_bytes()), &block[..]);
    put32(block, 16, checksum);
}

/// Converts an attribute into its stored form.
fn attribute(name: &[u8], value: &[u8]) -> Result<StoredAttribute> {
    let prefix = PREFIXES.iter().find_map(|(number, prefix)| {
        let rest = name.strip_prefix(*prefix)?;
        (prefix.ends_with(b".") != rest.is_empty()).then_some((*number, rest))
    });
    let (prefix, rest) = prefix.context("ext4 has no such attribute")?;
    ensure!(u8::try_from(rest.len()).is_ok() && !rest.contains(&0), "its name is too long");
    let is_acl = matches!(prefix, acl::ACCESS | acl::DEFAULT);
    let value = if is_acl { acl::encode(value)? } else { value.to_vec() };
    Ok(StoredAttribute { prefix, name: rest.into(), value })
}

/// Area that is filled with entries from its start and with values from its end.
struct XattrArea {
    bytes: Vec<u8>,
    /// Offset in `bytes` from which `e_value_offs` counts.
    base: usize,
    end_of_entries: usize,
    start_of_values: usize,
    count: usize,
    hash: u32,
}

impl XattrArea {
    /// Empty area of `length` bytes after `base` bytes for a header.
    fn new(base: usize, length: usize) -> Self {
        let size = base + length;
        let bytes = vec![0; size];
        Self { bytes, base, end_of_entries: base, start_of_values: size, count: 0, hash: 0 }
    }

    /// Adds an attribute. Returns `false` if it does not fit.
    fn add(&mut self, attribute: &StoredAttribute) -> bool {
        let StoredAttribute { prefix, name, value } = attribute;
        let length = ENTRY + name.len().next_multiple_of(4);
        let room = self.start_of_values - self.end_of_entries;
        if length + END + value.len().next_multiple_of(4) > room {
            return false;
        }
        let start = self.start_of_values - value.len().next_multiple_of(4);
        // An empty value takes no space and has the offset 0.
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

/// Hash of name and value (`e_hash`, `ext4_xattr_hash_entry`). `value` is padded to 4 bytes.
fn hash(name: &[u8], value: &[u8]) -> u32 {
    let name = name.iter().fold(0_u32, |hash, &byte| hash.rotate_left(5) ^ u32::from(byte));
    let words = value.chunks_exact(4).map(|word| get32(word, 0));
    words.fold(name, |hash, word| hash.rotate_left(16) ^ word)
}

/// Decodes the attributes in an inode. `area` is the space after its fields, and may hold no
/// attributes.
pub(in crate::ext4) fn decode_inode(area: &[u8], into: &mut Xattrs) -> Result<()> {
    match get32(area, 0) == MAGIC {
        true => decode(&area[INODE_HEADER..], 0, into),
        false => Ok(()),
    }
}

/// Decodes an attribute block.
pub(in crate::ext4) fn decode_block(block: &[u8], into: &mut Xattrs) -> Result<()> {
    ensure!(get32(block, 0) == MAGIC, "its attribute block is damaged: run e2fsck");
    decode(block, BLOCK_HEADER, into)
}

/// Decodes the entries of an area; the first is at offset `first`.
fn decode(area: &[u8], first: usize, into: &mut Xattrs) -> Result<()> {
    let mut rest = area.get(first..).unwrap_or_default();
    // Values of a sound area do not overlap, so together they are no larger than the area.
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

/// Name and value of an attribute.
type NamedValue = (Box<[u8]>, Box<[u8]>);

/// Decodes the entry at the start of `rest`. Returns its length and its attribute, or `None`
/// if the entry is damaged. An entry with an unknown prefix has no attribute, because the
/// kernel does not show it.
fn decode_entry(
    rest: &[u8],
    area: &[u8],
    left: &mut usize,
) -> Option<(usize, Result<Option<NamedValue>>)> {
    let name = rest.get(ENTRY..)?.get(..rest[0].into())?;
    let (offset, size) = (usize::from(get16(rest, 2)), usize::try_from(get32(rest, 8)).ok()?);
    let value = if size == 0 { &[] } else { area.get(offset..)?.get(..size)? };
    *left = left.checked_sub(size)?;
    let length = ENTRY + name.len().next_multiple_of(4);
    if get32(rest, 4) != 0 {
        let error = anyhow::anyhow!("an attribute is stored in an inode (ea_inode)");
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

    fn decoded(encoded: &EncodedXattrs) -> Xattrs {
        let mut xattrs = Xattrs::new();
        decode_inode(&encoded.in_inode, &mut xattrs).unwrap();
        if let Some(block) = &encoded.block {
            decode_block(&block[..], &mut xattrs).unwrap();
        }
        xattrs
    }

    #[test]
    fn attributes_decode_to_themselves() {
        let long = format!("user.{}", "n".repeat(255));
        for (pairs, in_inode, in_block) in [
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
            let areas = (!encoded.in_inode.is_empty(), encoded.block.is_some());
            assert_eq!(areas, (in_inode, in_block), "{pairs:?}");
        }
    }

    #[test]
    fn attributes_beyond_the_format_are_refused() {
        let long = format!("user.{}", "n".repeat(256));
        for name in ["big", "user.", "system.posix_acl_accessory.x", &long] {
            let size = if name.starts_with("sys") { 5000 } else { 1 };
            assert!(encode(&xattrs(&[(name, size)])).is_err(), "{name}");
        }
        assert!(encode(&xattrs(&[("user.big", 4041)])).is_err());
    }
}
