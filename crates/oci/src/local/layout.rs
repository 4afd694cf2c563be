//! Image layouts: documents and blobs in files that are named by their digests.
//!
//! Format: OCI image specification, `image-layout.md`: the file `oci-layout` has the version,
//! `index.json` the images, `blobs/ALGORITHM/HEX` everything else.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::container::Container;
use crate::document::manifest::{DOCUMENT_MAX, Descriptor, IMAGE_NAME, REF_NAME, is_image};
use crate::name::digest::Digest;
use crate::name::location::Selector;
use crate::origin::{Origin, RawDocument};
use crate::shown::shown;

/// File with the version of the layout.
pub(super) const VERSION_FILE: &str = "oci-layout";
/// File with the images.
pub(super) const INDEX_FILE: &str = "index.json";
/// Most bytes of [`VERSION_FILE`].
const VERSION_MAX: u64 = 4096;
/// Beginning of the versions that this program knows.
const VERSION: &str = "1.";

/// Media type of an index.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image of a layout.
#[derive(Debug)]
pub(super) struct Layout {
    container: Container,
    /// What the user calls the image.
    name: String,
    /// What the index says about the image.
    top: Top,
}

/// The document to which the name of the image leads.
#[derive(Debug)]
enum Top {
    /// A document in a blob.
    Blob(Descriptor),
    /// A document in a blob of which only the digest is known.
    Digest(Digest),
    /// An index for several entries of the layout's own index: the same image for several
    /// platforms.
    Entries(Vec<u8>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    image_layout_version: String,
}

/// An entry of the index, parsed and as it is.
struct Entry {
    descriptor: Descriptor,
    value: Value,
}

impl Entry {
    /// The names of the image: a tag, or a whole reference.
    fn names(&self) -> impl Iterator<Item = &str> {
        [REF_NAME, IMAGE_NAME].into_iter().filter_map(|key| self.descriptor.annotations.get(key))
    }
}

impl Layout {
    /// The image that `selector` selects.
    pub(super) fn open(container: Container, name: String, selector: &Selector) -> Result<Self> {
        let version = container.read(VERSION_FILE.as_ref(), VERSION_MAX);
        let version = version.context("not an image layout: its file oci-layout cannot be read")?;
        let version: Version = serde_json::from_slice(&version).context(VERSION_FILE)?;
        let version = version.image_layout_version;
        ensure!(
            version.starts_with(VERSION),
            "version {} of image layouts is not known; 1.0.0 is",
            shown(&version)
        );
        let index = container.read(INDEX_FILE.as_ref(), DOCUMENT_MAX)?;
        let entries = entries(&index).context(INDEX_FILE)?;
        let top = select(entries, selector, &container)?;
        Ok(Self { container, name, top })
    }

    fn blob_document(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.container.read(&path(digest), DOCUMENT_MAX)
    }
}

impl Origin for Layout {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn is_remote(&self) -> bool {
        false
    }

    fn top(&self) -> Result<RawDocument> {
        match &self.top {
            Top::Blob(descriptor) => {
                let document = self.document(descriptor)?;
                descriptor.check(&document.bytes)?;
                Ok(document)
            }
            Top::Digest(digest) => {
                let bytes = self.blob_document(digest)?;
                digest.check(&bytes)?;
                Ok(RawDocument { bytes, media_type: String::new() })
            }
            Top::Entries(bytes) => {
                Ok(RawDocument { bytes: bytes.clone(), media_type: INDEX.to_owned() })
            }
        }
    }

