//! OCI images: read from a registry, a layout or an archive, and applied to a tree layer by
//! layer.
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
//! | [`write`] | writes an image as an archive of a layout |
//! | [`progress`] | events of reading an image |
//! | [`registry`] | images in registries, read by HTTP |

pub mod cache;
pub mod document;
pub mod image;
pub mod layer;
pub mod local;
pub mod name;
pub mod origin;
pub mod progress;
pub mod registry;
#[cfg(test)]
mod sample;
pub mod write;
