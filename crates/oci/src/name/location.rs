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
        let colon = rest.iter().position(|&byte| byte == b':');
        let (path, name) = match colon {
            Some(at) => (&rest[..at], Some(text(&rest[at + 1..])?)),
            None => (rest, None),
        };
        Ok(Some(Self::DockerArchive(file(path)?, name)))
    }
}

/// Splits `PATH@DIGEST` or `PATH:TAG`. What has a slash belongs to the path.
fn selected(rest: &[u8]) -> Result<(PathBuf, Selector)> {
    let last = |separator: u8| {
        let at = rest.iter().rposition(|&byte| byte == separator)?;
        let name = &rest[at + 1..];
        (!name.contains(&b'/')).then_some((&rest[..at], name))
    };
    // A digest has a colon, so look for the `@` first.
    match (last(b'@'), last(b':')) {
        (Some((path, name)), _) if is_digest(name) => {
            Ok((file(path)?, Selector::Digest(text(name)?.parse()?)))
        }
        (_, Some((path, name))) => Ok((file(path)?, Selector::Tag(text(name)?))),
        (_, None) => Ok((file(rest)?, Selector::Only)),
    }
}

/// Whether a name after an `@` is meant as a digest, and not as a part of the path.
fn is_digest(name: &[u8]) -> bool {
    name.contains(&b':')
}

fn file(path: &[u8]) -> Result<PathBuf> {
    ensure!(!path.is_empty(), "the path of the image is missing");
    Ok(OsString::from(OsStr::from_bytes(path)).into())
}

fn text(bytes: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty());
    Ok(text.context("the name after the path of the image is empty or not UTF-8")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(word: &str) -> Result<Option<Location>> {
        Location::parse(word.as_ref())
    }

    #[test]
    fn words_are_locations_or_paths() {
        let digest = Digest::of(b"");
        let tag = |tag: &str| Selector::Tag(tag.into());
        let by_digest = Selector::Digest(digest.clone());
        let layout = |path: &str, selector| Some(Location::Layout(path.into(), selector));
        let archive = |path: &str, selector| Some(Location::OciArchive(path.into(), selector));
        let docker = |path: &str, name: Option<&str>| {
            Some(Location::DockerArchive(path.into(), name.map(Into::into)))
        };
        let registry = |name: &str| Some(Location::Registry(name.parse().unwrap()));
        for (word, expected) in [
            ("oci:debian:12", registry("debian:12")),
            ("docker://localhost:5000/a", registry("localhost:5000/a")),
            ("oci-layout:dir", layout("dir", Selector::Only)),
            ("oci-layout:dir:1.0", layout("dir", tag("1.0"))),
            ("oci-layout:/a:b/dir", layout("/a:b/dir", Selector::Only)),
            ("oci-layout:/a@b/dir:x", layout("/a@b/dir", tag("x"))),
            ("oci-layout:a@b", layout("a@b", Selector::Only)),
            (&format!("oci-layout:/a@b@{digest}"), layout("/a@b", by_digest.clone())),
            ("oci-archive:-", archive("-", Selector::Only)),
            ("oci-archive:a.tar:latest", archive("a.tar", tag("latest"))),
            (&format!("oci-archive:a.tar@{digest}"), archive("a.tar", by_digest)),
            ("docker-archive:a.tar", docker("a.tar", None)),
            ("docker-archive:-:h.example:5000/a:1", docker("-", Some("h.example:5000/a:1"))),
            ("dir", None),
            ("./oci:dir", None),
            ("docker:debian", None),
            ("", None),
        ] {
            assert_eq!(parse(word).unwrap(), expected, "{word}");
        }
    }

    #[test]
    fn bad_locations_say_what_is_wrong() {
        for (word, expected) in [
            ("oci:", "the name is empty"),
            ("oci:Debian", "lower case"),
            ("oci-layout:", "path of the image is missing"),
            ("oci-layout::tag", "path of the image is missing"),
            ("oci-layout:dir:", "empty or not UTF-8"),
            ("oci-layout:dir@sha256:12", "64 digits"),
            ("docker-archive:a.tar:", "empty or not UTF-8"),
        ] {
            let error = format!("{:#}", parse(word).expect_err(word));
            assert!(error.contains(expected), "{word}: {error}");
        }
        assert!(Location::parse(OsStr::from_bytes(b"oci:\xff")).is_err());
        // A path need not be UTF-8.
        assert!(Location::parse(OsStr::from_bytes(b"oci-layout:\xff")).is_ok());
    }
}
