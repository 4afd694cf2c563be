//! From the name of an image to its manifest and config for one platform.

use anyhow::{Context, Result, ensure};

use super::source::{Source, Verified};
use super::{Image, OpenOptions};
use crate::document::config::Config;
use crate::document::manifest::{self, Descriptor, Document, Manifest, NoImage};
use crate::name::digest::Digest;
use crate::name::platform::Platform;

/// Most indexes one in another.
const DEPTH_MAX: u32 = 4;
/// Most documents that are read to find an image.
const DOCUMENTS_MAX: u32 = 64;

/// A manifest and its config.
struct Found {
    digest: Digest,
    manifest: Manifest,
    config: Config,
    config_bytes: Vec<u8>,
}

/// Opens the image of `source` for the platform that the options name.
pub(super) fn resolve(source: Source, options: &OpenOptions) -> Result<Image> {
    let wanted = options.platform.clone().unwrap_or_else(Platform::host);
    let top = source.top()?;
    let top_digest = top.digest.clone();
    let mut search = Search { source: &source, wanted, documents_left: DOCUMENTS_MAX };
    let (found, platforms) = match Document::parse(&top.bytes, &top.media_type)? {
        Document::Manifest(manifest) => {
            let found = search.image(top.digest, manifest)?;
            search.check_platform(&found.config)?;
            let platforms = vec![found.config.platform.clone()];
            (found, platforms)
        }
        Document::Index(entries) => {
            let found = search.index(&entries, 1)?;
            (found, platforms(&entries))
        }
    };
    let Found { digest, manifest, config, config_bytes } = found;
    Ok(Image {
        name: source.name(),
        top_digest,
        manifest_digest: digest,
        config_digest: manifest.config.digest.clone(),
        manifest,
        config,
        config_bytes,
        platforms,
        source,
        max_size: options.max_size,
        links: options.links,
    })
}

/// The platforms of the entries of an index that are images.
fn platforms(entries: &[Descriptor]) -> Vec<Platform> {
    let images = entries.iter().filter(|entry| manifest::is_image(entry));
    images.filter_map(|entry| entry.platform.clone()).collect()
}

struct Search<'a> {
    source: &'a Source,
    wanted: Platform,
    documents_left: u32,
}

impl Search<'_> {
    /// The image of an index that fits best. `depth` counts this index and those above it.
    fn index(&mut self, entries: &[Descriptor], depth: u32) -> Result<Found> {
        ensure!(depth <= DEPTH_MAX, "more than {DEPTH_MAX} indexes one in another");
        let mut there = platforms(entries);
        for entry in manifest::select(entries, &self.wanted)? {
            match self.entry(entry, depth) {
                Ok(found) => return Ok(found),
                Err(error) => there.extend(error.downcast::<NoImage>()?.there),
            }
        }
        Err(NoImage { wanted: self.wanted.clone(), there }.into())
    }

    fn entry(&mut self, entry: &Descriptor, depth: u32) -> Result<Found> {
        let Verified { bytes, media_type, digest } = self.document(entry)?;
        let document = Document::parse(&bytes, &media_type);
        match document.with_context(|| format!("document {digest}"))? {
            Document::Index(entries) => self.index(&entries, depth + 1),
            Document::Manifest(manifest) => {
                let found = self.image(digest, manifest)?;
                // Of an entry that names its platform, the config may say less: it often has no
                // variant.
                if entry.platform.is_none() {
                    self.check_platform(&found.config)?;
                }
                Ok(found)
            }
        }
    }

    fn image(&mut self, digest: Digest, manifest: Manifest) -> Result<Found> {
        let config_bytes = self.document(&manifest.config)?.bytes;
        let config = Config::parse(&config_bytes);
        let config = config.with_context(|| format!("config {}", manifest.config.digest))?;
        ensure!(
            config.diff_ids.len() == manifest.layers.len(),
            "the manifest has {} layers, and the config {}",
            manifest.layers.len(),
            config.diff_ids.len()
        );
        Ok(Found { digest, manifest, config, config_bytes })
    }

    /// Checks the platform of an image that is not in an index. An image that names no platform
    /// serves every one.
    fn check_platform(&self, config: &Config) -> Result<()> {
        let platform = &config.platform;
        let is_named = !platform.os.is_empty() || !platform.architecture.is_empty();
        match is_named && self.wanted.rank(platform).is_none() {
            true => {
                Err(NoImage { wanted: self.wanted.clone(), there: vec![platform.clone()] }.into())
            }
            false => Ok(()),
        }
    }

    fn document(&mut self, descriptor: &Descriptor) -> Result<Verified> {
        let left = self.documents_left.checked_sub(1);
        self.documents_left =
            left.with_context(|| format!("more than {DOCUMENTS_MAX} documents for one image"))?;
        self.source.document(descriptor)
    }
}
