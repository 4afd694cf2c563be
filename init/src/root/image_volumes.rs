//! Volumes of an image: directories that its command writes to, such as the data of a database.
//!
//! In a read-only root, each of them gets an overlay, so that it begins with the files of the
//! image, keeps its owner and its mode, and forgets all changes at the end of the machine. In
//! a root that can be written to, they are directories like others.
//!
//! Interface: overlayfs, through [`overlay`].

use proto::text::show;
use rustix::io::Errno;

use crate::report::log;
use crate::root::new_root::NewRoot;
use crate::root::overlay;
use crate::sys::error::{Context, Hints, Result};

/// Hints for a volume whose directory is missing.
const HINTS: Hints = &[(Some(Errno::NOENT), "the root lacks it; make it there, or use --overlay")];

/// Makes the directories `paths` of `root` writable. A failure is no error: many commands run
/// without writing to their volumes.
pub fn mount_all(paths: &[&[u8]], root: &NewRoot) {
    for path in paths {
        if let Err(error) = mount(path, root) {
            log::warn!("{error}; this volume of the image cannot be written to");
        }
    }
}

fn mount(path: &[u8], root: &NewRoot) -> Result<()> {
    let name = show(path);
    let dir = root.make_directory(path);
    let dir = dir.hinted(format_args!("find {name}, a volume of the image"), HINTS)?;
    if root.is_read_only(&dir) {
        overlay::mount_over(&dir, &name, None)?;
    }
    Ok(())
}
