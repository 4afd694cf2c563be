//! A new layer, compressed into an unlinked file.
//!
//! Format: OCI image specification, `layer.md`. A layer is hashed twice while it is written: as it
//! is unpacked (`diff_id`), and as it is stored. Memory holds no more of it than the compressor does.

use std::fs::File;
use std::io::{self, Write};

use anyhow::{Context, Result};
use archive::compress::{Compression, Encoder, Method};
use archive::spool::spool;
use files::notes::Notes;
use image::tree::Tree;
use serde_json::{Value, json};

use crate::name::digest::{Algorithm, Digest, Hasher};

/// Media types of layers by their compression.
#[rustfmt::skip]
const LAYERS: [(Compression, &str); 3] = [
    (Compression::None, "application/vnd.oci.image.layer.v1.tar"),
    (Compression::Gzip, "application/vnd.oci.image.layer.v1.tar+gzip"),
    (Compression::Zstd, "application/vnd.oci.image.layer.v1.tar+zstd"),
];

/// A layer that was written into an unlinked file.
pub(super) struct NewLayer {
    pub(super) file: File,
    pub(super) media_type: &'static str,
    /// Digest of the layer as it is unpacked.
    pub(super) diff_id: Digest,
    /// Digest of the layer as it is stored.
    pub(super) digest: Digest,
    /// Bytes of the layer as it is stored.
    pub(super) size: u64,
}

impl NewLayer {
    /// Writes `tree`, which is in the form of a layer.
    ///
    /// # Errors
    /// A compression that layers cannot have; contents that cannot be read; errors of writing.
    pub(super) fn write(
        tree: &Tree,
        (method, threads): (Method, u32),
        notes: &mut Notes,
    ) -> Result<Self> {
        let compression = method.compression;
        let media_type = LAYERS.iter().find(|row| row.0 == compression).map(|row| row.1);
        let media_type = media_type.with_context(|| {
            format!("a layer cannot be compressed by {compression}: choose none, gzip or zstd")
        })?;
        let mut digests = None;
        let file = spool(|out| {
            let packed = Hashed::new(out);
            let mut plain = Hashed::new(Encoder::new(packed, method, threads)?);
            image::write::tar::write(tree, &mut plain, notes)?;
            let Hashed { out, hasher, .. } = plain;
            let packed = out.finish()?;
            digests = Some((hasher.finish(), packed.hasher.finish(), packed.size));
            Ok(())
        })?;
        let (diff_id, digest, size) = digests.context("the layer was not written")?;
        Ok(Self { file, media_type, diff_id, digest, size })
    }

    /// The descriptor of the layer.
    pub(super) fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.size })
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
