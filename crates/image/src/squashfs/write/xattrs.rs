//! Writer of the table of attributes.
//!
//! Format: see `layout::xattrs`. Equal sets are stored once.

use std::collections::HashMap;

use anyhow::{Context, Result};

use super::metadata::MetadataWriter;
use super::table;
use crate::squashfs::compressor::Packer;
use crate::squashfs::layout::units::NO_TABLE;
use crate::squashfs::layout::xattrs::{encode, is_kept};
use crate::tree::Xattrs;

/// Table of all sets of attributes of a tree.
pub(super) struct XattrTableWriter<'t> {
    /// Number of each set.
    numbers: HashMap<&'t Xattrs, u32>,
    /// Encoded attributes.
    attributes: MetadataWriter,
    /// Encoded records, one for each set.
    records: Vec<u8>,
}

impl<'t> XattrTableWriter<'t> {
    /// Empty table.
    pub(super) fn new(packer: Packer) -> Self {
        let attributes = MetadataWriter::new(packer);
        Self { numbers: HashMap::new(), attributes, records: Vec::new() }
    }

    /// Number of the set `xattrs`, which is added if it is new. `None` if squashfs can store
    /// none of its attributes.
    ///
    /// # Errors
    /// A name or a value is too long.
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
        self.records.extend(
            u32::try_from(size).context("a file has more than 4 GiB of attributes")?.to_le_bytes(),
        );
        let number = u32::try_from(self.numbers.len())?;
        self.numbers.insert(xattrs, number);
        Ok(Some(number))
    }

    /// Encodes the table for the address `at`. Returns its bytes, and the address for the
    /// superblock.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::squashfs::compressor::Compressor;
    use crate::squashfs::layout::fields::Fields;

    #[test]
    fn equal_sets_are_stored_once() {
        let set = |rows: &[(&[u8], &[u8])]| -> Xattrs {
            rows.iter().map(|&(name, value)| (name.into(), value.into())).collect()
        };
        let one = set(&[(b"user.a", b"1"), (b"user.b", b"")]);
        let (same, other) = (one.clone(), set(&[(b"user.a", b"2")]));
        let (none, lost) = (Xattrs::new(), set(&[(b"system.posix_acl_access", b"x")]));
        let packer = || Packer::new(Compressor::Gzip, None, 17).unwrap();
        let mut table = XattrTableWriter::new(packer());
        let numbers = [&one, &none, &other, &same, &lost].map(|set| table.number(set).unwrap());
        assert_eq!(numbers, [Some(0), None, Some(1), Some(0), None]);
        let (bytes, start) = table.finish(packer(), 100).unwrap();
        let mut head = &bytes[usize::try_from(start - 100).unwrap()..];
        assert_eq!((head.u64().unwrap(), head.u32().unwrap()), (100, 2));
    }
}