    fn top_digest(&self) -> Result<Option<Digest>> {
        Ok(match &self.top {
            Top::Blob(descriptor) => Some(descriptor.digest.clone()),
            Top::Digest(digest) => Some(digest.clone()),
            Top::Entries(_) => None,
        })
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument> {
        let bytes = self.blob_document(&descriptor.digest)?;
        Ok(RawDocument { bytes, media_type: descriptor.media_type.clone() })
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn std::io::Read + Send>> {
        self.container.open_at(&path(&descriptor.digest), offset)
    }
}

/// The path of a blob.
pub(super) fn path(digest: &Digest) -> PathBuf {
    let (algorithm, digits) = digest.parts();
    ["blobs", algorithm, digits].iter().collect()
}

fn entries(index: &[u8]) -> Result<Vec<Entry>> {
    let index: Value = serde_json::from_slice(index)?;
    let entries = index.get("manifests").and_then(Value::as_array).cloned();
    let parse = |value: Value| {
        let descriptor = Descriptor::deserialize(&value)?;
        Ok(Entry { descriptor, value })
    };
    entries.context("it has no manifests")?.into_iter().map(parse).collect()
}

fn select(entries: Vec<Entry>, selector: &Selector, container: &Container) -> Result<Top> {
    let images: Vec<_> = entries.into_iter().filter(|entry| is_image(&entry.descriptor)).collect();
    ensure!(!images.is_empty(), "the layout has no image");
    let list = list(&images);
    let found = match selector {
        Selector::Only => one_image(images).with_context(|| choose(&list))?,
        Selector::Tag(tag) => {
            let found = tagged(images, tag);
            ensure!(!found.is_empty(), "no image has the tag {}: {}", tag.escape_debug(), list);
            one_image(found).with_context(|| choose(&list))?
        }
        Selector::Digest(digest) => {
            let is_named = |entry: &Entry| entry.descriptor.digest == *digest;
            match images.into_iter().find(is_named) {
                Some(entry) => vec![entry],
                None if container.has(&path(digest)) => return Ok(Top::Digest(digest.clone())),
                None => bail!("no image has the digest {digest}: {list}"),
            }
        }
    };
    if found.len() > 1 {
        let found: Vec<_> = found.into_iter().map(|entry| entry.value).collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": found });
        return Ok(Top::Entries(index.to_string().into_bytes()));
    }
    let entry = found.into_iter().next().context("the layout has no image")?;
    Ok(Top::Blob(entry.descriptor))
}

/// The entries of one image: the same for several platforms, or one with several tags. `None` if
/// a user must choose.
fn one_image(mut images: Vec<Entry>) -> Option<Vec<Entry>> {
    let first = images.first()?;
    let name = |entry: &Entry| entry.names().next().map(str::to_owned);
    let (first_name, digest) = (name(first), first.descriptor.digest.clone());
    if images.iter().all(|entry| entry.descriptor.digest == digest) {
        images.truncate(1);
        return Some(images);
    }
    let is_one = images.iter().all(|it| name(it) == first_name && it.descriptor.platform.is_some());
    is_one.then_some(images)
}

/// The entries with a tag. A layout may have the tag alone or a whole reference.
fn tagged(images: Vec<Entry>, tag: &str) -> Vec<Entry> {
    let suffix = format!(":{tag}");
    let is_tagged = |entry: &Entry| entry.names().any(|name| name == tag);
    let ends = |entry: &Entry| entry.names().any(|name| name.ends_with(&suffix));
    let is_exact = images.iter().any(is_tagged);
    images
        .into_iter()
        .filter(|entry| if is_exact { is_tagged(entry) } else { ends(entry) })
        .collect()
}

/// The images for an error message: tags where there are some, else digests.
fn list(images: &[Entry]) -> String {
    let name = |entry: &Entry| match entry.names().next() {
        Some(name) => format!(":{}", shown(name)),
        None => format!("@{}", entry.descriptor.digest),
    };
    let mut names: Vec<_> = images.iter().map(name).collect();
    names.dedup();
    shorten(&names)
}

/// Most names in one message.
const NAMES_MAX: usize = 20;

/// Joins names for a message, and says how many are left out.
pub(super) fn shorten(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMES_MAX).filter(|more| *more > 0) {
        Some(more) => format!("there is {shown} and {more} more"),
        None => format!("there is {shown}"),
    }
}

fn choose(list: &str) -> String {
    format!("several images, and the name chooses none: {list}")
}
