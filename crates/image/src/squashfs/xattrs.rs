//! Extended attributes: sets of them, each kept once and known by number.
//!
//! Format: an attribute is metadata: its kind (u16), the length of its name
//! without prefix (u16), the name, the length of its value (u32), the value. Where
//! the kind says so, the value is a reference (u64) to length and value elsewhere.
//! A record of a set (16 bytes): 0 reference of its first attribute (u64), 8 their
//! number, 12 their bytes. The table of records has a head of its own: 0 address of
//! the attributes (u64), 8 number of sets, 12 unused.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};

use super::compressor::Packer;
use super::image::Image;
use super::layout::{Fields, NO_TABLE};
use super::metadata::{Cursor, Position, Writer};
use super::table;
use crate::disk::xattr_sets::{PAIR, TOO_MANY};
use crate::tree::Xattrs;

/// Prefixes by number.
const PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// Set in a kind where the value is elsewhere.
const ELSEWHERE: u16 = 0x100;
/// Bytes of a record of a set.
const RECORD: usize = 16;
/// Bytes of the table's head.
const HEAD: usize = 16;
/// Longest value (`XATTR_SIZE_MAX`, `include/uapi/linux/limits.h`).
const VALUE_MAX: usize = 65536;
/// Longest name without its prefix; with it, Linux has as many (`XATTR_NAME_MAX`).
const NAME_MAX: usize = 255;

/// All sets of a tree.
pub(super) struct Table<'t> {
    numbers: HashMap<&'t Xattrs, u32>,
    attributes: Writer,
    records: Vec<u8>,
}

impl<'t> Table<'t> {
    pub(super) fn new(packer: Packer) -> Self {
        let attributes = Writer::new(packer);
        Self { numbers: HashMap::new(), attributes, records: Vec::new() }
    }

    /// The number of a set; `None` where nothing of it is kept.
    ///
    /// # Errors
    /// Names and values that are too long.
    pub(super) fn number(&mut self, xattrs: &'t Xattrs) -> Result<Option<u32>> {
        let kept = || xattrs.iter().filter(|(name, _)| is_kept(name));
        if kept().next().is_none() || self.numbers.contains_key(xattrs) {
            return Ok(self.numbers.get(xattrs).copied());
        }
        let (reference, mut size) = (self.attributes.position()?.reference(), 0);
        for (name, value) in kept() {
            let bytes = encode(name, value)
                .with_context(|| format!("attribute \"{}\"", name.escape_ascii()))?;
            size += bytes.len();
            self.attributes.write(&bytes)?;
        }
        self.records.extend(reference.to_le_bytes());
        self.records.extend(u32::try_from(kept().count())?.to_le_bytes());
        self.records.extend(u32::try_from(size).context("too many attributes")?.to_le_bytes());
        let number = u32::try_from(self.numbers.len())?;
        self.numbers.insert(xattrs, number);
        Ok(Some(number))
    }

    /// As it goes to the address `at`: all bytes, and where the superblock points.
    pub(super) fn finish(self, packer: Packer, at: u64) -> Result<(Vec<u8>, u64)> {
        if self.numbers.is_empty() {
            return Ok((Vec::new(), NO_TABLE));
        }
        let (mut out, _) = self.attributes.finish()?;
        let mut head = at.to_le_bytes().to_vec();
        head.extend(u32::try_from(self.numbers.len())?.to_le_bytes());
        head.extend([0; 4]);
        let (table, start) = table::encode(&self.records, &head, packer, at + out.len() as u64)?;
        out.extend(table);
        Ok((out, start))
    }
}

/// Whether the format has room for the name space of `name`: not for ACLs.
pub(super) fn is_kept(name: &[u8]) -> bool {
    split(name).is_some()
}

/// A name as the number of its prefix and the rest.
fn split(name: &[u8]) -> Option<(u16, &[u8])> {
    let split = |(kind, prefix): (u16, &&[u8])| Some((kind, name.strip_prefix(*prefix)?));
    (0..).zip(&PREFIXES).find_map(split)
}

