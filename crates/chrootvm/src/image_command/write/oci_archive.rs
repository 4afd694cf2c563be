//! Writing an OCI image as the archive of a layout (`-o FILE.oci.tar`), which other tools can push.

use std::io::Write;

use anyhow::Result;
use archive::compress::{Compression, Method};
use files::notes::Notes;
use image::tree::Tree;
use oci::document::config::Process;
use oci::image::Image;
use oci::name::platform::Platform;
use oci::write::{self, ArchiveOptions};

/// Parts of an OCI image besides its tree.
#[derive(Debug, Default)]
pub(in crate::image_command) struct ImageParts<'a> {
    /// The image from which the tree was made, and the tree before it was changed.
    pub(in crate::image_command) base: Option<(&'a Image, &'a Tree)>,
    /// Command and surroundings; `None` for those of the base.
    pub(in crate::image_command) process: Option<Process>,
    /// Platform of an image without a base; `None` for that of this host.
    pub(in crate::image_command) platform: Option<Platform>,
}

/// Writes `tree` as an image with `parts` to `out`. A base keeps its layers, and one layer with
/// the changes follows; else there is one layer.
///
/// # Errors
/// Those of [`write::archive`].
pub(in crate::image_command) fn write(
    tree: &Tree,
    parts: &ImageParts<'_>,
    (method, threads): (Method, u32),
    mtime: u32,
    out: &mut dyn Write,
    notes: &mut Notes,
) -> Result<()> {
    let usual = ArchiveOptions::default();
    let options = ArchiveOptions {
        base: parts.base.map(|(image, _)| image),
        base_tree: parts.base.map(|(_, tree)| tree),
        process: parts.process.as_ref(),
        platform: parts.platform.clone().unwrap_or(usual.platform),
        method,
        threads,
        time: mtime.into(),
        ..ArchiveOptions::default()
    };
    write::archive(tree, &options, out, notes).map(drop)
}

/// The compression of layers if the user chooses none: the one that every tool reads.
pub(in crate::image_command) const USUAL: Method =
    Method { compression: Compression::Gzip, level: None };
