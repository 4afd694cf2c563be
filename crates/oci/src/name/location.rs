//! Locations of images: a registry, an image layout, or an archive of either kind.
//!
//! Forms: those of skopeo(1) and containers-transports(5), with one difference: `oci:` names an
//! image in a registry, as `docker://` does, and `oci-layout:` names a directory.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::digest::Digest;
use super::reference::Reference;

/// The place of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A registry: `oci:REF` or `docker://REF`.
    Registry(Reference),
    /// An image layout: `oci-layout:DIR[:TAG|@DIGEST]`.
    Layout(PathBuf, Selector),
    /// A tar archive of an image layout: `oci-archive:FILE[:TAG|@DIGEST]`.
    OciArchive(PathBuf, Selector),
    /// An archive of `docker save`: `docker-archive:FILE[:REF]`. The file `-` is standard input.
    DockerArchive(PathBuf, Option<String>),
}

/// Which image of a layout is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selector {
    /// The only one.
    #[default]
    Only,
    /// The one with this tag.
    Tag(String),
    /// The one with this digest.
    Digest(Digest),
}

/// Prefixes of the words that name an image in a registry.
const OF_REGISTRY: [&str; 2] = ["docker://", "oci:"];

impl Location {
    /// Parses a word of a user. `None` if the word has none of the prefixes; then it is the path
    /// of a file or directory.
    ///
    /// # Errors
    /// A prefix with a name that is none.
    pub fn parse(word: &OsStr) -> Result<Option<Self>> {
        let after = |prefix: &str| word.as_bytes().strip_prefix(prefix.as_bytes());
        if let Some(name) = OF_REGISTRY.iter().find_map(|prefix| after(prefix)) {
            let name = std::str::from_utf8(name).context("the name of an image is not UTF-8")?;
            return Ok(Some(Self::Registry(name.parse()?)));
        }
        if let Some(rest) = after("oci-layout:") {
            let (path, selector) = selected(rest)?;
            return Ok(Some(Self::Layout(path, selector)));
        }
        if let Some(rest) = after("oci-archive:") {
            let (path, selector) = selected(rest)?;
            return Ok(Some(Self::OciArchive(path, selector)));
        }
        let Some(rest) = after("docker-archive:") else { return Ok(None) };
        let (path, name) = match split(rest, b':') {
            Some((path, name)) => (path, Some(text(name)?)),
            None => (rest, None),
        };
        Ok(Some(Self::DockerArchive(file(path)?, name)))
    }
}

/// Splits `PATH@DIGEST` or `PATH:TAG`. A colon before a slash belongs to the path.
fn selected(rest: &[u8]) -> Result<(PathBuf, Selector)> {
    if let Some((path, digest)) = split(rest, b'@') {
        return Ok((file(path)?, Selector::Digest(text(digest)?.parse()?)));
    }
    match rest.iter().rposition(|&byte| byte == b':') {
        Some(at) if !rest[at..].contains(&b'/') => {
            Ok((file(&rest[..at])?, Selector::Tag(text(&rest[at + 1..])?)))
        }
        _ => Ok((file(rest)?, Selector::Only)),
    }
}

fn split(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == separator)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

fn file(path: &[u8]) -> Result<PathBuf> {
    ensure!(!path.is_empty(), "the path of the image is missing");
    Ok(OsString::from(OsStr::from_bytes(path)).into())
}

fn text(bytes: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty());
    Ok(text.context("the name after the path of the image is empty or not UTF-8")?.to_owned())
}
