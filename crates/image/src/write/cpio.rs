//! Writing a [`Tree`] as an initramfs: one newc segment.
//!
//! Format: [`archive::newc`], which writes members with the crate `cpio`. Files with several
//! names share an inode number, and only the last name has the contents, as the kernel and
//! cpio(1) expect. Inode numbers count the files in the order in which they are written, so
//! they do not depend on the order of the source. A symbolic link with several names is
//! written as several links, because the kernel does not support hard links to links.

use std::collections::HashMap;
use std::io::Write;

use anyhow::{Context, Result, ensure};
use archive::newc::{Header, MemberWriter, TRAILER, write_member, write_trailer};
use files::notes::Notes;

use super::copier::{Copier, copying};
use crate::tree::{Id, Kind, Meta, Node, Tree, mode, show};

const XATTRS: &str = "a cpio archive has no extended attributes, they are lost";
const TIME: &str = "a cpio archive has times from 1970 to 2106, others are moved";

/// Writes `tree` to `out`.
///
/// # Errors
/// Before anything is written: a file of 4 GiB or more, since sizes in newc have 32 bits; a
/// file called `TRAILER!!!`, the name that ends an archive. Then: contents that cannot be
/// read; errors of writing to `out`.
pub fn write(tree: &Tree, out: &mut dyn Write, notes: &mut Notes) -> Result<()> {
    check(tree)?;
    copying(tree, |copier| {
        let mut writer = CpioWriter { tree, out, notes, copier, inodes: 0, linked: HashMap::new() };
        tree.walk(&mut |path, id| {
            let path = if path.is_empty() { b"." } else { path };
            writer.member(path, id).with_context(|| show(path))
        })
    })?;
    Ok(write_trailer(out)?)
}

fn check(tree: &Tree) -> Result<()> {
    tree.walk(&mut |path, id| {
        ensure!(
            path != TRAILER,
            "/{}: a cpio archive ends at a member of this name: rename it, or choose another \
             format",
            show(path)
        );
        if let Kind::File(content) = &tree.node(id).kind {
            let size = content.size();
            ensure!(
                u32::try_from(size).is_ok(),
                "{}: a file of {size} bytes; in a cpio archive each is below 4 GiB: choose another \
                 format",
                show(path)
            );
        }
        Ok(())
    })
}

struct CpioWriter<'a> {
    tree: &'a Tree,
    out: &'a mut dyn Write,
    notes: &'a mut Notes,
    copier: &'a mut Copier,
    /// Number of inode numbers used so far.
    inodes: u32,
    /// Files with several names, of which at least one was written.
    linked: HashMap<Id, Linked>,
}

/// A file with several names.
#[derive(Clone, Copy)]
struct Linked {
    ino: u32,
    /// Number of names that are not written yet.
    left: u32,
}

impl CpioWriter<'_> {
    fn member(&mut self, path: &[u8], id: Id) -> Result<()> {
        let node = self.tree.node(id);
        let Linked { ino, left } = self.take_name(id, node);
        let header = self.header(path, ino, node)?;
        match &node.kind {
            Kind::File(content) if left == 0 => {
                let header = Header { size: u32::try_from(content.size())?, ..header };
                let mut out = MemberWriter::new(self.out, &header, path);
                self.copier.copy(path, node, &mut out)?;
                Ok(out.finish()?)
            }
            Kind::Symlink(target) => {
                let size = u32::try_from(target.len())?;
                write_member(self.out, &Header { size, nlink: 1, ..header }, path, target)
            }
            _ => write_member(self.out, &header, path, b""),
        }
    }

    /// Counts one name of node `id` as written. Returns its inode number and the number of
    /// names that are left.
    fn take_name(&mut self, id: Id, node: &Node) -> Linked {
        let inodes = &mut self.inodes;
        let mut new = || {
            *inodes += 1;
            Linked { ino: *inodes, left: node.names }
        };
        if node.names == 1 {
            return Linked { left: 0, ..new() };
        }
        let linked = self.linked.entry(id).or_insert_with(new);
        linked.left -= 1;
        *linked
    }

    /// The header of a node, for a member without contents.
    fn header(&mut self, path: &[u8], ino: u32, node: &Node) -> Result<Header> {
        let Meta { uid, gid, mtime, ref xattrs, .. } = node.meta;
        if !xattrs.is_empty() {
            self.notes.add(XATTRS, path);
        }
        let bounded = mtime.clamp(0, u32::MAX.into());
        if bounded != mtime {
            self.notes.add(TIME, path);
        }
        let (rdev_major, rdev_minor) = match node.kind {
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => (major, minor),
            _ => (0, 0),
        };
        Ok(Header {
            ino,
            mode: mode(node),
            uid,
            gid,
            nlink: self.link_count(node),
            mtime: u32::try_from(bounded)?,
            rdev_major,
            rdev_minor,
            ..Header::default()
        })
    }

    /// Number of links. A directory has two links (its name and `.`), and one for the `..`
    /// of each directory in it.
    fn link_count(&self, node: &Node) -> u32 {
        let Kind::Directory(children) = &node.kind else { return node.names };
        let directories = children.values().filter(|&&id| self.tree.children(id).is_some());
        u32::try_from(directories.count()).unwrap_or(u32::MAX - 2) + 2
    }
}
