//! Extent trees of ext4: the blocks of a file and their place in the image.
//!
//! Format: kernel doc filesystems/ext4/ifork.rst, "Extent Tree", `fs/ext4/ext4_extents.h`,
//! little endian. A node is a header and entries of 12 bytes. The root lies in the inode
//! and has room for 4 entries. Any other node is a block with 340 entries and a checksum
//! (`struct ext4_extent_tail`).
//!
//! | Structure | At | Bytes | Field |
//! |---|---|---|---|
//! | `ext4_extent_header` | 0 | 2 | `eh_magic` |
//! | | 2 | 2 | `eh_entries`: number of entries |
//! | | 4 | 2 | `eh_max`: room for entries |
//! | | 6 | 2 | `eh_depth`: levels below this node, 0 in a leaf |
//! | `ext4_extent`, in a leaf | 0 | 4 | `ee_block`: first block in the file |
//! | | 4 | 2 | `ee_len`: number of blocks; plus 32768 if they were never written |
//! | | 6 | 2+4 | `ee_start_hi`, `ee_start_lo`: first block in the image |
//! | `ext4_extent_idx`, elsewhere | 0 | 4 | `ei_block`: first block in the file |
//! | | 4 | 4+2 | `ei_leaf_lo`, `ei_leaf_hi`: block of the child node |

use anyhow::{Context, Result};

use super::bytes::{BLOCK, get16, get32, low16, low32, put, put16, put32, small};
use super::inode::BLOCK_MAP;

/// Bytes of the header and of an entry (`struct ext4_extent_header`, `struct
/// ext4_extent`, `struct ext4_extent_idx`).
pub(in crate::ext4) const ENTRY: usize = 12;

/// Most levels below the root (`EXT4_MAX_EXTENT_DEPTH`).
pub(in crate::ext4) const DEPTH_MAX: u16 = 5;

/// Entries of the root, which lies in `i_block`.
pub(in crate::ext4) const ROOT_ENTRIES: usize = BLOCK_MAP / ENTRY - 1;

/// Entries of a node that is a block.
pub(in crate::ext4) const BLOCK_ENTRIES: usize = BLOCK / ENTRY - 1;

/// Most blocks of an extent (`EXT_INIT_MAX_LEN`).
pub(in crate::ext4) const LENGTH_MAX: u16 = 1 << 15;

/// Magic number of a node (`EXT4_EXT_MAGIC`).
const MAGIC: u16 = 0xf30a;

/// Extent: blocks that are consecutive in the file and in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ext4) struct Extent {
    /// First block in the file (`ee_block`).
    pub(in crate::ext4) at: u32,
    /// Number of blocks (`ee_len`).
    pub(in crate::ext4) length: u16,
    /// First block in the image (`ee_start`).
    pub(in crate::ext4) block: u64,
}

/// Encodes the entry of a leaf (`struct ext4_extent`).
pub(in crate::ext4) fn leaf_entry(extent: Extent) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    put32(&mut entry, 0, extent.at);
    put16(&mut entry, 4, extent.length);
    put16(&mut entry, 6, low16(low32(extent.block >> 32)));
    put32(&mut entry, 8, low32(extent.block));
    entry
}

/// Fills a node with its header and its entries. `level` is the number of levels below it.
pub(in crate::ext4) fn fill(node: &mut [u8], entries: &[[u8; ENTRY]], level: usize) {
    let room = node.len() / ENTRY - 1;
    for (at, value) in [(0, MAGIC.into()), (2, entries.len()), (4, room), (6, level)] {
        put16(node, at, small(value));
    }
    for (at, entry) in (ENTRY..).step_by(ENTRY).zip(entries) {
        put(node, at, *entry);
    }
}

/// Answer of a node about a block of the file.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ext4) enum ExtentLookup {
    /// The block is stored in this block of the image, and this many blocks from it on are
    /// consecutive.
    Data(u64, u32),
    /// The block is in a hole, which has at least this many blocks from this block on.
    Hole(u32),
    /// The child node in this block of the image has the answer. It covers blocks of the
    /// file below the second number.
    Child(u64, u32),
}

/// Looks up block `at` of the file in a node. The node must be `depth` levels above the
/// leaves; `None` accepts any depth, for the root. Returns the answer and the node's depth.
///
/// # Errors
/// The node is damaged, or has another depth.
pub(in crate::ext4) fn look(
    node: &[u8],
    at: u32,
    depth: Option<u16>,
) -> Result<(ExtentLookup, u16)> {
    let (count, own_depth) = (get16(node, 2), get16(node, 6));
    let is_node = get16(node, 0) == MAGIC
        && usize::from(count) < node.len() / ENTRY
        && own_depth <= DEPTH_MAX
        && depth.is_none_or(|depth| depth == own_depth);
    let entries = node.get(ENTRY..).unwrap_or_default().chunks_exact(ENTRY);
    let entries = is_node.then(|| entries.take(count.into()));
    let entries = entries.context("a node of the extent tree is damaged: run e2fsck")?;
    let mut before = None;
    // First block after the entry. The last entry reaches up to the largest block number.
    let mut next = u32::MAX;
    for entry in entries {
        if get32(entry, 0) > at {
            next = get32(entry, 0);
            break;
        }
        before = Some(entry);
    }
    let Some(entry) = before else { return Ok((ExtentLookup::Hole(next - at), own_depth)) };
    if own_depth > 0 {
        let child = u64::from(get32(entry, 4)) | u64::from(get16(entry, 8)) << 32;
        return Ok((ExtentLookup::Child(child, next), own_depth));
    }
    let first = get32(entry, 0);
    let block = u64::from(get32(entry, 8)) | u64::from(get16(entry, 6)) << 32;
    let stored = get16(entry, 4);
    let is_written = stored <= LENGTH_MAX;
    let length = u32::from(if is_written { stored } else { stored - LENGTH_MAX });
    let found = match (at - first).checked_sub(length) {
        Some(_) => ExtentLookup::Hole((next - at).max(1)),
        None if is_written => {
            ExtentLookup::Data(block + u64::from(at - first), length - (at - first))
        }
        None => ExtentLookup::Hole(length - (at - first)),
    };
    Ok((found, own_depth))
}
