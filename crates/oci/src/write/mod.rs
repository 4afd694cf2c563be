//! Writing an image as an archive of a layout, which other tools can push.
//!
//! Format: OCI image specification, `image-layout.md`, in a tar archive, as skopeo(1) has it for
//! `oci-archive:`. Equal trees and options give equal bytes.
//!
//! | Module | Contents |
//! |---|---|
//! | `config` | the config of the image |
//! | `difference` | the layer between a base and a tree |

mod config;
mod difference;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};

use anyhow::{Context, Result, bail, ensure};
use archive::bytes::At;
use archive::compress::{Compression, Encoder, Method};
use archive::spool::spool;
use files::notes::Notes;
use image::tree::Tree;
use serde_json::{Value, json};

use crate::document::config::Process;
use crate::document::manifest::{Descriptor, LAYERS_MAX, REF_NAME};
use crate::image::Image;
use crate::name::digest::{Algorithm, Digest, Hasher};
use crate::name::platform::Platform;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Media types of layers by their compression.
#[rustfmt::skip]
const LAYERS: [(Compression, &str); 3] = [
    (Compression::None, "application/vnd.oci.image.layer.v1.tar"),
    (Compression::Gzip, "application/vnd.oci.image.layer.v1.tar+gzip"),
    (Compression::Zstd, "application/vnd.oci.image.layer.v1.tar+zstd"),
];

/// Media types of Docker, and those that mean the same in an image of OCI.
#[rustfmt::skip]
const OF_DOCKER: [(&str, &str); 3] = [
    ("application/vnd.docker.image.rootfs.diff.tar",      "application/vnd.oci.image.layer.v1.tar"),
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.oci.image.layer.v1.tar+gzip"),
    ("application/vnd.docker.image.rootfs.diff.tar.zstd", "application/vnd.oci.image.layer.v1.tar+zstd"),
];

pub use self::config::timestamp;

/// Options for writing an archive.
#[derive(Clone, Debug)]
pub struct ArchiveOptions<'a> {
    /// The image of which the tree is a changed copy: its layers stay, and one layer with the
    /// changes follows. Without a base, there is one layer with everything.
    pub base: Option<&'a Image>,
    /// The tree of the base, before it was changed. Ignored without a base.
    pub base_tree: Option<&'a Tree>,
    /// The command and its surroundings; `None` for those of the base.
    pub process: Option<&'a Process>,
    /// The platform, if there is no base.
    pub platform: Platform,
    /// Compression of the new layer: none, gzip or zstd.
    pub method: Method,
    /// Further threads for compression.
    pub threads: u32,
    /// The tag in the layout; `None` for none.
    pub tag: Option<&'a str>,
    /// Time of the image in seconds since 1970, unless the base is younger.
    pub time: i64,
    /// What the history says about the new layer.
    pub created_by: &'a str,
}

impl Default for ArchiveOptions<'_> {
    fn default() -> Self {
        Self {
            base: None,
            base_tree: None,
            process: None,
            platform: Platform::host(),
            method: Method { compression: Compression::Gzip, level: None },
            threads: 0,
            tag: None,
            time: 0,
            created_by: "chrootvm image build",
        }
    }
}

/// Digests of an image that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Digest of the config.
    pub config: Digest,
    /// Bytes of all layers, compressed.
    pub layers_size: u64,
}

/// Writes `tree` as an archive to `out`. Notes contain what a layer cannot express.
///
/// # Errors
/// A compression that layers cannot have; a file whose name a layer reserves for its own use;
/// contents that cannot be read; a layer of the base that is damaged; errors of writing.
pub fn archive(
    tree: &Tree,
    options: &ArchiveOptions<'_>,
    out: &mut dyn Write,
    notes: &mut Notes,
) -> Result<Written> {
    difference::check_names(tree)?;
    let layer = match (options.base, options.base_tree) {
        (Some(_), Some(base)) => {
            let changes = difference::difference(base, tree)?;
            changes.map(|changes| NewLayer::write(&changes, options, notes)).transpose()?
        }
        (Some(_), None) => bail!("the tree of the base is missing"),
        (None, _) => Some(NewLayer::write(tree, options, notes)?),
    };
    let base = options.base.map(|base| &base.manifest.layers[..]).unwrap_or_default();
    ensure!(
        layer.is_none() || base.len() < LAYERS_MAX,
        "the base has {LAYERS_MAX} layers, which is the most"
    );
    let config = config::config(options, layer.as_ref().map(|layer| &layer.diff_id))?;
    let new = layer.iter().map(|layer| {
        json!({ "mediaType": layer.media_type, "digest": layer.digest, "size": layer.size })
    });
    let layers: Vec<_> = base.iter().map(descriptor_value).chain(new).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob_value(CONFIG, &config),
        "layers": layers,
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = blob_value(MANIFEST, &manifest);
    if let Some(tag) = options.tag {
        entry["annotations"] = json!({ REF_NAME: tag });
    }
    let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string().into_bytes();

    let mut archive = ArchiveWriter { out: tar::Builder::new(out), has: BTreeMap::new() };
    archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    archive.file("index.json", &index)?;
    archive.blob(&Digest::of(&manifest), manifest.len() as u64, &mut &manifest[..])?;
    archive.blob(&Digest::of(&config), config.len() as u64, &mut &config[..])?;
    for (number, blob) in base.iter().enumerate() {
        let Some(base) = options.base else { continue };
        let mut input = base.blob(number)?;
        let copied = archive.blob(&blob.digest, blob.size, &mut input);
        copied.with_context(|| format!("layer {} of image {}", blob.digest, base.name))?;
    }
    if let Some(layer) = &layer {
        let mut input = At { file: &layer.file, offset: 0 };
        archive.blob(&layer.digest, layer.size, &mut input)?;
    }
    archive.out.into_inner().context("write the archive")?.flush()?;
    let layers_size = base.iter().map(|blob| blob.size).chain(layer.map(|layer| layer.size)).sum();
    Ok(Written { manifest: Digest::of(&manifest), config: Digest::of(&config), layers_size })
}

