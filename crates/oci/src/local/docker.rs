//! Archives of `docker save` and of the tools that write the same format.
//!
//! Format: the file `manifest.json` lists images; each has a config, tags, and layers, the lowest
//! first, as paths in the archive (moby, `image/spec/spec.md`, "Combined Image JSON + Filesystem
//! Changeset Format"). A layer may be a link to the layer of another image; the archive keeps
//! the links in. Docker 25 and later also write an image layout, which is not needed: layers
//! have the same paths in `manifest.json`.
//!
//! The format has no manifest with digests. This file makes one: a layer that is not compressed
//! has its `diff_id` as its digest; a compressed one is read once to find it.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use archive::compress::Compression;
use serde::Deserialize;
use serde_json::json;

use super::container::Container;
use super::layout::shorten;
use crate::document::config::Config;
use crate::document::manifest::{DOCUMENT_MAX, Descriptor, LAYERS_MAX};
use crate::name::digest::{Algorithm, Digest, Hasher};
use crate::name::reference::Reference;
use crate::origin::{Origin, RawDocument};
use crate::shown::shown;

/// File with the images.
pub(super) const MANIFEST_FILE: &str = "manifest.json";

/// Media types of the manifest that is made.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Media types of compressed layers.
#[rustfmt::skip]
const COMPRESSED: [(Compression, &str); 2] = [
    (Compression::Gzip, "application/vnd.oci.image.layer.v1.tar+gzip"),
    (Compression::Zstd, "application/vnd.oci.image.layer.v1.tar+zstd"),
];
/// Media type of any other layer.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Bytes by which a compressed file is recognised.
const MAGIC: usize = 8;

/// An image in the file `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Saved {
    /// Path of the config.
    pub config: String,
    /// Names of the image, each with a tag.
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    /// Paths of the layers, the lowest first.
    #[serde(default)]
    pub layers: Option<Vec<String>>,
}

/// Parses the file `manifest.json`.
///
/// # Errors
/// Text of another kind.
pub fn parse(text: &[u8]) -> Result<Vec<Saved>> {
    serde_json::from_slice(text).context("not the list of an archive of docker save")
}

/// An image of an archive.
#[derive(Debug)]
pub(super) struct DockerArchive {
    container: Container,
    name: String,
    manifest: Vec<u8>,
    files: HashMap<Digest, PathBuf>,
}

impl DockerArchive {
    /// The image `name` of the archive, or the only one.
    pub(super) fn open(container: Container, shown: String, name: Option<&str>) -> Result<Self> {
        let text = container.read(MANIFEST_FILE.as_ref(), DOCUMENT_MAX);
        let text = text.context("not an archive of docker save")?;
        let images = parse(&text).context(MANIFEST_FILE)?;
        let saved = select(&images, name)?;
        let config = container.read(saved.config.as_ref(), DOCUMENT_MAX).context("config")?;
        let diff_ids = Config::parse(&config).context("config")?.diff_ids;
        let paths = saved.layers.as_deref().unwrap_or_default();
        ensure!(paths.len() <= LAYERS_MAX, "{} layers, more than {LAYERS_MAX}", paths.len());
        ensure!(
            paths.len() == diff_ids.len(),
            "the archive has {} layers, and the config {}",
            paths.len(),
            diff_ids.len()
        );
        let mut files = HashMap::new();
        let mut layers = Vec::new();
        for (path, diff_id) in paths.iter().zip(&diff_ids) {
            let path = Path::new(path);
            let layer = Layer::read(&container, path, diff_id);
            let layer = layer.with_context(|| format!("layer {diff_id}"))?;
            let Layer { media_type, digest, size } = layer;
            layers.push(json!({ "mediaType": media_type, "digest": digest, "size": size }));
            files.insert(digest, path.to_path_buf());
        }
        let digest = Digest::of(&config);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": CONFIG, "digest": digest, "size": config.len() },
            "layers": layers,
        });
        files.insert(digest, PathBuf::from(&saved.config));
        let manifest = manifest.to_string().into_bytes();
        Ok(Self { container, name: shown, manifest, files })
    }

    fn path(&self, digest: &Digest) -> Result<&Path> {
        let path = self.files.get(digest).map(PathBuf::as_path);
        path.with_context(|| format!("the archive has no {digest}"))
    }
}

impl Origin for DockerArchive {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn is_remote(&self) -> bool {
        false
    }

    fn top(&self) -> Result<RawDocument> {
        Ok(RawDocument { bytes: self.manifest.clone(), media_type: MANIFEST.to_owned() })
    }

    fn top_digest(&self) -> Result<Option<Digest>> {
        Ok(Some(Digest::of(&self.manifest)))
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument> {
        let bytes = self.container.read(self.path(&descriptor.digest)?, DOCUMENT_MAX)?;
        Ok(RawDocument { bytes, media_type: descriptor.media_type.clone() })
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        self.container.open_at(self.path(&descriptor.digest)?, offset)
    }
}

/// What a manifest says about a layer.
struct Layer {
    media_type: &'static str,
    digest: Digest,
    size: u64,
}

impl Layer {
    /// The layer in the file `path`. Its digest is verified when it is unpacked.
    fn read(container: &Container, path: &Path, diff_id: &Digest) -> Result<Self> {
        let size = container.size(path)?;
        let mut magic = Vec::new();
        let mut input = container.open(path)?;
        input.by_ref().take(MAGIC as u64).read_to_end(&mut magic)?;
        let compression = Compression::of(&magic);
        let found = COMPRESSED.iter().find(|row| row.0 == compression);
        let media_type = found.map_or(LAYER, |row| row.1);
        if compression == Compression::None {
            return Ok(Self { media_type, digest: diff_id.clone(), size });
        }
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(&magic);
        io::copy(&mut input, &mut hasher).with_context(|| path.display().to_string())?;
        Ok(Self { media_type, digest: hasher.finish(), size })
    }
}

fn select<'a>(images: &'a [Saved], name: Option<&str>) -> Result<&'a Saved> {
    let names: Vec<_> = images
        .iter()
        .flat_map(|image| image.repo_tags.iter().flatten())
        .map(|name| shown(name))
        .collect();
    let list = match names.is_empty() {
        true => "none of them has a name".to_owned(),
        false => shorten(&names),
    };
    match (images, name) {
        ([], _) => bail!("the archive has no image"),
        ([image], None) => Ok(image),
        (_, None) => bail!("several images, and the name chooses none: {list}"),
        (_, Some(name)) => {
            let found = images.iter().find(|image| is_called(image, name));
            found.with_context(|| format!("no image is called {}: {list}", name.escape_debug()))
        }
    }
}

/// Whether an image has a name. Both may be short: `debian` is `docker.io/library/debian:latest`.
fn is_called(image: &Saved, name: &str) -> bool {
    let wanted = name.parse::<Reference>().ok();
    let is_same =
        |tag: &String| tag == name || wanted.is_some() && tag.parse::<Reference>().ok() == wanted;
    image.repo_tags.iter().flatten().any(is_same)
}
