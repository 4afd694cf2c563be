//! One image: its documents, and its layers as a tree.
//!
//! | Module | Contents |
//! |---|---|
//! | `source` | where the image is, and what the cache and the pull policy say about it |
//! | `resolve` | from a name to the manifest and the config for a platform |
//! | `layers` | fetches, unpacks and applies layers |
//!
//! [`open`] reads documents only. Every document is compared with the size and the digest by
//! which it is named; [`Image::tree`] does so with every layer, twice: as it is stored and
//! unpacked. A tree is built from verified layers only.

mod layers;
mod resolve;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use anyhow::{Context, Result};
use image::source::SIZE_MAX;
use image::source::tar::layer::DirectoryLinks;

use self::source::Source;
use crate::cache::Cache;
use crate::document::config::Config;
use crate::document::manifest::Manifest;
use crate::name::digest::Digest;
use crate::name::location::Location;
use crate::name::platform::Platform;
use crate::registry::RegistryOptions;

/// When a registry is asked for an image that is in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    /// Always; an error if the registry does not answer.
    Always,
    /// Always, but if the registry does not answer, the image in the cache serves.
    Newer,
    /// Only if the image is not in the cache.
    #[default]
    Missing,
    /// Never; an image that is not in the cache is an error.
    Never,
}

/// Options for opening an image.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The platform; that of this host if there is none.
    pub platform: Option<Platform>,
    /// When a registry is asked.
    pub pull: Pull,
    /// Credentials, certificates and other settings of registries.
    pub registry: RegistryOptions,
    /// Where documents and layers are kept.
    pub cache: Arc<Cache>,
    /// Most bytes of all unpacked layers together, and of an unpacked archive; by default
    /// [`SIZE_MAX`].
    pub max_size: u64,
    /// What a directory of a layer does to a link to a directory.
    pub links: DirectoryLinks,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            platform: None,
            pull: Pull::default(),
            registry: RegistryOptions::default(),
            cache: Arc::new(Cache::unkept()),
            max_size: SIZE_MAX,
            links: DirectoryLinks::default(),
        }
    }
}

/// An image whose documents were read and verified.
#[derive(Debug)]
pub struct Image {
    /// What the user calls the image, for messages.
    pub name: String,
    /// Digest of the document to which the name leads: the manifest or an index.
    pub top_digest: Digest,
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// Digest of the config. It names the contents of the image: the config has the digests of
    /// all unpacked layers.
    pub config_digest: Digest,
    /// The config.
    pub config: Config,
    /// The config as it is stored.
    pub config_bytes: Vec<u8>,
    /// The platforms for which there are images of this name, in the order of the index; the
    /// platform of the config, if there is no index.
    pub platforms: Vec<Platform>,
    source: Source,
    max_size: u64,
    links: DirectoryLinks,
}

/// Opens the image at `location`: reads and verifies its documents, but no layer.
///
/// # Errors
/// No such image; no image for the platform
/// ([`NoImage`](crate::document::manifest::NoImage)); a document that is damaged, or that is not
/// what its name or its size says; a registry that does not answer.
pub fn open(location: &Location, options: &OpenOptions) -> Result<Image> {
    let source = Source::open(location, options)?;
    let name = source.name();
    let image = resolve::resolve(source, options);
    image.with_context(|| format!("image {name}"))
}
