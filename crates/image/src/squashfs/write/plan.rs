//! Plan of an image: owners and attributes, collected before any contents are read.
//!
//! Format: see `layout`. The plan writes nothing. It refuses metadata that squashfs cannot
//! hold, and notes metadata that squashfs loses.

use std::collections::HashMap;

use anyhow::{Context, Result};
use files::notes::Notes;

use super::xattrs::XattrTableWriter;
use crate::disk_parts::device;
use crate::squashfs::compressor::Packer;
use crate::squashfs::layout::units::NONE;
use crate::squashfs::layout::xattrs::is_kept;
use crate::tree::{Id, Kind, Node, Tree, show};

/// Note for a modification time that squashfs cannot hold.
const TIME: &str = "squashfs holds times from 1970 to 2106; any other becomes the nearest of these";

/// Note for attributes that squashfs cannot hold.
const XATTRS: &str =
    "squashfs holds attributes of user, trusted and security; any other (ACLs) is lost";

/// Owners and attributes of a tree that was checked.
pub(super) struct SquashfsPlan<'t> {
    /// Table of owners and groups.
    pub ids: Vec<u32>,
    /// Index of each owner and group in that table.
    numbers: HashMap<u32, u16>,
    /// Table of attributes.
    pub xattrs: XattrTableWriter<'t>,
    /// Number of the set of each node that has attributes.
    sets: HashMap<Id, u32>,
}

impl<'t> SquashfsPlan<'t> {
    /// Checks and plans `tree`.
    ///
    /// # Errors
    /// squashfs cannot hold the metadata of a node; the error names its path.
    pub(super) fn new(tree: &'t Tree, packer: Packer, notes: &mut Notes) -> Result<Self> {
        let xattrs = XattrTableWriter::new(packer);
        let mut plan =
            Self { ids: Vec::new(), numbers: HashMap::new(), xattrs, sets: HashMap::new() };
        tree.walk(&mut |path, id| {
            let node = tree.node(id);
            if u32::try_from(node.meta.mtime).is_err() {
                notes.add(TIME, path);
            }
            if !node.meta.xattrs.keys().all(|name| is_kept(name)) {
                notes.add(XATTRS, path);
            }
            plan.add(id, node).with_context(|| show(path))
        })?;
        Ok(plan)
    }

    /// Adds owner, group and attributes of a node.
    fn add(&mut self, id: Id, node: &'t Node) -> Result<()> {
        for owner in [node.meta.uid, node.meta.gid] {
            if !self.numbers.contains_key(&owner) {
                let number = u16::try_from(self.ids.len()).ok().filter(|&number| number < u16::MAX);
                let number = number.with_context(|| {
                    format!("owner {owner}: squashfs holds 65535 owners and groups: choose erofs")
                })?;
                self.ids.push(owner);
                self.numbers.insert(owner, number);
            }
        }
        if let Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) = node.kind {
            device::encode(major, minor)?;
        }
        if let Some(number) = self.xattrs.number(&node.meta.xattrs)? {
            self.sets.insert(id, number);
        }
        Ok(())
    }

    /// Index of an owner or a group in the table.
    pub(super) fn owner(&self, owner: u32) -> u16 {
        self.numbers.get(&owner).copied().unwrap_or_default()
    }

    /// Number of the set of attributes of a node, or [`NONE`].
    pub(super) fn set(&self, id: Id) -> u32 {
        self.sets.get(&id).copied().unwrap_or(NONE)
    }
}
