//! The tar archive that contains the layout.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use anyhow::{Context, Result, ensure};

use crate::name::digest::{Digest, Hasher};

/// Writer of the members of the archive.
pub(super) struct ArchiveWriter<W: Write> {
    out: tar::Builder<W>,
    /// Sizes of the blobs that the archive has.
    has: BTreeMap<Digest, u64>,
}

impl<W: Write> ArchiveWriter<W> {
    /// A new archive, which is written to `out`.
    pub(super) fn new(out: W) -> Self {
        Self { out: tar::Builder::new(out), has: BTreeMap::new() }
    }

    /// Adds a file of the layout.
    pub(super) fn file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.member(path, bytes.len() as u64, &mut &bytes[..])
    }

    /// Adds a blob, if the archive does not have it.
    ///
    /// # Errors
    /// The input is not the blob; errors of reading and writing.
    pub(super) fn blob(&mut self, digest: &Digest, size: u64, input: &mut dyn Read) -> Result<()> {
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

    /// Ends the archive.
    pub(super) fn finish(self) -> Result<()> {
        Ok(self.out.into_inner().context("write the archive")?.flush()?)
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
