//! Protofile, arguments and size for mkfs.xfs(8).
//!
//! Interface: mkfs.xfs(8), option `-p`; `mkfs/proto.c` of xfsprogs. A protofile consists of
//! words between blanks: a word that begins with `:` starts a comment, and `$` ends a
//! directory. Each file is a name, a mode such as `d--755`, a user id, a group id, and what
//! its kind needs: the path of its contents, a device number, or the target of a link.
//!
//! The user id in the protofile is the number of the file, from 1 on. `image::write::xfs_inodes`
//! replaces it in the image, and adds sticky bits and times, which a protofile does not have.

use std::collections::HashMap;
use std::ffi::OsString;

use anyhow::{Context, Result, bail, ensure};
use files::notes::Notes;
use image::tree::{Id, Kind, Node, Tree, mode, show};
use image::write::xfs_inodes::XfsInode;

use super::super::super::options::show_uuid;
use super::{IMAGE, MkfsOptions};

/// Bytes of a block (mkfs.xfs(8), `-b`).
const BLOCK: u64 = 4096;
/// Smallest image that mkfs.xfs makes, in bytes.
const SIZE_MIN: u64 = 300 << 20;
/// Bytes of the log in an image of less than 16 GiB (`XFS_MIN_REALISTIC_LOG_BLOCKS`).
const LOG: u64 = 64 << 20;
/// Bytes for superblocks, free space trees and their reserves.
const OVERHEAD: u64 = 16 << 20;
/// Bytes of an inode by default (mkfs.xfs(8), `-i size`).
const INODE: u64 = 512;
/// Bytes of a directory entry besides its name, at most.
const DIRENT: u64 = 24;
/// Bytes of the longest target of a link (`XFS_SYMLINK_MAXLEN`).
const TARGET_MAX: usize = 1023;
/// Bytes of a target that fits into an inode, in every version.
const TARGET_INLINE: usize = 336;
/// Largest numbers of a device in a protofile (`IRIX_MKDEV` of xfsprogs).
const DEVICE_MAX: (u32, u32) = (0x1ff, 0x3_ffff);

const LINKS: &str = "hard links become copies, because a protofile of mkfs.xfs has none";
const SOCKETS: &str = "sockets are left out, because a protofile of mkfs.xfs has none";
const XATTRS: &str = "extended attributes are left out, because a protofile of mkfs.xfs has them only for files, \
     and from version 6.13 on";

/// Version of mkfs.xfs: two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u32, u32);

/// From this version on, a name may contain spaces (`slashes_are_spaces`).
const SPACES: Version = Version(6, 2);
/// From this version on, long targets of links are written as XFS reads them.
const LONG_TARGETS: Version = Version(6, 10);
/// From this version on, files may have 2 GiB and more, and extended attributes.
const LARGE_FILES: Version = Version(6, 13);

impl Version {
    /// Parses what `mkfs.xfs -V` prints, such as `mkfs.xfs version 6.1.0`.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut numbers = text.split_whitespace().next_back()?.split('.');
        let mut next = || {
            let digits = numbers.next()?;
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            digits.get(..end)?.parse().ok()
        };
        Some(Self(next()?, next()?))
    }

    /// Whether contents keep their extended attributes.
    pub(super) fn keeps_xattrs(self) -> bool {
        self >= LARGE_FILES
    }
}

/// What is handed to mkfs.xfs.
#[derive(Debug)]
pub(super) struct Plan {
    /// Text of the protofile. Paths of contents are relative: `files/` and the number of the
    /// first name's file.
    pub(super) protofile: Vec<u8>,
    /// Names of the contents, and their nodes.
    pub(super) contents: Vec<(String, Id)>,
    /// Metadata of each file of the protofile, in its order.
    pub(super) inodes: Vec<XfsInode>,
    /// Whether some name contains a space.
    has_spaces: bool,
    /// Bytes that the files need.
    used: u64,
    /// Bytes of the largest file.
    largest: u64,
}

/// Plans an image of `tree`. What a protofile cannot say is noted.
///
/// # Errors
/// A name, a link, a device or a file that this version of mkfs.xfs cannot take.
pub(super) fn plan(tree: &Tree, version: Version, notes: &mut Notes) -> Result<Plan> {
    let plan = Plan {
        protofile: b"/dev/null\n0 0\n".to_vec(),
        contents: Vec::new(),
        inodes: Vec::new(),
        has_spaces: false,
        used: 0,
        largest: 0,
    };
    let mut planner = Planner { tree, version, notes, plan, names: HashMap::new() };
    planner.directory(Tree::ROOT, &mut Vec::new())?;
    Ok(planner.plan)
}

