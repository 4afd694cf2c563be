//! Reader of fragments, the blocks that hold the ends of several files.
//!
//! Format: see `layout::units`. Unpacked fragments are kept for the next file that has its
//! end in the same one.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::image::SquashfsImage;
use super::table;
use crate::squashfs::layout::fields::Fields;
use crate::squashfs::layout::units::FRAGMENT;

/// Reads and unpacks the fragment `number`.
///
/// # Errors
/// The image has no such fragment, or it is damaged.
pub(super) fn unpack(image: &SquashfsImage, number: u32) -> Result<Arc<Vec<u8>>> {
    let unpack = || {
        let (list, count) = (image.superblock.fragment_table, image.superblock.fragments);
        let record: [u8; FRAGMENT] = table::record(image, list, count, number)?;
        let mut record = &record[..];
        let (at, description) = (record.u64()?, record.u32()?);
        let mut out = vec![0; image.superblock.block_size()];
        let size = image.block(at, description, &mut out)?;
        out.truncate(size);
        anyhow::Ok(out)
    };
    let context = || format!("fragment {number}");
    image.fragments.get(number.into(), || unpack().with_context(context))
}
