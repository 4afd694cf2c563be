//! `image cat`: one file of an image.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::options::Limits;
use super::{open, see_owners_as_the_guest};
use crate::image::tree::Kind;

/// Write a file of an image to standard output
#[derive(Debug, clap::Args)]
pub(super) struct Cat {
    /// The image
    image: PathBuf,
    /// A path in it; links are followed within the image
    path: PathBuf,
    #[command(flatten)]
    limits: Limits,
}

impl Cat {
    /// Writes it.
    pub(super) fn run(self) -> Result<()> {
        see_owners_as_the_guest(&[&self.image])?;
        let tree = open(&self.image, &self.limits.options())?.tree;
        let shown = || format!("{} in {}", self.path.display(), self.image.display());
        let id = tree.resolve(self.path.as_os_str().as_bytes()).with_context(shown)?;
        let Kind::File(content) = &tree.node(id).kind else {
            bail!("{}: not a regular file", shown());
        };
        let mut out = std::io::stdout().lock();
        std::io::copy(&mut content.open().with_context(shown)?, &mut out).with_context(shown)?;
        Ok(out.flush()?)
    }
}