struct Planner<'a> {
    tree: &'a Tree,
    version: Version,
    notes: &'a mut Notes,
    plan: Plan,
    /// Names of contents that have several names in the tree.
    names: HashMap<Id, String>,
}

impl Planner<'_> {
    /// Adds a directory, whose name is in the protofile already.
    fn directory(&mut self, id: Id, path: &mut Vec<u8>) -> Result<()> {
        let tree = self.tree;
        self.head(b'd', tree.node(id), path)?;
        self.plan.protofile.push(b'\n');
        let mut entries = 0;
        for (name, &child) in tree.children(id).into_iter().flatten() {
            let length = path.len();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            entries += name.len() as u64 + DIRENT;
            self.child(name, child, path).with_context(|| show(path))?;
            path.truncate(length);
        }
        self.plan.protofile.extend_from_slice(b"$\n");
        // Entries, and their hashes in blocks of their own.
        self.plan.used += entries.div_ceil(BLOCK) * BLOCK * 2;
        Ok(())
    }

    fn child(&mut self, name: &[u8], id: Id, path: &mut Vec<u8>) -> Result<()> {
        let node = self.tree.node(id);
        if matches!(node.kind, Kind::Socket) {
            self.notes.add(SOCKETS, path);
            return Ok(());
        }
        self.name(name)?;
        let rest = match &node.kind {
            Kind::Directory(_) => return self.directory(id, path),
            Kind::File(content) => {
                self.head(b'-', node, path)?;
                self.file(id, node, content.size(), path)?.into_bytes()
            }
            Kind::Symlink(target) => {
                self.head(b'l', node, path)?;
                self.target(target)?;
                target.to_vec()
            }
            &Kind::CharDevice(major, minor) => {
                self.head(b'c', node, path)?;
                device(major, minor)?.into_bytes()
            }
            &Kind::BlockDevice(major, minor) => {
                self.head(b'b', node, path)?;
                device(major, minor)?.into_bytes()
            }
            Kind::Fifo | Kind::Socket => {
                self.head(b'p', node, path)?;
                Vec::new()
            }
        };
        self.plan.protofile.push(b' ');
        self.plan.protofile.extend_from_slice(&rest);
        self.plan.protofile.push(b'\n');
        Ok(())
    }

    /// Adds the name of a file, which ends at the next word.
    fn name(&mut self, name: &[u8]) -> Result<()> {
        let is_control = |byte: &u8| b"\t\n".contains(byte);
        let is_taken = name.starts_with(b":") || name == b"$" || name.iter().any(is_control);
        ensure!(!is_taken, "a protofile of mkfs.xfs cannot have this name");
        if name.contains(&b' ') {
            let Version(major, minor) = SPACES;
            ensure!(
                self.version >= SPACES,
                "mkfs.xfs takes names with spaces from version {major}.{minor} on"
            );
            self.plan.has_spaces = true;
        }
        // The option for names with spaces writes them as slashes.
        let words = name.iter().map(|&byte| if byte == b' ' { b'/' } else { byte });
        self.plan.protofile.extend(words);
        self.plan.protofile.push(b' ');
        Ok(())
    }

    /// Adds mode and number of a file, and notes its metadata.
    fn head(&mut self, letter: u8, node: &Node, path: &[u8]) -> Result<()> {
        let is_file = matches!(node.kind, Kind::File(_));
        let keeps_xattrs = is_file && self.version.keeps_xattrs();
        if !node.meta.xattrs.is_empty() && !keeps_xattrs {
            self.notes.add(XATTRS, path);
        }
        let permissions = node.meta.permissions;
        let [set_uid, set_gid] = [(0o4000, b'u'), (0o2000, b'g')]
            .map(|(bit, letter)| if permissions & bit == 0 { b'-' } else { letter });
        self.plan.inodes.push(XfsInode {
            mode: u16::try_from(mode(node)).context("its mode has more than 16 bits")?,
            uid: node.meta.uid,
            gid: node.meta.gid,
            mtime: node.meta.mtime,
            nanoseconds: node.meta.nanoseconds,
        });
        self.plan.used += INODE;
        let number = self.plan.inodes.len();
        let rest = format!("{:03o} {number} {}", permissions & 0o777, node.meta.gid);
        self.plan.protofile.extend_from_slice(&[letter, set_uid, set_gid]);
        self.plan.protofile.extend_from_slice(rest.as_bytes());
        Ok(())
    }

    /// Counts a regular file, and returns the path of its contents.
    fn file(&mut self, id: Id, node: &Node, size: u64, path: &[u8]) -> Result<String> {
        let Version(major, minor) = LARGE_FILES;
        ensure!(
            size <= i32::MAX.unsigned_abs().into() || self.version >= LARGE_FILES,
            "mkfs.xfs takes files of 2 GiB and more from version {major}.{minor} on"
        );
        let stored = size.div_ceil(BLOCK) * BLOCK;
        self.plan.used = self.plan.used.saturating_add(stored);
        self.plan.largest = self.plan.largest.max(stored);
        if let Some(name) = self.names.get(&id) {
            self.notes.add(LINKS, path);
            return Ok(format!("files/{name}"));
        }
        let name = self.plan.contents.len().to_string();
        if node.names > 1 {
            self.names.insert(id, name.clone());
        }
        let found = format!("files/{name}");
        self.plan.contents.push((name, id));
        Ok(found)
    }

    /// Checks and counts the target of a link.
    fn target(&mut self, target: &[u8]) -> Result<()> {
        let is_blank = |byte: &u8| b" \t\n".contains(byte);
        ensure!(
            !target.starts_with(b":") && !target.iter().any(is_blank),
            "a protofile of mkfs.xfs cannot have a link with this target"
        );
        ensure!(target.len() <= TARGET_MAX, "XFS has no targets of more than {TARGET_MAX} bytes");
        let Version(major, minor) = LONG_TARGETS;
        ensure!(
            target.len() <= TARGET_INLINE || self.version >= LONG_TARGETS,
            "mkfs.xfs takes targets of more than {TARGET_INLINE} bytes from version \
             {major}.{minor} on"
        );
        self.plan.used += BLOCK;
        Ok(())
    }
}

