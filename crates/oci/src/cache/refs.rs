//! What references to registries led to: a small file for each reference.
//!
//! Format: a JSON object, see [`Seen`]. A name of a file is the SHA-256 of the reference.

use std::io::{Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Cache;
use super::directory::make_directory;
use super::object::options;
use crate::name::digest::Digest;

/// Name of the directory.
pub(super) const DIRECTORY: &str = "refs";
/// Most bytes of a file.
const SEEN_MAX: u64 = 4096;

/// The document to which a reference led.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// The reference, with host and tag.
    pub reference: String,
    /// Digest of the manifest or index.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// When the registry was asked, in seconds since 1970.
    pub time: u64,
}

impl Cache {
    /// What `reference` led to when it was last pulled; `None` if it never was. A damaged file
    /// counts as none.
    #[must_use]
    pub fn seen(&self, reference: &str) -> Option<Seen> {
        let path = self.dir()?.join(DIRECTORY).join(name(reference));
        let seen = read(&path)?;
        (seen.reference == reference).then_some(seen)
    }

    /// Remembers what `reference` led to now.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn remember(&self, reference: &str, digest: &Digest, media_type: &str) -> Result<()> {
        let Some(dir) = self.dir().filter(|_| self.keeps()) else { return Ok(()) };
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (digest, media_type) = (digest.clone(), media_type.to_owned());
        let seen = Seen { reference: reference.to_owned(), digest, media_type, time };
        let dir = dir.join(DIRECTORY);
        make_directory(&dir)?;
        let context = || format!("write into {}", dir.display());
        let mut file = tempfile::NamedTempFile::new_in(&dir).with_context(context)?;
        serde_json::to_writer(&mut file, &seen).with_context(context)?;
        file.flush().with_context(context)?;
        file.persist(dir.join(name(reference))).with_context(context)?;
        Ok(())
    }
}

fn name(reference: &str) -> String {
    Digest::of(reference.as_bytes()).parts().1.to_owned()
}

/// Reads a file; `None` if it is damaged.
pub(super) fn read(path: &std::path::Path) -> Option<Seen> {
    let file = options().open(path).ok()?;
    let mut text = Vec::new();
    file.take(SEEN_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}
