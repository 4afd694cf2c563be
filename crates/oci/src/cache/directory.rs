//! The directory of a cache: it is made, and it belongs to one user.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use files::private_dir::{self, Writers};

use super::Kind;

/// Permissions of directories.
const DIRECTORY_MODE: u32 = 0o700;

/// Makes the directory of a cache, and proves that we can write to it.
pub(super) fn prepare(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(dir)?;
    for kind in Kind::ALL {
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(dir.join(kind.directory()))?;
    }
    let access = rustix::fs::Access::WRITE_OK;
    rustix::fs::accessat(rustix::fs::CWD, dir, access, rustix::fs::AtFlags::EACCESS)?;
    Ok(())
}

/// Whether the directory can be read, and only this user could write to it.
pub(super) fn is_readable(dir: &Path) -> bool {
    let access = rustix::fs::Access::READ_OK | rustix::fs::Access::EXEC_OK;
    let flags = rustix::fs::AtFlags::EACCESS;
    rustix::fs::accessat(rustix::fs::CWD, dir, access, flags).is_ok()
        && private_dir::writers(dir) == Writers::Own
}

pub(super) fn is_unwritable(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

pub(super) fn check_owner(dir: &Path) -> Result<()> {
    match private_dir::writers(dir) {
        Writers::Own => Ok(()),
        Writers::Foreign => {
            bail!("it belongs to another user: set XDG_CACHE_HOME to a directory of your own")
        }
        Writers::Shared => bail!(
            "others can write to it: chmod go-w it, or set XDG_CACHE_HOME to another directory"
        ),
    }
}

pub(super) fn make_directory(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(dir)
        .with_context(|| format!("make directory {}", dir.display()))
}
