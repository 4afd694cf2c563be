//! Manifests and indexes: documents that name the parts of an image by their digests.
//!
//! Formats: OCI image specification, `descriptor.md`, `manifest.md`, `image-index.md`; the
//! formats of Docker that they come from (distribution, "Image Manifest Version 2, Schema 2").
//!
//! The input is not trusted: a document that says about itself that it is something else is
//! refused (CVE-2021-41190), and so is a negative size.

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use crate::name::digest::Digest;
use crate::name::platform::Platform;
use crate::shown::shown;

/// Most bytes of a manifest, an index or a config (OCI distribution specification, "Pushing
/// Manifests": registries accept at least 4 MiB).
pub const DOCUMENT_MAX: u64 = 4 << 20;

/// Most layers of an image. Docker's limit is 127. Each unpacked layer needs an open file, of which
/// a process usually has 1024 (`RLIMIT_NOFILE`, getrlimit(2)).
pub const LAYERS_MAX: usize = 512;

/// Annotation of an entry of an index that has no image, but says something about one.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// Annotation of an entry of a layout's index: its tag.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation of an entry of a layout's index in which containerd and Docker store the whole name
/// of an image.
pub const IMAGE_NAME: &str = "io.containerd.image.name";

/// Kind of a document or a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// A manifest: the parts of an image.
    Manifest,
    /// An index: manifests for several platforms.
    Index,
    /// The first format of Docker, which names layers by checksums of unpacked files.
    Schema1,
    /// The config of an image.
    Config,
    /// A layer: a tar archive, perhaps compressed.
    Layer,
    /// A layer that was encrypted.
    EncryptedLayer,
}

/// Media types, and what they are.
#[rustfmt::skip]
const MEDIA: &[(&str, Media)] = &[
    ("application/vnd.oci.image.manifest.v1+json",                               Media::Manifest),
    ("application/vnd.docker.distribution.manifest.v2+json",                     Media::Manifest),
    ("application/vnd.oci.image.index.v1+json",                                  Media::Index),
    ("application/vnd.docker.distribution.manifest.list.v2+json",                Media::Index),
    ("application/vnd.docker.distribution.manifest.v1+json",                     Media::Schema1),
    ("application/vnd.docker.distribution.manifest.v1+prettyjws",                Media::Schema1),
    ("application/vnd.oci.image.config.v1+json",                                 Media::Config),
    ("application/vnd.docker.container.image.v1+json",                           Media::Config),
    ("application/vnd.oci.image.layer.v1.tar",                                   Media::Layer),
    ("application/vnd.oci.image.layer.v1.tar+gzip",                              Media::Layer),
    ("application/vnd.oci.image.layer.v1.tar+zstd",                              Media::Layer),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar",                  Media::Layer),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",             Media::Layer),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",             Media::Layer),
    ("application/vnd.docker.image.rootfs.diff.tar",                             Media::Layer),
    ("application/vnd.docker.image.rootfs.diff.tar.gzip",                        Media::Layer),
    ("application/vnd.docker.image.rootfs.diff.tar.zstd",                        Media::Layer),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar",                     Media::Layer),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",                Media::Layer),
    ("application/vnd.oci.image.layer.v1.tar+encrypted",                         Media::EncryptedLayer),
    ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted",                    Media::EncryptedLayer),
    ("application/vnd.oci.image.layer.v1.tar+zstd+encrypted",                    Media::EncryptedLayer),
];

impl Media {
    /// The kind that a media type names; `None` if it is not one of an image.
    #[must_use]
    pub fn of(media_type: &str) -> Option<Self> {
        // A header may add parameters, such as a character set.
        let name = media_type.split(';').next().unwrap_or_default().trim();
        MEDIA.iter().find(|row| row.0.eq_ignore_ascii_case(name)).map(|row| row.1)
    }

    /// Media types of manifests and indexes, for the header `Accept` of a request.
    pub fn accepted() -> impl Iterator<Item = &'static str> {
        let is_document = |media| matches!(media, Media::Manifest | Media::Index);
        MEDIA.iter().filter(move |row| is_document(row.1)).map(|row| row.0)
    }
}

/// A blob or document by its digest.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the contents.
    #[serde(default)]
    pub media_type: String,
    /// Digest of the contents.
    pub digest: Digest,
    /// Bytes of the contents.
    #[serde(default)]
    pub size: u64,
    /// Other places of the contents; for layers that no registry may have.
    #[serde(default)]
    pub urls: Vec<String>,
    /// The contents themselves, in base64.
    #[serde(default)]
    pub data: Option<String>,
    /// Further values.
    #[serde(default)]
    pub annotations: Annotations,
    /// The platform, in an index.
    #[serde(default)]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// Compares contents with the descriptor.
    ///
    /// # Errors
    /// Another size or digest.
    pub fn check(&self, bytes: &[u8]) -> Result<()> {
        let found = bytes.len() as u64;
        ensure!(found == self.size, "{}: {found} bytes instead of {}", self.digest, self.size);
        self.digest.check(bytes)
    }

    /// The contents, if the descriptor has them itself. They are not compared with it.
    ///
    /// # Errors
    /// Text that is not base64.
    pub fn embedded(&self) -> Result<Option<Vec<u8>>> {
        let Some(text) = self.data.as_ref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let bytes = BASE64_STANDARD.decode(text);
        Ok(Some(bytes.with_context(|| format!("{}: its data is not base64", self.digest))?))
    }
}

/// Values by name. `null` stands for no values, as some writers have it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Option<std::collections::BTreeMap<String, String>>")]
pub struct Annotations(std::collections::BTreeMap<String, String>);