/// The numbers of a device as two words.
fn device(major: u32, minor: u32) -> Result<String> {
    if major > DEVICE_MAX.0 || minor > DEVICE_MAX.1 {
        bail!("a protofile of mkfs.xfs cannot have the device {major}:{minor}");
    }
    Ok(format!("{major} {minor}"))
}

/// Size of an image in bytes, and number of its allocation groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) size: u64,
    groups: u64,
}

impl Plan {
    /// Geometry of the image. mkfs.xfs stores each file in one piece, which lies in one group. So
    /// each group may end with free space that is smaller than the largest file.
    pub(super) fn geometry(&self, options: &MkfsOptions) -> Geometry {
        /// Usual number of groups (mkfs.xfs(8)).
        const USUAL: u64 = 4;
        /// Fewest groups with which xfs_repair(8) checks an image.
        const FEWEST: u64 = 2;
        let needed = options.with_slack(self.used).saturating_add(LOG + OVERHEAD);
        let unused = |groups: u64| self.largest.saturating_mul(groups);
        let groups = if unused(USUAL) <= needed / 8 { USUAL } else { FEWEST };
        let size = needed.saturating_add(unused(groups)).max(SIZE_MIN);
        let size = options.size.unwrap_or(size.div_ceil(1 << 20) << 20);
        Geometry { size, groups }
    }

    /// Arguments of mkfs.xfs. The protofile is the file `protofile` in the working directory.
    pub(super) fn arguments(
        &self,
        options: &MkfsOptions,
        geometry: Geometry,
        uuid: [u8; 16],
    ) -> Vec<OsString> {
        let protofile = match self.has_spaces {
            true => "slashes_are_spaces=1,protofile",
            false => "protofile",
        };
        let groups = format!("agcount={}", geometry.groups);
        let uuid = format!("uuid={}", show_uuid(uuid));
        let mut words: Vec<OsString> =
            ["-q", "-m", &uuid, "-d", &groups, "-p", protofile].map(OsString::from).into();
        if !options.label.is_empty() {
            words.extend(["-L".into(), OsString::from(&options.label)]);
        }
        words.extend(options.arguments.iter().cloned());
        words.push(IMAGE.into());
        words
    }
}

#[cfg(test)]
mod tests;
