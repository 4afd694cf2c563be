//! Documents and blobs of a cache: found by their digests, or begun.

use std::fs::File;
use std::io::{Read, Write};

use anyhow::{Context, Result};

use super::object::{Claim, Held, Part, Wait, hold, remove_held, remove_name};
use super::{Cache, Kind, contents, has_size};
use crate::document::manifest::{DOCUMENT_MAX, Descriptor};
use crate::name::digest::Digest;

/// A blob of the cache.
#[derive(Debug)]
pub(crate) enum Blob {
    /// It is complete. Its digest is checked only by [`Cache::file`].
    Complete(Held),
    /// It is missing. The file may have its beginning, from an interrupted run.
    Missing(Part),
}

impl From<Claim> for Blob {
    fn from(claim: Claim) -> Self {
        match claim {
            Claim::Complete(held) => Self::Complete(held),
            Claim::Missing(part) => Self::Missing(part),
        }
    }
}

impl Cache {
    /// The document with the digest `digest`; `None` if it is missing. A damaged one is removed.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let Some(path) = self.object(Kind::Blob, digest)? else { return Ok(None) };
        let Some(held) = hold(&path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let mut input = (&**held.file()).take(DOCUMENT_MAX + 1);
        input.read_to_end(&mut bytes).with_context(|| format!("read {}", path.display()))?;
        if bytes.len() as u64 <= DOCUMENT_MAX && digest.check(&bytes).is_ok() {
            return Ok(Some(bytes));
        }
        if self.keeps() {
            log::warn!("{} is damaged and is removed", path.display());
            remove_name(&path)?;
        }
        Ok(None)
    }

    /// Keeps a document, whose digest the caller has checked.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn keep_document(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let path = self.object(Kind::Blob, digest)?.filter(|_| self.keeps());
        let Some(path) = path else { return Ok(()) };
        let is_valid = |file: &File| has_size(file, bytes.len() as u64);
        let Claim::Missing(part) = self.claim(&path, &is_valid, Wait::SILENT)? else {
            return Ok(());
        };
        part.clear()?;
        let mut file = part.file();
        let written = file.write_all(bytes).with_context(|| format!("write {}", path.display()));
        match written {
            Ok(()) => part.commit().map(drop),
            Err(error) => {
                part.discard();
                Err(error)
            }
        }
    }

    /// The blob of `descriptor`. `wait` says what happens while a process fetches it.
    pub(crate) fn blob(&self, descriptor: &Descriptor, wait: Wait<'_>) -> Result<Blob> {
        let Some(path) = self.object(Kind::Blob, &descriptor.digest)? else {
            return Part::unlinked().map(Blob::Missing);
        };
        let is_valid = |file: &File| has_size(file, descriptor.size);
        self.claim(&path, &is_valid, wait).map(Blob::from)
    }

    /// The blob with the digest `digest`, of whatever size. A complete one has been checked: one
    /// with another digest is removed.
    pub(crate) fn file(&self, digest: &Digest, wait: Wait<'_>) -> Result<Blob> {
        let Some(path) = self.object(Kind::Blob, digest)? else {
            return Part::unlinked().map(Blob::Missing);
        };
        let is_valid = |file: &File| contents::has_digest(file, digest).unwrap_or(false);
        self.claim(&path, &is_valid, wait).map(Blob::from)
    }

    /// The blob of `descriptor`, if it is complete. Its digest is not checked.
    pub(crate) fn find_blob(&self, descriptor: &Descriptor) -> Result<Option<Held>> {
        let Some(path) = self.object(Kind::Blob, &descriptor.digest)? else { return Ok(None) };
        Ok(hold(&path)?.filter(|held| has_size(held.file(), descriptor.size)))
    }

    /// The blob of `descriptor`, in place of `damaged`, whose contents are not what its name says.
    pub(crate) fn blob_again(
        &self,
        descriptor: &Descriptor,
        damaged: &Held,
        wait: Wait<'_>,
    ) -> Result<Blob> {
        if !self.keeps() {
            return Part::unlinked().map(Blob::Missing);
        }
        remove_held(damaged)?;
        self.blob(descriptor, wait)
    }
}