impl From<Option<std::collections::BTreeMap<String, String>>> for Annotations {
    fn from(values: Option<std::collections::BTreeMap<String, String>>) -> Self {
        Self(values.unwrap_or_default())
    }
}

impl Annotations {
    /// The value called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// The parts of an image.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The config.
    pub config: Descriptor,
    /// The layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// A document that describes an image or several.
#[derive(Clone, Debug)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Entries of an index.
    Index(Vec<Descriptor>),
}

/// All members of both documents. Which are there tells the kind of a document that does not
/// name it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Parses a document. `media_type` is what the server or the descriptor calls it; empty if
    /// they do not.
    ///
    /// # Errors
    /// A document that is damaged, of another kind than it is called, or that has no image.
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<Self> {
        let members = serde_json::from_slice::<Members>(bytes)
            .map_err(|error| anyhow!("not a manifest: {}", shown(&error.to_string())))?;
        let own = members.media_type.as_deref().unwrap_or_default();
        let kinds = [own, media_type].map(|name| Media::of(name).filter(|_| !name.is_empty()));
        if kinds.contains(&Some(Media::Schema1)) || members.schema_version == 1 {
            ensure!(members.schema_version == 1 || members.fs_layers.is_some(), MIXED);
            bail!(
                "an image in the first format of Docker, which has not been written since 2017: push it again with a current tool"
            );
        }
        ensure!(
            members.schema_version == 2,
            "schema version {}: only 2 is known",
            members.schema_version
        );
        let said = match kinds {
            [Some(own), Some(called)] if own != called => bail!(MIXED),
            [own, called] => own.or(called),
        };
        match (members.layers, members.manifests, said) {
            (Some(layers), None, None | Some(Media::Manifest)) => {
                let config = members.config.context("a manifest without a config")?;
                let artifact = members.artifact_type.filter(|text| !text.is_empty());
                manifest(config, layers, artifact.as_deref()).map(Self::Manifest)
            }
            (None, Some(entries), None | Some(Media::Index)) => Ok(Self::Index(entries)),
            (None, None, _) => bail!("neither layers nor manifests: this is no image"),
            _ => bail!(MIXED),
        }
    }
}

/// Error of a document that different programs could read as different images.
const MIXED: &str = "the document is of another kind than its media type says";

fn manifest(
    config: Descriptor,
    layers: Vec<Descriptor>,
    artifact: Option<&str>,
) -> Result<Manifest> {
    let is_config = Media::of(&config.media_type) == Some(Media::Config);
    if !is_config && !config.media_type.is_empty() {
        let kind = artifact.unwrap_or(&config.media_type);
        bail!("an artifact of type {}, not an image", shown(kind));
    }
    ensure!(layers.len() <= LAYERS_MAX, "{} layers, more than {LAYERS_MAX}", layers.len());
    for (number, layer) in layers.iter().enumerate() {
        let kind = Media::of(&layer.media_type);
        let number = number + 1;
        match kind {
            Some(Media::Layer) => {}
            Some(Media::EncryptedLayer) => {
                bail!(
                    "layer {number} is encrypted: decrypt the image first, as with skopeo copy --decryption-key"
                );
            }
            _ => bail!("layer {number} is of type {}, which is no layer", shown(&layer.media_type)),
        }
    }
    Ok(Manifest { config, layers })
}

/// An index without an image for a platform.
#[derive(Debug)]
pub struct NoImage {
    /// The platform.
    pub wanted: Platform,
    /// The platforms that the index has, in its order.
    pub there: Vec<Platform>,
}

impl std::fmt::Display for NoImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let there: Vec<_> = self.there.iter().map(ToString::to_string).collect();
        write!(f, "no image for {}", self.wanted)?;
        match there.is_empty() {
            true => f.write_str(": the index is empty"),
            false => write!(f, ": there is {} (--platform)", shown(&there.join(", "))),
        }
    }
}

impl std::error::Error for NoImage {}

/// Whether an entry of an index is an image or an index, and not something about an image.
#[must_use]
pub fn is_image(entry: &Descriptor) -> bool {
    let is_unknown = entry.platform.as_ref().is_some_and(|it| it.architecture == "unknown");
    let kind = Media::of(&entry.media_type);
    !is_unknown
        && entry.annotations.get(REFERENCE_TYPE).is_none()
        && (matches!(kind, Some(Media::Manifest | Media::Index)) || entry.media_type.is_empty())
}

/// Selects the entry of an index for the platform `wanted`: the first of those that fit best.
/// Entries without a platform are indexes or images that have to be looked into; they come
/// after the others.
///
/// # Errors
/// [`NoImage`].
pub fn select<'a>(
    entries: &'a [Descriptor],
    wanted: &Platform,
) -> Result<Vec<&'a Descriptor>, NoImage> {
    let images: Vec<_> = entries.iter().filter(|entry| is_image(entry)).collect();
    let rank = |entry: &&Descriptor| wanted.rank(entry.platform.as_ref()?);
    let best = images.iter().filter_map(rank).max();
    let fits = |entry: &&Descriptor| best.is_some() && rank(entry) == best;
    let found = images.iter().copied().filter(fits);
    let unnamed = images.iter().copied().filter(|entry| entry.platform.is_none());
    let found: Vec<_> = found.chain(unnamed).collect();
    match found.is_empty() {
        false => Ok(found),
        true => Err(NoImage {
            wanted: wanted.clone(),
            there: images.iter().filter_map(|entry| entry.platform.clone()).collect(),
        }),
    }
}
