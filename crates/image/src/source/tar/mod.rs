//! Reading a tar archive as a [`Tree`].
//!
//! | Module | Contents |
//! |---|---|
//! | `members` | the members of an archive as values; `blocks`, `pax`, `pax_xattrs`, `sparse` and `sparse_map` read their parts |
//! | `budget` | what the members may need in memory |
//! | [`layer`] | places the members of a layer of an OCI image |
//!
//! This file places the members of an archive as tar(1) does. If two members have the same
//! path, the last one wins, but a directory that is not empty stays. No member leaves the
//! tree; links above a member are followed within the tree.

mod blocks;
mod budget;
pub mod layer;
mod members;
mod pax;
mod pax_xattrs;
mod sparse;
mod sparse_map;

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use files::notes::Notes;

pub use self::blocks::NO_END;
use self::blocks::Reading;
pub use self::budget::Budget;
use self::members::{Entry, Member, TarMembers};
use crate::tree::{Kind, Meta, Tree, components, show};

const NO_MEMBERS: &str = "nothing but zeros is read as an archive without members";
const DIRECTORY_STAYS: &str =
    "a member whose name belongs to a directory that is not empty is left out, as tar does";

/// Reads all members of `archive`, which must not be compressed.
///
/// # Errors
/// Damage, with its offset; a member whose path is invalid or leads through a file.
pub fn read(archive: &Arc<File>, notes: &mut Notes) -> Result<Tree> {
    let mut tree = Tree::new(Meta { permissions: 0o755, ..Meta::default() });
    let mut budget = Budget::ARCHIVE;
    let mut members = TarMembers::new(archive, Reading::Lenient, &mut budget)?;
    while let Some(Member { at, path, entry }) = members.next(notes)? {
        let placed = place(&mut tree, &path, entry, notes);
        placed.with_context(|| format!("member at offset {at}: {}", show(&path)))?;
    }
    if !members.has_begun() {
        notes.add(NO_MEMBERS, b"offset 0");
    }
    Ok(tree)
}

fn place(tree: &mut Tree, path: &[u8], entry: Entry, notes: &mut Notes) -> Result<()> {
    let replaces = match &entry {
        Entry::Node(_, kind) => !matches!(kind, Kind::Directory(_)),
        Entry::HardLink { .. } => true,
    };
    if replaces && tree.find_member(path).is_some_and(|id| tree.is_filled(id)) {
        notes.add(DIRECTORY_STAYS, path);
        return Ok(());
    }
    put(tree, path, entry)
}

/// Adds a member. It replaces what has its path, but a directory on a directory only replaces
/// the attributes.
fn put(tree: &mut Tree, path: &[u8], entry: Entry) -> Result<()> {
    let (target, data) = match entry {
        Entry::Node(meta, kind) => return tree.put(path, meta, kind).map(drop),
        Entry::HardLink { target, data } => (target, data),
    };
    ensure!(
        components(&target).all(|name| name != b".."),
        "the target of the link is outside of the archive"
    );
    let Some(id) = tree.find_member(&target) else {
        // Without its target, a hard link with data is a file of its own.
        let (meta, data) =
            data.with_context(|| format!("the target of the link, {}, is missing", show(&target)))?;
        return tree.put(path, meta, Kind::File(data)).map(drop);
    };
    tree.put_link(path, id).with_context(|| format!("link to {}", show(&target)))?;
    if let (Kind::File(old), Some((_, data))) = (&mut tree.node_mut(id).kind, data) {
        *old = data;
    }
    Ok(())
}
