//! Files that a recipe downloads. A SHA-256 names each, so it is fetched once for all builds.

use std::fs::File;

use anyhow::{Context, Result};
use oci::download;
use oci::image::OpenOptions;

use crate::pull::{PullArguments, explain_size};

/// Fetches files, with the options of registries.
#[derive(Debug)]
pub(in crate::image_command::recipe) struct Fetcher {
    pull: PullArguments,
}

impl Fetcher {
    /// A fetcher with these options.
    pub(in crate::image_command::recipe) fn new(pull: &PullArguments) -> Self {
        Self { pull: pull.clone() }
    }

    /// The file at `url`, whose SHA-256 has these hexadecimal digits.
    ///
    /// # Errors
    /// The server does not answer; the file is another one, or too large.
    pub(in crate::image_command::recipe) fn fetch(&self, url: &str, sha256: &str) -> Result<File> {
        let OpenOptions { registry, cache, max_size, .. } = self.pull.open_options()?;
        let digest = format!("sha256:{sha256}").parse().context("sha256")?;
        download::fetch(url, &digest, &registry, &cache, max_size).map_err(explain_size)
    }
}
