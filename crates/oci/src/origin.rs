//! Where the documents and blobs of one image come from.
//!
//! A registry, a layout and an archive each implement [`Origin`]. Nothing that an origin returns
//! is trusted: whoever calls it compares sizes and digests.

use std::fmt::Debug;
use std::io::Read;

use anyhow::Result;

use crate::document::manifest::Descriptor;
use crate::name::digest::Digest;

/// A manifest, an index or a config as the origin has it.
#[derive(Clone, Debug)]
pub struct RawDocument {
    /// The bytes; at most [`crate::document::manifest::DOCUMENT_MAX`].
    pub bytes: Vec<u8>,
    /// The media type by which the origin calls it; empty if it does not.
    pub media_type: String,
}

/// The place of one image.
pub trait Origin: Debug + Send + Sync {
    /// The image's name, for messages.
    fn name(&self) -> String;

    /// Whether reading a blob again costs time, so that blobs are worth keeping.
    fn is_remote(&self) -> bool;

    /// The manifest or index that the image's name leads to. If the name has a digest, the
    /// document has that digest.
    ///
    /// # Errors
    /// The image does not exist, or cannot be read.
    fn top(&self) -> Result<RawDocument>;

    /// The digest of [`Origin::top`], if it can be had without reading the document.
    ///
    /// # Errors
    /// Those of [`Origin::top`].
    fn top_digest(&self) -> Result<Option<Digest>>;

    /// The document that `descriptor` names, unverified.
    ///
    /// # Errors
    /// The document does not exist, is larger than its descriptor says, or cannot be read.
    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument>;

    /// The blob that `descriptor` names, unverified, from byte `offset` on. A broken connection
    /// is repaired within the stream, a limited number of times.
    ///
    /// # Errors
    /// The blob does not exist or cannot be read.
    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>>;

    /// Asks only the place itself from now on, because something that was read was wrong. Returns
    /// whether there were others, so that reading again may help.
    fn leave_mirrors(&self) -> bool {
        false
    }
}
