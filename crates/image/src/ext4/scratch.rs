//! Scratch disks: an empty ext4 for one machine, which writes it while we read it.
//!
//! The disk has no journal: if the machine ends badly, the disk is thrown away. So the reader
//! may read it as soon as the guest has called syncfs(2), without replaying anything.

use std::fs::File;

use anyhow::Result;

use super::options::{Ext4Journal, Ext4Options, Ext4Size, Ext4Uuid, label};
use super::write;
use crate::progress::Progress;
use crate::tree::{Meta, Tree};

/// UUID of every scratch disk, and start of the checksums of its metadata. No two of them are
/// mounted by their UUID.
const UUID: [u8; 16] = *b"virtinit-scratch";

/// Permissions of the root directory: only root of the guest looks into it.
const PERMISSIONS: u16 = 0o700;

/// Writes an empty ext4 of `size` bytes, without a journal, into the regular file `out`. The
/// old contents of `out` are lost; the file is sparse. Equal sizes give equal bytes.
///
/// # Errors
/// The size is too small or too large for ext4, or the file cannot be written.
pub fn scratch(size: u64, out: &File) -> Result<()> {
    let tree = Tree::new(Meta { permissions: PERMISSIONS, ..Meta::default() });
    let options = Ext4Options {
        size: Ext4Size::Exact(size),
        uuid: Ext4Uuid::Given(UUID),
        label: label("scratch")?,
        time: 0,
        journal: Ext4Journal::Absent,
    };
    write(&tree, &options, out, &Progress::hidden())
}
