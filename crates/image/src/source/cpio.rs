//! Reading an initramfs as a [`Tree`], by the rules by which the kernel unpacks it
//! (`init/initramfs.c`): all segments into the same tree, members in their order.
//!
//! The kernel leaves out a member whose directory does not exist. If a file has the name of
//! an earlier directory that is not empty, the directory stays. The kernel reports neither;
//! this reader adds a note. One thing differs: the kernel makes links with an empty target;
//! this reader leaves them out, because no other file system can store them. Two
//! directories exist before the first member (`usr/default_cpio_list`).

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use anyhow::{Result, ensure};
use archive::newc::{self, Header, Member, S_IFDIR, S_IFMT, Visitor, until_nul};
use files::notes::Notes;

use super::bytes_at;
use crate::tree::{
    Content, Id, Kind, Meta, NAME_MAX, PATH_MAX, Tree, components, directory, kind_of,
};

/// Bytes of the longest target of a link, its NUL included (`PATH_MAX`,
/// `include/uapi/linux/limits.h`). The kernel skips a link with a longer target.
const TARGET_MAX: u32 = 4096;

/// Directories of the kernel's built-in initramfs, with their permissions.
const BUILT_IN: &[(&[u8], u16)] = &[(b"dev", 0o755), (b"root", 0o700)];

const NO_NAME: &str = "a member without a name, or with one that is too long, is left out";
const NO_PARENT: &str = "a member whose directory does not exist is left out, as a kernel does";
const DIRECTORY_STAYS: &str =
    "a member whose name belongs to a directory is left out, as a kernel does";
const NO_TARGET: &str = "a link with an empty target, or one that is too long, is left out";
const NO_TYPE: &str = "a member of unknown type, or a special file with contents, is left out";
const LOST: &str = "a file whose other name is missing is left out, as a kernel does";

/// Reads all members of `archive`. Its compressed segments may unpack to at most `limit`
/// bytes together.
///
/// # Errors
/// Those of [`newc::walk`]; a path that becomes too long when links above it are followed.
pub fn read(archive: &Arc<File>, limit: u64, notes: &mut Notes) -> Result<Tree> {
    let tree = Tree::new(Meta { permissions: 0o755, ..Meta::default() });
    let mut unpacker = InitramfsReader { tree, links: HashMap::new(), notes };
    newc::walk(archive, limit, &mut unpacker)?;
    Ok(unpacker.tree)
}

struct InitramfsReader<'a> {
    tree: Tree,
    /// First name of each file that may have several names. The key has the fields that the
    /// kernel compares (`find_link`): device, inode, type.
    links: HashMap<(u32, u32, u32, u32), Box<[u8]>>,
    notes: &'a mut Notes,
}

/// Result of looking up the path of a member.
enum Target<'a> {
    /// A name in a directory; a node with this name may exist or not.
    Name(Id, &'a [u8]),
    /// A directory that exists and cannot be replaced, because the path ends in `/`, `.` or
    /// `..`.
    Directory(Id),
    /// A directory of the path does not exist.
    Missing,
}

impl Visitor for InitramfsReader<'_> {
    fn member(&mut self, member: &Member<'_>) -> Result<()> {
        match self.unpack(member)? {
            None => {}
            Some(note) if member.name.is_empty() => {
                self.notes.add(note, format!("offset {}", member.data).as_bytes());
            }
            Some(note) => self.notes.add(note, member.name),
        }
        Ok(())
    }

    fn end(&mut self) {
        self.links.clear();
    }
}

