//! Reader of the table of attributes.
//!
//! Format: see `layout::xattrs`. The image is not trusted: a value is at most as long as the
//! kernel allows, and the caller bounds the bytes of all sets.

use anyhow::{Context, Result, ensure};

use super::cursor::MetadataCursor;
use super::image::SquashfsImage;
use super::table;
use crate::disk_parts::xattr_sets::{PAIR, TOO_MANY};
use crate::squashfs::layout::fields::Fields;
use crate::squashfs::layout::position::Position;
use crate::squashfs::layout::units::NO_TABLE;
use crate::squashfs::layout::xattrs::{HEAD, OUT_OF_LINE, PREFIXES, RECORD, VALUE_MAX};
use crate::tree::Xattrs;

/// Table of the sets of attributes of an image.
#[derive(Clone, Copy, Debug)]
pub(super) struct XattrTable {
    /// Address of the attributes (`xattr_table_start`).
    attributes: u64,
    /// Address of the list of the records' blocks.
    index: u64,
    /// Number of sets (`xattr_ids`).
    count: u32,
}

impl XattrTable {
    /// Reads the head of the table.
    ///
    /// # Errors
    /// The head is damaged.
    pub(super) fn open(image: &SquashfsImage) -> Result<Self> {
        let start = image.superblock.xattr_table;
        if start == NO_TABLE {
            return Ok(Self { attributes: 0, index: 0, count: 0 });
        }
        let mut head = [0; HEAD];
        image.read(start, &mut head)?;
        let mut fields = &head[..];
        Ok(Self { attributes: fields.u64()?, count: fields.u32()?, index: start + HEAD as u64 })
    }

    /// Reads the set `number`. `left` is the number of bytes that may still be kept in memory;
    /// the attributes are subtracted from it.
    ///
    /// # Errors
    /// The set is damaged, or has a prefix that we do not know.
    pub(super) fn get(
        self,
        image: &SquashfsImage,
        number: u32,
        left: &mut usize,
    ) -> Result<Xattrs> {
        let record: [u8; RECORD] = table::record(image, self.index, self.count, number)?;
        let mut record = &record[..];
        let (position, count) = (Position::of_reference(record.u64()?)?, record.u32()?);
        let mut cursor = MetadataCursor::new(image, self.attributes, position)?;
        let mut xattrs = Xattrs::new();
        for _ in 0..count {
            let (name, value) = self.attribute(image, &mut cursor)?;
            let size = PAIR + name.len() + value.len();
            *left = left.checked_sub(size).context(TOO_MANY)?;
            xattrs.insert(name.into(), value.into());
        }
        Ok(xattrs)
    }

    /// Reads the next attribute.
    fn attribute(
        self,
        image: &SquashfsImage,
        cursor: &mut MetadataCursor,
    ) -> Result<(Vec<u8>, Vec<u8>)> {
        let (kind, length) = (cursor.u16()?, cursor.u16()?);
        let prefix = PREFIXES.get(usize::from(kind & !OUT_OF_LINE));
        let prefix =
            prefix.with_context(|| format!("an extended attribute has the unknown type {kind}"))?;
        let mut name = vec![0; usize::from(length)];
        cursor.fill(&mut name)?;
        let name = [prefix, &name[..]].concat();
        if kind & OUT_OF_LINE == 0 {
            return Ok((name, value(cursor)?));
        }
        ensure!(cursor.u32()? == 8, "the reference of an attribute does not have 8 bytes");
        let position = Position::of_reference(cursor.u64()?)?;
        Ok((name, value(&mut MetadataCursor::new(image, self.attributes, position)?)?))
    }
}

/// Reads a size and a value.
fn value(cursor: &mut MetadataCursor) -> Result<Vec<u8>> {
    let size = cursor.u32()? as usize;
    ensure!(size <= VALUE_MAX, "an extended attribute of {size} bytes");
    let mut value = vec![0; size];
    cursor.fill(&mut value)?;
    Ok(value)
}
