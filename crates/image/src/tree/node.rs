//! One node of a tree: what kind of file it is, and its metadata.
//!
//! Interface: `st_mode` of stat(2), as inode(7) describes it.

use std::collections::BTreeMap;

use super::content::Content;
use super::xattrs::Xattrs;

/// Bytes of the longest name (`NAME_MAX`, `include/uapi/linux/limits.h`).
pub const NAME_MAX: usize = 255;

/// Most nanoseconds of a time (`tv_nsec` of timespec(3type)).
pub const NANOSECONDS_MAX: u32 = 999_999_999;

/// The children of a directory, by name.
pub type Children = BTreeMap<Box<[u8]>, Id>;

/// Number of a node in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub(super) u32);

impl Id {
    /// Insertion order, starting at 0 for the root. It depends on the source, so never
    /// write it to an image. No other node of the tree has this number.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }
}

/// Metadata that every node has, whatever its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permission, set-id and sticky bits: the lower 12 bits of `st_mode`.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// Nanoseconds to add to the modification time, at most [`NANOSECONDS_MAX`]. EROFS, ext4,
    /// tar and directories keep them; newc and squashfs have whole seconds.
    pub nanoseconds: u32,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// Kind of a node, with the data that only this kind has.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A directory and its children.
    Directory(Children),
    /// A regular file and its contents.
    File(Content),
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// The name of a socket.
    Socket,
}

/// One node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Owner, permissions, time, attributes.
    pub meta: Meta,
    /// Kind and its data.
    pub kind: Kind,
    /// Number of names (hard links). It is 1 for a directory, and 0 for a node that was
    /// removed.
    pub names: u32,
}

/// An empty directory.
#[must_use]
pub fn directory() -> Kind {
    Kind::Directory(Children::new())
}

/// `st_mode` of a node (inode(7)): file type and permissions.
#[must_use]
pub fn mode(node: &Node) -> u32 {
    let kind = match &node.kind {
        Kind::Directory(_) => 0o040_000,
        Kind::File(_) => 0o100_000,
        Kind::Symlink(_) => 0o120_000,
        Kind::CharDevice(..) => 0o020_000,
        Kind::BlockDevice(..) => 0o060_000,
        Kind::Fifo => 0o010_000,
        Kind::Socket => 0o140_000,
    };
    kind | u32::from(node.meta.permissions)
}

/// The kind of a node with this `st_mode` and these device numbers. A directory is empty.
/// Returns `None` for regular files and links, whose contents `st_mode` does not tell, and
/// for unknown types.
#[must_use]
pub fn kind_of(mode: u32, (major, minor): (u32, u32)) -> Option<Kind> {
    Some(match mode >> 12 {
        0o01 => Kind::Fifo,
        0o02 => Kind::CharDevice(major, minor),
        0o04 => Kind::Directory(Children::new()),
        0o06 => Kind::BlockDevice(major, minor),
        0o14 => Kind::Socket,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_tells_the_kind() {
        let node = |kind| Node { meta: Meta::default(), kind, names: 1 };
        let plain = [Kind::Fifo, directory(), Kind::Socket];
        let devices = [Kind::CharDevice(1, 2), Kind::BlockDevice(1, 2)];
        for kind in plain.into_iter().chain(devices) {
            let found = kind_of(mode(&node(kind.clone())) | 0o7777, (1, 2));
            assert_eq!(format!("{found:?}"), format!("{:?}", Some(kind)));
        }
        for mode in
            [mode(&node(Kind::File(Content::Bytes([][..].into())))), 0o120_777, 0, 0o170_000]
        {
            assert!(kind_of(mode, (1, 2)).is_none(), "{mode:o}");
        }
    }
}
