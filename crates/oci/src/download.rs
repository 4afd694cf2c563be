//! Files by their addresses and digests, kept in the cache.
//!
//! Protocol: that of [`registry`](crate::registry) for blobs, without a registry. A file is kept
//! as a blob, by its digest: whoever wants the same bytes again, from whatever address, asks
//! nobody. A transfer that was interrupted is continued by the next call. A file with another
//! digest is never kept.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use anyhow::{Context, Result, ensure};
use archive::bytes::At;
use archive::spool;

use crate::cache::{Blob, Cache, Held, Part, Wait};
use crate::name::digest::{Digest, Hasher};
use crate::registry::{RegistryOptions, RemoteFile, may_continue};

/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;

/// Fetches the file at `url`, which must have the digest `digest` and at most `max_size` bytes, or
/// finds it in `cache`. The result is at its first byte; it is removed from the cache neither by
/// this process nor by another one as long as it is open. The caller must not write to it.
///
/// `url` is an address of https or http; the digest protects the contents in both cases. No user
/// and no password is ever sent, whatever `options` has. Otherwise `options` count as for a
/// registry: its certificates, and the proxies of its environment.
///
/// # Errors
/// An address of another kind; a server that cannot be reached or refuses; a file that is too
/// large or has another digest, of which nothing is kept.
pub fn fetch(
    url: &str,
    digest: &Digest,
    options: &RegistryOptions,
    cache: &Cache,
    max_size: u64,
) -> Result<File> {
    fetch_from(&RemoteFile::new(url, options)?, digest, cache, max_size)
}

/// As [`fetch`], from a file that is known already.
pub(crate) fn fetch_from(
    file: &RemoteFile,
    digest: &Digest,
    cache: &Cache,
    max_size: u64,
) -> Result<File> {
    let begin = || log::info!("waiting for another process that fetches {file}");
    let fetched = cache.file(digest, Wait { begin: &begin, ..Wait::SILENT }).and_then(|found| {
        let held = match found {
            Blob::Complete(held) => held,
            Blob::Missing(part) => {
                log::info!("fetching {file}");
                let held = Transfer { file, digest, max_size, cache }.run(part)?;
                cache.trim();
                held
            }
        };
        opened(&held, max_size)
    });
    fetched.with_context(|| format!("fetch {file}"))
}

/// Why bytes are not those of the file that is wanted.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// There are more bytes than this limit.
    TooLarge(u64),
    /// They have another digest.
    Digest { expected: Digest, found: Digest },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(max) => write!(f, "it has more bytes than the limit of {max}"),
            Self::Digest { expected, found } => write!(
                f,
                "it has the digest {found} instead of {expected}: it was damaged, or replaced by \
                 another file; if the new one is wanted, use the new digest"
            ),
        }
    }
}

impl std::error::Error for Fault {}

/// A file that is fetched.
struct Transfer<'a> {
    file: &'a RemoteFile,
    digest: &'a Digest,
    max_size: u64,
    cache: &'a Cache,
}

impl Transfer<'_> {
    /// Fetches the rest of `part`, or all of it if what it has is of no use.
    fn run(&self, part: Part) -> Result<Held> {
        let already = part.file().metadata().context("look at a file of the cache")?.len();
        let mut result = self.read(&part, already);
        if already > 0 && result.as_ref().is_err_and(|error| !may_continue(error)) {
            log::debug!("{}: what was kept of it is of no use", self.file);
            result = self.read(&part, 0);
        }
        let Err(error) = result else { return part.commit() };
        let is_empty = part.file().metadata().is_ok_and(|metadata| metadata.len() == 0);
        if is_empty || !may_continue(&error) {
            part.discard();
        }
        Err(self.cache.with_hint(error))
    }

    /// Appends to the first `already` bytes of `part` what follows, and checks all of it.
    fn read(&self, part: &Part, already: u64) -> Result<()> {
        ensure!(already <= self.max_size, Fault::TooLarge(self.max_size));
        part.file().set_len(already).context("shorten a file of the cache")?;
        let mut hasher = Hasher::new(self.digest.algorithm());
        let mut kept = At { file: part.file(), offset: 0 };
        io::copy(&mut kept, &mut hasher).context("read a file of the cache")?;
        if already > 0 && hasher.clone().finish() == *self.digest {
            // The last process ended between the last byte and the new name.
            return Ok(());
        }
        let mut input = self.file.read(already, self.max_size)?;
        let mut file = part.file();
        file.seek(SeekFrom::Start(already)).context("continue a file of the cache")?;
        let mut out = spool::careful(file);
        let mut piece = vec![0; PIECE];
        let mut size = already;
        loop {
            let count = input.read(&mut piece)?;
            let bytes = piece.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            size += bytes.len() as u64;
            ensure!(size <= self.max_size, Fault::TooLarge(self.max_size));
            hasher.update(bytes);
            out.write_all(bytes).context("write a file of the cache")?;
        }
        let found = hasher.finish();
        let expected = self.digest.clone();
        ensure!(found == expected, Fault::Digest { expected, found });
        Ok(())
    }
}

/// The file of an object, at its first byte.
fn opened(held: &Held, max_size: u64) -> Result<File> {
    let mut file = held.file().try_clone().context("open a file of the cache")?;
    let size = file.metadata().context("look at a file of the cache")?.len();
    ensure!(size <= max_size, Fault::TooLarge(max_size));
    file.rewind().context("rewind a file of the cache")?;
    Ok(file)
}