impl InitramfsReader<'_> {
    /// Unpacks a member; returns a note if the member is left out.
    fn unpack(&mut self, member: &Member<'_>) -> Result<Option<&'static str>> {
        let header = &member.header;
        let is_too_long = |name: &[u8]| name.len() > NAME_MAX;
        if member.name.is_empty() || components(member.name).any(is_too_long) {
            return Ok(Some(NO_NAME));
        }
        let is_directory = header.mode & S_IFMT == S_IFDIR;
        if member.name.ends_with(b"/") && !is_directory {
            return Ok(Some(DIRECTORY_STAYS));
        }
        if header.is_symlink() {
            return self.symlink(member);
        }
        if !header.is_file() && header.size > 0 {
            return Ok(Some(NO_TYPE));
        }
        let target = self.target(member.name)?;
        match (target, is_directory) {
            (Target::Missing, _) => Ok(Some(NO_PARENT)),
            (Target::Directory(id), true) => {
                self.tree.node_mut(id).meta = meta(header);
                Ok(None)
            }
            (Target::Directory(_), false) => Ok(Some(DIRECTORY_STAYS)),
            (Target::Name(parent, name), true) => {
                self.tree.add(parent, name, meta(header), directory())?;
                Ok(None)
            }
            (Target::Name(parent, name), false) => self.file(member, parent, name),
        }
    }

    fn symlink(&mut self, member: &Member<'_>) -> Result<Option<&'static str>> {
        if member.header.size > TARGET_MAX {
            return Ok(Some(NO_TARGET));
        }
        let (offset, size) = (member.data, u64::from(member.header.size));
        let target = until_nul(bytes_at(member.archive, offset, size, TARGET_MAX.into())?);
        if target.is_empty() || target.len() > PATH_MAX {
            return Ok(Some(NO_TARGET));
        }
        Ok(match self.target(member.name)? {
            Target::Missing => Some(NO_PARENT),
            Target::Directory(_) => Some(DIRECTORY_STAYS),
            Target::Name(parent, name) if self.keeps(parent, name) => Some(DIRECTORY_STAYS),
            Target::Name(parent, name) => {
                self.tree.add(parent, name, meta(&member.header), Kind::Symlink(target.into()))?;
                None
            }
        })
    }

    /// Adds a regular file or a special file.
    fn file(
        &mut self,
        member: &Member<'_>,
        parent: Id,
        name: &[u8],
    ) -> Result<Option<&'static str>> {
        let header = &member.header;
        if self.keeps(parent, name) {
            return Ok(Some(DIRECTORY_STAYS));
        }
        let kind = match header.is_file() {
            true => Kind::File(Content::Part {
                archive: Arc::clone(member.archive),
                offset: member.data,
                size: header.size.into(),
            }),
            false => match kind_of(header.mode, (header.rdev_major, header.rdev_minor)) {
                Some(kind) => kind,
                None => return Ok(Some(NO_TYPE)),
            },
        };
        if let Some(old) = self.other_name(header, member.name) {
            return self.link(header, &old, parent, name, kind);
        }
        match self.tree.child(parent, name) {
            // A file of the same type is changed, not replaced, so the change shows under
            // all of its names. A device keeps its numbers.
            Some(id) if is_same_type(&self.tree.node(id).kind, &kind) => {
                let node = self.tree.node_mut(id);
                node.meta = meta(header);
                if matches!(kind, Kind::File(_)) {
                    node.kind = kind;
                }
            }
            _ => drop(self.tree.add(parent, name, meta(header), kind)?),
        }
        Ok(None)
    }

    /// The first name of a file with several names (`maybe_link`). If `name` is the first
    /// name, remembers it and returns `None`.
    fn other_name(&mut self, header: &Header, name: &[u8]) -> Option<Box<[u8]>> {
        if header.nlink < 2 {
            return None;
        }
        let Header { dev_major, dev_minor, ino, mode, .. } = *header;
        let key = (dev_major, dev_minor, ino, mode & S_IFMT);
        let known = self.links.get(&key).cloned();
        if known.is_none() {
            self.links.insert(key, name.into());
        }
        known
    }

    /// Adds a hard link to the file with the path `old`. A regular file takes the metadata of
    /// the member, and its contents if the member has any.
    fn link(
        &mut self,
        header: &Header,
        old: &[u8],
        parent: Id,
        name: &[u8],
        kind: Kind,
    ) -> Result<Option<&'static str>> {
        // Like the kernel, first remove the file that has the new name. It may be the file
        // `old` itself.
        self.tree.remove(parent, name);
        let found = match self.target(old)? {
            Target::Name(parent, name) => self.tree.child(parent, name),
            _ => None,
        };
        let Some(id) = found.filter(|&id| self.tree.children(id).is_none()) else {
            return Ok(Some(LOST));
        };
        self.tree.link(parent, name, id)?;
        let node = self.tree.node_mut(id);
        if matches!((&node.kind, &kind), (Kind::File(_), Kind::File(_))) {
            node.meta = meta(header);
            if header.size > 0 {
                node.kind = kind;
            }
        }
        Ok(None)
    }

    /// Whether `name` belongs to a directory that is not empty, which cannot be replaced.
    fn keeps(&self, parent: Id, name: &[u8]) -> bool {
        self.tree.child(parent, name).is_some_and(|id| self.tree.is_filled(id))
    }

    /// Looks `path` up by the rules of path_resolution(7). Only the last name may be missing.
    fn target<'p>(&mut self, path: &'p [u8]) -> Result<Target<'p>> {
        let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
        let (trimmed, has_slash) = (&path[..end], end < path.len());
        let begin = trimmed.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let (above, name) = trimmed.split_at(begin);
        if matches!(name, b"" | b"." | b"..") {
            let found = self.tree.resolve(trimmed).ok();
            let found = found.filter(|&id| self.tree.children(id).is_some());
            return Ok(found.map_or(Target::Missing, Target::Directory));
        }
        let Some((parent, length)) = self.parent(above)? else { return Ok(Target::Missing) };
        ensure!(length + name.len() < PATH_MAX, "the path is too long, links above it followed");
        // If a slash follows the last name and it is a link, the kernel follows the link.
        let other = self.tree.child(parent, name).filter(|&id| self.tree.children(id).is_none());
        Ok(match (has_slash, other) {
            (true, Some(_)) => match self.tree.find_directory(trimmed) {
                Some((id, _)) => Target::Directory(id),
                None => Target::Missing,
            },
            _ => Target::Name(parent, name),
        })
    }

    /// The directory `path`, and the length of its own path. Adds a directory of the kernel's
    /// built-in initramfs when it is needed for the first time.
    fn parent(&mut self, path: &[u8]) -> Result<Option<(Id, usize)>> {
        if let Some(found) = self.tree.find_directory(path) {
            return Ok(Some(found));
        }
        let first = components(path).next();
        let built_in = BUILT_IN.iter().find(|(name, _)| first == Some(*name));
        let Some((name, permissions)) = built_in else { return Ok(None) };
        if self.tree.child(Tree::ROOT, name).is_some() {
            return Ok(None);
        }
        let meta = Meta { permissions: *permissions, ..Meta::default() };
        self.tree.add(Tree::ROOT, name, meta, directory())?;
        Ok(self.tree.find_directory(path))
    }
}

fn is_same_type(a: &Kind, b: &Kind) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn meta(header: &Header) -> Meta {
    let permissions = u16::try_from(header.mode & 0o7777).unwrap_or_default();
    let Header { uid, gid, mtime, .. } = *header;
    Meta { permissions, uid, gid, mtime: mtime.into(), ..Meta::default() }
}

#[cfg(test)]
mod tests;
