//! OCI images: read from a registry, a layout or an archive, and applied to a tree layer by
//! layer.
//!
//! | Module | Contents |
//! |---|---|
//! | [`name`] | digests, references, platforms, locations |
//! | [`document`] | manifests, indexes, configs |
//! | [`origin`] | a trait: where the documents and blobs of an image come from |
//! | [`layer`] | blobs of layers: unpacked and verified in one pass |
//! | [`progress`] | events of reading an image |
//! | [`registry`] | images in registries, read by HTTP |

pub mod document;
pub mod layer;
pub mod name;
pub mod origin;
pub mod progress;
pub mod registry;
