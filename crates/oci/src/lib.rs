//! OCI images: read from a registry, a layout or an archive, and applied to a tree layer by
//! layer.
//!
//! # Concepts
//!
//! A [`Location`](name::location::Location) says where an image is. [`image::open`] reads its
//! documents, verifies them, and chooses the image for a platform. [`image::Image::tree`] fetches
//! the layers, verifies them, and applies them to a [`Tree`](::image::tree::Tree), from which the
//! crate `image` writes any format. No file of a layer is ever made on the host: the contents of
//! the tree are references to unpacked layers in the [`cache`].
//!
//! # Example
//!
//! An initramfs of an image. The location could as well be `oci:debian:12`; then the image would
//! be fetched from its registry, and the next run would find it in the cache.
//!
//! ```
//! use std::fs::File;
//! use std::sync::Arc;
//! use image::Notes;
//! use image::write::cpio;
//! use virtinitrd_oci::cache::{Bounds, Cache};
//! use virtinitrd_oci::image::{OpenOptions, open};
//! use virtinitrd_oci::name::location::Location;
//! use virtinitrd_oci::progress::Silent;
//!
//! # use image::tree::{Content, Kind, Meta, Tree};
//! # use virtinitrd_oci::write::{self, ArchiveOptions};
//! # fn main() -> anyhow::Result<()> {
//! # let dir = tempfile::tempdir()?;
//! # std::env::set_current_dir(dir.path())?;
//! # let mut app = Tree::new(Meta::default());
//! # app.put(b"etc/motd", Meta::default(), Kind::File(Content::Bytes(b"hello\n"[..].into())))?;
//! # let options = ArchiveOptions { tag: Some("app:1.0"), ..ArchiveOptions::default() };
//! # let mut made = File::create_new("app.tar")?;
//! # write::archive(&app, &options, &mut made, &mut Notes::default())?;
//! let location = Location::parse("oci-archive:app.tar:1.0".as_ref())?.expect("a location");
//! let cache = Arc::new(Cache::open("cache".as_ref(), Bounds::default())?);
//! let image = open(&location, &OpenOptions { cache, ..OpenOptions::default() })?;
//!
//! let mut notes = Notes::default();
//! let tree = image.tree(&mut notes, &Silent)?;
//! cpio::write(&tree, &mut File::create_new("app.cpio")?, &mut notes)?;
//! # let bytes = std::fs::read("app.cpio")?;
//! # assert!(bytes.windows(8).any(|window| window == b"etc/motd"));
//! assert_eq!(notes.lines().count(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//!
//! | Module | Contents |
//! |---|---|
//! | [`mod@image`] | one image: its documents, and its layers as a tree |
//! | [`name`] | digests, references, platforms, locations |
//! | [`document`] | manifests, indexes, configs |
//! | [`origin`] | a trait: where the documents and blobs of an image come from |
//! | [`layer`] | blobs of layers: unpacked and verified in one pass |
//! | [`local`] | images on this host: layouts and archives |
//! | [`cache`] | documents, blobs, unpacked layers and built images that are kept |
//! | [`mod@write`] | writes an image as an archive of a layout |
//! | [`download`] | a file by its address and digest, kept in the cache |
//! | [`progress`] | events of reading an image |
//! | [`registry`] | images in registries, read by HTTP |
//!
//! # Limits
//!
//! | Limit | Value |
//! |---|---|
//! | a document | 4 MiB |
//! | layers of an image | 512 |
//! | documents read to find an image, indexes one in another | 64, 4 |
//! | unpacked layers together, an unpacked archive | [`image::OpenOptions::max_size`], 64 GiB by default |
//! | memory to unpack layers | four at a time, each with 2 MiB and its decoder: 0.1 MiB for gzip, [`layer::ZSTD_WINDOW_MAX`] for zstd |
//! | a file by its address | `max_size` of [`download::fetch`] |
//! | all objects of the cache together | [`cache::Bounds::max_size`], 20 GiB by default |
//!
//! # Errors
//!
//! Errors are [`anyhow::Error`]s. The chain of contexts names the image, the digest of the
//! document or layer, and the member. Nothing is trusted: neither a registry, nor a layout, nor
//! what they say about sizes and digests.

pub mod cache;
pub mod document;
pub mod download;
pub mod image;
pub mod layer;
pub mod local;
pub mod name;
pub mod origin;
pub mod progress;
pub mod registry;
#[cfg(test)]
mod sample;
mod shown;
pub mod write;
