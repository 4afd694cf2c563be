//! What is known of a tree before its contents are read, and refused where the
//! format has no room for it.

use std::collections::HashMap;

use anyhow::{Context, Result};
use files::notes::Notes;

use super::compressor::Packer;
use super::layout::NONE;
use super::xattrs;
use crate::disk::device;
use crate::tree::{Id, Kind, Node, Tree, show};

const TIME: &str = "a squashfs image has times from 1970 to 2106, others are moved";

const XATTRS: &str =
    "a squashfs image has attributes of user, trusted and security, others (ACLs) are lost";

/// Owners, attributes, and what was checked.
pub(super) struct Plan<'t> {
    /// Owners and groups in the order of their numbers.
    pub ids: Vec<u32>,
    numbers: HashMap<u32, u16>,
    pub xattrs: xattrs::Table<'t>,
    /// Of the nodes that have attributes.
    sets: HashMap<Id, u32>,
}

impl<'t> Plan<'t> {
    /// # Errors
    /// Metadata that squashfs cannot hold, with the path.
    pub(super) fn new(tree: &'t Tree, packer: Packer, notes: &mut Notes) -> Result<Self> {
        let xattrs = xattrs::Table::new(packer);
        let mut plan =
            Self { ids: Vec::new(), numbers: HashMap::new(), xattrs, sets: HashMap::new() };
        tree.walk(&mut |path, id| {
            let node = tree.node(id);
            if u32::try_from(node.meta.mtime).is_err() {
                notes.add(TIME, path);
            }
            if !node.meta.xattrs.keys().all(|name| xattrs::is_kept(name)) {
                notes.add(XATTRS, path);
            }
            plan.add(id, node).with_context(|| show(path))
        })?;
        Ok(plan)
    }

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

    /// The number of an owner or a group.
    pub(super) fn owner(&self, owner: u32) -> u16 {
        self.numbers.get(&owner).copied().unwrap_or_default()
    }

    /// The number of a set of attributes.
    pub(super) fn set(&self, id: Id) -> u32 {
        self.sets.get(&id).copied().unwrap_or(NONE)
    }
}
