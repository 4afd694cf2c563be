//! Images on this host: layouts, archives of layouts, archives of `docker save`.
//!
//! | Module | Contents |
//! |---|---|
//! | `container` | a directory or a tar archive, whose files are read safely |
//! | `layout` | an image of a layout |
//! | [`docker`] | an image of an archive of `docker save` |
//! | `recognise` | which of them a path is |

mod container;
pub mod docker;
mod layout;
mod recognise;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use self::container::Container;
use self::docker::DockerArchive;
use self::layout::Layout;
pub use self::recognise::{ArchiveKind, is_layout, recognise, recognise_file};
use crate::name::location::Selector;
use crate::origin::Origin;

/// The image in the layout `dir`.
///
/// # Errors
/// A directory that is no layout; no image that `selector` selects, or several.
pub fn layout(dir: &Path, selector: &Selector) -> Result<Arc<dyn Origin>> {
    let name = shown("oci-layout", dir, selector);
    Ok(Arc::new(Layout::open(Container::directory(dir)?, name, selector)?))
}

/// The image in the archive of a layout `file`; `-` is standard input. A compressed archive may
/// unpack to `max_size` bytes.
///
/// # Errors
/// Those of [`layout`]; an archive that is damaged or too large.
pub fn oci_archive(file: &Path, selector: &Selector, max_size: u64) -> Result<Arc<dyn Origin>> {
    let name = shown("oci-archive", file, selector);
    let container = Container::archive(file, max_size)?;
    Ok(Arc::new(Layout::open(container, name, selector)?))
}

/// The image `name`, or the only image, in the archive of `docker save` `file`; `-` is standard
/// input. A compressed archive may unpack to `max_size` bytes.
///
/// # Errors
/// An archive of another kind, or a damaged one; no image called `name`, or several.
pub fn docker_archive(file: &Path, name: Option<&str>, max_size: u64) -> Result<Arc<dyn Origin>> {
    let container = Container::archive(file, max_size)?;
    let suffix = name.map(|name| format!(":{}", name.escape_debug())).unwrap_or_default();
    let shown = format!("docker-archive:{}{suffix}", file.display());
    Ok(Arc::new(DockerArchive::open(container, shown, name)?))
}

/// What a user calls an image, for messages.
fn shown(prefix: &str, path: &Path, selector: &Selector) -> String {
    let suffix = match selector {
        Selector::Only => String::new(),
        Selector::Tag(tag) => format!(":{}", tag.escape_debug()),
        Selector::Digest(digest) => format!("@{digest}"),
    };
    format!("{prefix}:{}{suffix}", path.display())
}
