//! Writing an OCI image as the archive of a layout (`-o FILE.oci.tar`), which other tools can push.

use std::io::Write;

use anyhow::Result;
use archive::compress::{Compression, Method};
use files::notes::Notes;
use image::tree::Tree;
use oci::document::config::Process;
use oci::image::Image;
use oci::name::platform::Platform;
use oci::write::{self, ArchiveOptions, Made};

/// Parts of an OCI image besides its tree.
#[derive(Debug, Default)]
pub(in crate::image_command) struct ImageParts<'a> {
    /// The image from which the tree was made; its layers stay. `before` must be given, too.
    pub(in crate::image_command) image: Option<&'a Image>,
    /// The tree after the last of `steps`; without steps, that of `image`. It needs no image: then
    /// all layers are those of steps, and one with the changes since. `None` for one layer with
    /// everything.
    pub(in crate::image_command) before: Option<&'a Tree>,
    /// The steps that made `before` from the image, or from nothing.
    pub(in crate::image_command) steps: Vec<OwnedStep>,
    /// Name of the image in the archive: `NAME[:TAG]`; `None` for none.
    pub(in crate::image_command) tag: Option<&'a str>,
    /// Who made the image; `None` for the author of `image`.
    pub(in crate::image_command) author: Option<&'a str>,
    /// Command and surroundings; `None` for those of the base.
    pub(in crate::image_command) process: Option<Process>,
    /// Platform of an image without a base; `None` for that of this host.
    pub(in crate::image_command) platform: Option<Platform>,
}

/// One step of making an image ([`Made`]).
#[derive(Debug)]
pub(in crate::image_command) struct OwnedStep {
    /// The command of the step, for people.
    pub(in crate::image_command) created_by: String,
    /// The changes, as [`write::layer`] returns them; `None` if only the config has changed.
    pub(in crate::image_command) layer: Option<Tree>,
}

impl OwnedStep {
    fn made(&self) -> Made<'_> {
        Made { created_by: &self.created_by, comment: None, layer: self.layer.as_ref() }
    }
}

/// Writes `tree` as an image with `parts` to `out`. Without an image, steps and a tree before,
/// there is one layer.
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
    let steps: Vec<_> = parts.steps.iter().map(OwnedStep::made).collect();
    let options = ArchiveOptions {
        base: parts.image,
        base_tree: parts.before,
        steps: &steps,
        tag: parts.tag,
        author: parts.author,
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
