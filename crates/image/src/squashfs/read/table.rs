//! Reader of tables of records: owners, fragments, sets of attributes.
//!
//! Format: the records are a metadata stream. The address of each of its blocks (u64) follows
//! the stream; the superblock points to this list. No record crosses the end of a block.

use anyhow::{Context, Result, ensure};

use super::cursor::MetadataCursor;
use super::image::SquashfsImage;
use crate::squashfs::layout::fields::Fields;
use crate::squashfs::layout::position::Position;
use crate::squashfs::layout::units::METADATA;

/// Reads the record `number` of `N` bytes. The table has `count` records, and the address of
/// its list is `list`.
///
/// # Errors
/// The table has no such record, or is damaged.
pub(super) fn record<const N: usize>(
    image: &SquashfsImage,
    list: u64,
    count: u32,
    number: u32,
) -> Result<[u8; N]> {
    ensure!(number < count, "the table has {count} records, and no number {number}");
    let offset = u64::from(number) * N as u64;
    let entry = (offset / METADATA as u64).checked_mul(8).and_then(|at| at.checked_add(list));
    let mut address = [0; 8];
    image.read(entry.context("an address is too large")?, &mut address)?;
    let offset = u16::try_from(offset % METADATA as u64)?;
    let block = u64::from_le_bytes(address);
    MetadataCursor::new(image, block, Position { block: 0, offset })?.array()
}
