//! Encoder of tables of records: owners, fragments, sets of attributes.
//!
//! Format: the records are a metadata stream. The address of each of its blocks (u64) follows
//! the stream; the superblock points to this list. No record crosses the end of a block.

use anyhow::Result;

use super::metadata::MetadataWriter;
use crate::squashfs::compressor::Packer;

/// Encodes a table for the address `at`; `head` goes before its list of addresses. Returns all
/// bytes, and the address for the superblock.
pub(super) fn encode(
    records: &[u8],
    head: &[u8],
    packer: Packer,
    at: u64,
) -> Result<(Vec<u8>, u64)> {
    let mut writer = MetadataWriter::new(packer);
    writer.write(records)?;
    let (mut out, blocks) = writer.finish()?;
    let list = at + out.len() as u64;
    out.extend_from_slice(head);
    out.extend(blocks.iter().flat_map(|&block| (at + u64::from(block)).to_le_bytes()));
    Ok((out, list))
}
