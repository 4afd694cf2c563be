//! Blobs that are part of the manifest which names them.
//!
//! Format: the member `data` of a descriptor (OCI image specification, `descriptor.md`): base64
//! with padding (RFC 4648 §4). The manifest's digest covers it, but not its agreement with the
//! descriptor's own digest and size, which is checked.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::document::manifest::Descriptor;
use crate::name::digest::Hasher;

/// The contents that a descriptor has in itself; `None` if they are elsewhere.
///
/// # Errors
/// The contents do not have the descriptor's digest and size.
pub(super) fn contents(descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
    let Some(data) = descriptor.data.as_ref().filter(|data| !data.is_empty()) else {
        return Ok(None);
    };
    let at = || format!("data of the descriptor {}", descriptor.digest);
    let bytes = STANDARD.decode(data).with_context(at)?;
    let size = bytes.len() as u64;
    ensure!(size == descriptor.size, "{}: {size} bytes, not {}", at(), descriptor.size);
    let mut hasher = Hasher::new(descriptor.digest.algorithm());
    hasher.update(&bytes);
    let found = hasher.finish();
    ensure!(found == descriptor.digest, "{}: it has the digest {found}", at());
    Ok(Some(bytes))
}