/// A descriptor of bytes.
fn blob_value(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len() })
}

/// The descriptor of a layer of the base.
fn descriptor_value(blob: &Descriptor) -> Value {
    let known = OF_DOCKER.iter().find(|row| row.0 == blob.media_type);
    let media_type = known.map_or(blob.media_type.as_str(), |row| row.1);
    let mut value = json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.size });
    if !blob.urls.is_empty() {
        value["urls"] = json!(blob.urls);
    }
    value
}

/// A layer that was written into an unlinked file.
struct NewLayer {
    file: File,
    media_type: &'static str,
    diff_id: Digest,
    digest: Digest,
    size: u64,
}

impl NewLayer {
    fn write(tree: &Tree, options: &ArchiveOptions<'_>, notes: &mut Notes) -> Result<Self> {
        let compression = options.method.compression;
        let media_type = LAYERS.iter().find(|row| row.0 == compression).map(|row| row.1);
        let media_type = media_type.with_context(|| {
            format!("a layer cannot be compressed by {compression}: choose none, gzip or zstd")
        })?;
        let mut digests = None;
        let file = spool(|out| {
            let packed = Hashed::new(out);
            let mut plain = Hashed::new(Encoder::new(packed, options.method, options.threads)?);
            image::write::tar::write(tree, &mut plain, notes)?;
            let Hashed { out, hasher, .. } = plain;
            let packed = out.finish()?;
            digests = Some((hasher.finish(), packed.hasher.finish(), packed.size));
            Ok(())
        })?;
        let (diff_id, digest, size) = digests.context("the layer was not written")?;
        Ok(Self { file, media_type, diff_id, digest, size })
    }
}

/// Writer that hashes and counts what it writes.
struct Hashed<W> {
    out: W,
    hasher: Hasher,
    size: u64,
}

impl<W> Hashed<W> {
    fn new(out: W) -> Self {
        Self { out, hasher: Hasher::new(Algorithm::Sha256), size: 0 }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writer of the members of the archive.
struct ArchiveWriter<W: Write> {
    out: tar::Builder<W>,
    /// Sizes of the blobs that the archive has.
    has: BTreeMap<Digest, u64>,
}

impl<W: Write> ArchiveWriter<W> {
    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.member(path, bytes.len() as u64, &mut &bytes[..])
    }

    /// Adds a blob, if the archive does not have it.
    fn blob(&mut self, digest: &Digest, size: u64, input: &mut dyn Read) -> Result<()> {
        if self.has.insert(digest.clone(), size).is_some() {
            return Ok(());
        }
        let (algorithm, digits) = digest.parts();
        let mut hashing = Hashing { input, hasher: Hasher::new(digest.algorithm()) };
        self.member(&format!("blobs/{algorithm}/{digits}"), size, &mut hashing)?;
        let found = hashing.hasher.finish();
        ensure!(found == *digest, "damaged or replaced, for its digest is {found}");
        Ok(())
    }

    fn member(&mut self, path: &str, size: u64, input: &mut dyn Read) -> Result<()> {
        /// Permissions of the members.
        const MODE: u32 = 0o644;
        let mut header = tar::Header::new_ustar();
        header.set_mode(MODE);
        header.set_size(size);
        let mut input = input.take(size);
        self.out
            .append_data(&mut header, path, &mut input)
            .with_context(|| format!("write {path}"))?;
        ensure!(input.limit() == 0, "{path}: it ends {} bytes too early", input.limit());
        Ok(())
    }
}

/// Reader that hashes what it reads.
struct Hashing<'a> {
    input: &'a mut dyn Read,
    hasher: Hasher,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
