//! Tables of records by number: owners, fragments, sets of attributes.
//!
//! Format: the records are metadata; behind their blocks is the address of each
//! (u64), which is where the superblock points. No record crosses a block.

use anyhow::{Context, Result, ensure};

use super::compressor::Packer;
use super::image::Image;
use super::layout::{Fields, METADATA};
use super::metadata::{Cursor, Position, Writer};

/// Records as they go to the address `at`: all bytes, and where those addresses
/// are; `head` is put before them.
pub(super) fn encode(
    records: &[u8],
    head: &[u8],
    packer: Packer,
    at: u64,
) -> Result<(Vec<u8>, u64)> {
    let mut writer = Writer::new(packer);
    writer.write(records)?;
    let (mut out, blocks) = writer.finish()?;
    let index = at + out.len() as u64;
    out.extend_from_slice(head);
    out.extend(blocks.iter().flat_map(|&block| (at + u64::from(block)).to_le_bytes()));
    Ok((out, index))
}

/// The record `number` of `N` bytes, in a table that has `count`.
///
/// # Errors
/// A number that there is not, or what is damaged.
pub(super) fn record<const N: usize>(
    image: &Image,
    index: u64,
    count: u32,
    number: u32,
) -> Result<[u8; N]> {
    ensure!(number < count, "number {number} of {count}");
    let offset = u64::from(number) * N as u64;
    let place = (offset / METADATA as u64).checked_mul(8).and_then(|at| at.checked_add(index));
    let mut address = [0; 8];
    image.read(place.context("an address is too large")?, &mut address)?;
    let offset = u16::try_from(offset % METADATA as u64)?;
    let block = u64::from_le_bytes(address);
    Cursor::new(image, block, Position { block: 0, offset })?.array()
}
