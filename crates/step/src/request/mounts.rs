//! What a step sees besides its layers: binds, caches, temporary file systems, secrets.
//!
//! All paths `path` are absolute paths of the image. Links in them are followed inside the image.
//! A mount point that the image lacks is made while the step runs, and is not part of its layer.
//!
//! A path comes before those below it: a secret may lie in a cache, a cache in a bind. Of mounts
//! at paths of the same depth, binds come first, then caches, temporary file systems and secrets,
//! each kind in the order of the request. Of two mounts at one path, the later one is seen.

use std::fmt;

use proto::access::Access;

/// Highest mode of a cache or secret: permissions, and the bits setuid, setgid and sticky
/// (inode(7)).
pub const MODE_MAX: u16 = 0o7777;

/// What a step may do with a bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindAccess {
    /// The step may only read it.
    ReadOnly,
    /// What the step writes changes the source.
    ReadWrite,
    /// The step may write, and what it writes is dropped at its end.
    Scratch,
}

/// A file or directory of the machine that is mounted in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// What the step may do with it.
    pub access: BindAccess,
    /// Path in the machine. Below [`mount_point()`](super::mount_point), links are followed inside
    /// that image.
    pub source: Vec<u8>,
    /// Path in the image.
    pub path: Vec<u8>,
}

/// A directory that is kept between builds. It may be mounted at several paths of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Disk with an EROFS image of what the cache had before; `None` if the cache is new.
    pub device: Option<String>,
    /// Number of the cache, which names its directory on the scratch disk.
    pub number: u32,
    /// Whether the step may write to it.
    pub access: Access,
    /// Mode of the cache's directory if the cache is new, at most [`MODE_MAX`].
    pub mode: u16,
    /// Its user if the cache is new.
    pub uid: u32,
    /// Its group if the cache is new.
    pub gid: u32,
    /// Path in the image.
    pub path: Vec<u8>,
}

/// An empty file system in memory, which everybody may write to (mode 1777). It ends with the
/// step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Most bytes in it, at least 1; `None` is the kernel's default, half of the memory (tmpfs(5)).
    pub size: Option<u64>,
    /// Path in the image.
    pub path: Vec<u8>,
}

/// A file that exists only while the step runs, and that the step cannot change.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Path in the image.
    pub path: Vec<u8>,
    /// Mode of the file, at most [`MODE_MAX`].
    pub mode: u16,
    /// User of the file.
    pub uid: u32,
    /// Group of the file.
    pub gid: u32,
    /// Contents of the file: any bytes.
    pub bytes: Vec<u8>,
}

/// Without the bytes, so that no log has them.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, mode, uid, gid, bytes: _ } = self;
        let mut shown = f.debug_struct("Secret");
        shown.field("path", &proto::text::show(path).to_string());
        shown.field("mode", &format_args!("{mode:o}"));
        shown.field("uid", uid).field("gid", gid).finish_non_exhaustive()
    }
}