fn encode(name: &[u8], value: &[u8]) -> Result<Vec<u8>> {
    let (kind, rest) = split(name).context("squashfs has no such name space")?;
    ensure!(rest.len() <= NAME_MAX, "the name is too long");
    ensure!(value.len() <= VALUE_MAX, "the value is too long");
    let mut out = kind.to_le_bytes().to_vec();
    out.extend(u16::try_from(rest.len())?.to_le_bytes());
    out.extend_from_slice(rest);
    out.extend(u32::try_from(value.len())?.to_le_bytes());
    out.extend_from_slice(value);
    Ok(out)
}

/// The sets of an image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sets {
    /// Address of the attributes.
    attributes: u64,
    /// Address of the records' addresses.
    index: u64,
    count: u32,
}

impl Sets {
    /// # Errors
    /// What is damaged.
    pub(super) fn open(image: &Image) -> Result<Self> {
        let start = image.superblock.xattr_table;
        if start == NO_TABLE {
            return Ok(Self { attributes: 0, index: 0, count: 0 });
        }
        let mut head = [0; HEAD];
        image.read(start, &mut head)?;
        let mut fields = &head[..];
        Ok(Self { attributes: fields.u64()?, count: fields.u32()?, index: start + HEAD as u64 })
    }

    /// The set `number`; `left` is how many bytes may still be kept.
    ///
    /// # Errors
    /// What is damaged, or of a name space we do not know.
    pub(super) fn get(self, image: &Image, number: u32, left: &mut usize) -> Result<Xattrs> {
        let record: [u8; RECORD] = table::record(image, self.index, self.count, number)?;
        let mut record = &record[..];
        let (position, count) = (Position::of_reference(record.u64()?)?, record.u32()?);
        let mut cursor = Cursor::new(image, self.attributes, position)?;
        let mut xattrs = Xattrs::new();
        for _ in 0..count {
            let (name, value) = self.attribute(image, &mut cursor)?;
            let size = PAIR + name.len() + value.len();
            *left = left.checked_sub(size).context(TOO_MANY)?;
            xattrs.insert(name.into(), value.into());
        }
        Ok(xattrs)
    }

    /// The next name and value.
    fn attribute(self, image: &Image, cursor: &mut Cursor) -> Result<(Vec<u8>, Vec<u8>)> {
        let (kind, length) = (cursor.u16()?, cursor.u16()?);
        let prefix = PREFIXES.get(usize::from(kind & !ELSEWHERE));
        let prefix = prefix.with_context(|| format!("attribute of unknown kind {kind}"))?;
        let mut name = vec![0; usize::from(length)];
        cursor.fill(&mut name)?;
        let name = [prefix, &name[..]].concat();
        if kind & ELSEWHERE == 0 {
            return Ok((name, value(cursor)?));
        }
        ensure!(cursor.u32()? == 8, "an attribute's reference has not 8 bytes");
        let position = Position::of_reference(cursor.u64()?)?;
        Ok((name, value(&mut Cursor::new(image, self.attributes, position)?)?))
    }
}

fn value(cursor: &mut Cursor) -> Result<Vec<u8>> {
    let size = cursor.u32()? as usize;
    ensure!(size <= VALUE_MAX, "an attribute of {size} bytes");
    let mut value = vec![0; size];
    cursor.fill(&mut value)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::super::compressor::{Compressor, Packer};
    use super::*;

    #[test]
    fn equal_sets_are_kept_once() {
        let set = |rows: &[(&[u8], &[u8])]| -> Xattrs {
            rows.iter().map(|&(name, value)| (name.into(), value.into())).collect()
        };
        let one = set(&[(b"user.a", b"1"), (b"user.b", b"")]);
        let (same, other) = (one.clone(), set(&[(b"user.a", b"2")]));
        let (none, lost) = (Xattrs::new(), set(&[(b"system.posix_acl_access", b"x")]));
        let packer = || Packer::new(Compressor::Gzip, None, 17).unwrap();
        let mut table = Table::new(packer());
        let numbers = [&one, &none, &other, &same, &lost].map(|set| table.number(set).unwrap());
        assert_eq!(numbers, [Some(0), None, Some(1), Some(0), None]);
        let (bytes, start) = table.finish(packer(), 100).unwrap();
        let mut head = &bytes[usize::try_from(start - 100).unwrap()..];
        assert_eq!((head.u64().unwrap(), head.u32().unwrap()), (100, 2));
    }
}
