//! Directories and files that this program makes, and attributes that it copies.

use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use anyhow::{Result, ensure};

use crate::fault::Describe;

/// Attributes of overlayfs itself, which belong to one layer and are not copied.
const OVERLAY_XATTRS: &[u8] = b"trusted.overlay.";

/// A mount point: what a source can be mounted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// An empty directory.
    Directory,
    /// An empty file.
    File,
}

impl Point {
    /// The mount point for `source`.
    pub(crate) fn of(source: &Path) -> Result<Self> {
        let meta = fs::metadata(source).describe(|| format!("find {}", source.display()))?;
        Ok(if meta.is_dir() { Self::Directory } else { Self::File })
    }
}

/// Makes a directory and those above it.
pub(crate) fn make(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).describe(|| format!("make directory {}", dir.display()))
}

/// Makes an empty directory; an old one is removed with its contents.
pub(crate) fn make_empty(dir: &Path) -> Result<()> {
    remove(dir)?;
    make(dir)
}

/// Removes a directory with its contents, if it exists.
pub(crate) fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.describe(|| format!("remove directory {}", dir.display())),
    }
}

/// Makes the mount point `path` if it is missing, and the directories above it. The directory
/// that holds the first new name keeps its times.
pub(crate) fn make_point(path: &Path, point: Point) -> Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    let describe = || format!("make mount point {}", path.display());
    let above = path.ancestors().skip(1).find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let times = fs::metadata(above).and_then(|meta| {
        Ok(FileTimes::new().set_accessed(meta.accessed()?).set_modified(meta.modified()?))
    });
    let times = times.describe(describe)?;
    let made = match point {
        Point::Directory => fs::create_dir_all(path),
        Point::File => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(parent).and_then(|()| File::create_new(path)).map(drop)
        }
    };
    made.describe(describe)?;
    File::open(above).and_then(|dir| dir.set_times(times)).describe(describe)
}

/// Writes a file that only root can read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, 0o600, bytes)
}

/// Writes a file with these permissions.
pub(crate) fn write(path: &Path, permissions: u32, bytes: &[u8]) -> Result<()> {
    let describe = || format!("write {}", path.display());
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(permissions).open(path);
    opened.and_then(|mut file| file.write_all(bytes)).describe(describe)?;
    fs::set_permissions(path, Permissions::from_mode(permissions)).describe(describe)
}

/// Sets mode and owner of a file or directory.
pub(crate) fn set_attributes(path: &Path, mode: u16, uid: u32, gid: u32) -> Result<()> {
    let describe = || format!("set owner and mode of {}", path.display());
    chown(path, Some(uid), Some(gid)).describe(describe)?;
    // Last: a change of the owner may take bits from the mode (chown(2)).
    fs::set_permissions(path, Permissions::from_mode(mode.into())).describe(describe)
}

/// Copies a regular file with its attributes.
pub(crate) fn copy_file(from: &Path, to: &Path) -> Result<()> {
    // To read a pipe or a device may never end.
    ensure!(from.is_file(), "copy {}: it is no regular file", from.display());
    fs::copy(from, to).describe(|| format!("copy {} to {}", from.display(), to.display()))?;
    copy_attributes(from, to)
}

/// Copies owner, permissions, extended attributes and times of a file or directory.
pub(crate) fn copy_attributes(from: &Path, to: &Path) -> Result<()> {
    let describe = || format!("copy the attributes of {} to {}", from.display(), to.display());
    let meta = fs::metadata(from).describe(describe)?;
    chown(to, Some(meta.uid()), Some(meta.gid())).describe(describe)?;
    fs::set_permissions(to, Permissions::from_mode(meta.mode() & 0o7777)).describe(describe)?;
    for name in xattr::list(from).describe(describe)? {
        if !name.as_bytes().starts_with(OVERLAY_XATTRS) {
            let value = xattr::get(from, &name).describe(describe)?;
            xattr::set(to, &name, &value.unwrap_or_default()).describe(describe)?;
        }
    }
    let modified = meta.modified().describe(describe)?;
    let times = FileTimes::new().set_accessed(modified).set_modified(modified);
    File::open(to).and_then(|copy| copy.set_times(times)).describe(describe)
}
