//! Writing an image as an archive of a layout, which other tools can push.
//!
//! Format: OCI image specification, `image-layout.md`, in a tar archive, as skopeo(1) has it for
//! `oci-archive:`. Equal trees and options give equal bytes.
//!
//! | Module | Contents |
//! |---|---|
//! | `options` | what an archive is made of |
//! | `difference` | the layer between two trees |
//! | `blob` | a new layer, compressed |
//! | `config` | the config of the image |
//! | `history` | the entries of the config that say how the layers were made |
//! | `container` | the tar archive around all of them |
//!
//! # Name of the image
//!
//! The entry of `index.json` has two annotations, as Docker's `buildx` writes them. For the name
//! `app:1`:
//!
//! | Annotation | Value | Who reads it |
//! |---|---|---|
//! | `org.opencontainers.image.ref.name` | `1` | skopeo and umoci, as the tag in the layout |
//! | `io.containerd.image.name` | `docker.io/library/app:1` | containerd, Docker and podman, as the name of the image |

mod blob;
mod config;
mod container;
mod difference;
mod history;
mod options;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::Write;

use anyhow::{Context, Result, ensure};
use archive::bytes::At;
use files::notes::Notes;
use image::tree::{Meta, Tree};
use serde_json::{Value, json};

use self::blob::NewLayer;
use self::container::ArchiveWriter;
pub use self::difference::layer;
pub use self::options::{ArchiveOptions, Made};
use crate::document::manifest::{Descriptor, IMAGE_NAME, LAYERS_MAX, REF_NAME};
use crate::name::digest::Digest;
use crate::name::reference::Reference;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Media types of Docker, and those that mean the same in an image of OCI.
#[rustfmt::skip]
const OF_DOCKER: [(&str, &str); 3] = [
    ("application/vnd.docker.image.rootfs.diff.tar",      "application/vnd.oci.image.layer.v1.tar"),
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.oci.image.layer.v1.tar+gzip"),
    ("application/vnd.docker.image.rootfs.diff.tar.zstd", "application/vnd.oci.image.layer.v1.tar+zstd"),
];

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
/// `options.tag` is not a name; a compression that layers cannot have; a file whose name a layer
/// reserves for its own use; a base or steps without `options.base_tree`; more than [`LAYERS_MAX`]
/// layers; contents that cannot be read; a layer of the base that is damaged; errors of writing.
pub fn archive(
    tree: &Tree,
    options: &ArchiveOptions<'_>,
    out: &mut dyn Write,
    notes: &mut Notes,
) -> Result<Written> {
    let name = options.tag.map(Reference::for_new_image).transpose()?;
    let nothing = Meta::default();
    let root = options.base.is_none().then_some(&nothing);
    let mut steps = Made::without_empty_layers(options.steps, root);
    let last = last_layer(tree, options, &steps)?;
    if let Some(last) = &last {
        steps.push(Made { created_by: options.created_by, comment: None, layer: Some(last) });
    }
    let base = options.base.map(|base| &base.manifest.layers[..]).unwrap_or_default();
    let count = base.len() + steps.iter().filter(|step| step.layer.is_some()).count();
    ensure!(
        count <= LAYERS_MAX,
        "the image would have {count} layers, more than {LAYERS_MAX}: give a base with fewer \
         layers, or make them in fewer steps"
    );
    let mut new_layer = |tree| NewLayer::write(tree, (options.method, options.threads), notes);
    let made = steps.iter().map(|step| Ok((*step, step.layer.map(&mut new_layer).transpose()?)));
    let made = made.collect::<Result<Vec<_>>>()?;
    let new = || made.iter().filter_map(|(_, layer)| layer.as_ref());

    let config = config::config(options, &made, notes)?;
    let layers: Vec<_> =
        base.iter().map(descriptor_value).chain(new().map(NewLayer::descriptor)).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob_value(CONFIG, &config),
        "layers": layers,
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = blob_value(MANIFEST, &manifest);
    if let Some(name) = &name {
        entry["annotations"] = json!({ REF_NAME: name.tag, IMAGE_NAME: name.to_string() });
    }
    let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string().into_bytes();

    let mut archive = ArchiveWriter::new(out);
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
    for layer in new() {
        let mut input = At { file: &layer.file, offset: 0 };
        archive.blob(&layer.digest, layer.size, &mut input)?;
    }
    archive.finish()?;
    let sizes = base.iter().map(|blob| blob.size).chain(new().map(|layer| layer.size));
    Ok(Written {
        manifest: Digest::of(&manifest),
        config: Digest::of(&config),
        layers_size: sizes.sum(),
    })
}

/// The layer above those of the base and of `steps`; `None` if they make `tree` already.
fn last_layer<'a>(
    tree: &'a Tree,
    options: &ArchiveOptions<'_>,
    steps: &[Made<'_>],
) -> Result<Option<Cow<'a, Tree>>> {
    if let Some(before) = options.base_tree {
        return Ok(layer(before, tree)?.map(Cow::Owned));
    }
    ensure!(options.base.is_none(), "the tree of the base is missing");
    let has_layer = steps.iter().any(|step| step.layer.is_some());
    ensure!(!has_layer, "the tree after the last step is missing");
    difference::check_names(tree)?;
    Ok(Some(Cow::Borrowed(tree)))
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
