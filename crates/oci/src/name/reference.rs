//! References to images in registries: `[HOST[:PORT]/]NAME[:TAG][@DIGEST]`.
//!
//! Format: OCI distribution specification, "Pulling manifests", for names and tags. As with
//! docker(1) and podman(1), a name without a host is one of Docker Hub, and a name without a
//! `/` is one of its official images.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::name::digest::Digest;

/// Host of a reference that names none.
const DEFAULT_HOST: &str = "docker.io";
/// Former name of [`DEFAULT_HOST`].
const FORMER_HOST: &str = "index.docker.io";
/// Directory of the official images of [`DEFAULT_HOST`].
const OFFICIAL: &str = "library";
/// Tag of a reference that has neither a tag nor a digest.
const DEFAULT_TAG: &str = "latest";
/// Most bytes of a repository's name, with the host.
const NAME_MAX: usize = 255;
/// Most bytes of a tag.
const TAG_MAX: usize = 128;

/// A reference to an image in a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Host name or address of the registry, with the port if the reference has one.
    pub host: String,
    /// Name of the repository on that host, without slashes at its ends.
    pub repository: String,
    /// The tag. If there is also a digest, the digest chooses the image.
    pub tag: Option<String>,
    /// Digest of the manifest or index.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Parses the name that a new image gets: `[HOST[:PORT]/]NAME[:TAG]`. A name without a tag gets
    /// the tag `latest`.
    ///
    /// # Errors
    /// Text that is no name; a digest, for the contents of the image give it.
    pub fn for_new_image(text: &str) -> Result<Self> {
        let refused = || format!("name of the new image {}", text.escape_debug());
        let parsed = match text.contains('@') {
            true => Err(anyhow!("a digest cannot be chosen: give NAME[:TAG]")),
            false => parse(text),
        };
        parsed.with_context(refused)
    }

    /// The part of a request's path that names the manifest: the digest, or else the tag.
    #[must_use]
    pub fn selector(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, tag) => tag.as_deref().unwrap_or(DEFAULT_TAG),
        }
    }
}

impl FromStr for Reference {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).with_context(|| format!("image {}", text.escape_debug()))
    }
}

fn parse(text: &str) -> Result<Reference> {
    ensure!(!text.is_empty(), "the name is empty");
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse()?)),
        None => (text, None),
    };
    let (host, path) = match rest.split_once('/') {
        Some((host, path)) if is_host(host) => (host, path),
        _ => (DEFAULT_HOST, rest),
    };
    check_host(host)?;
    // A colon before the last slash is that of a port, which is part of the host.
    let (name, tag) = match path.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (path, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    for part in name.split('/') {
        check_name(part)?;
    }
    let host = if host == FORMER_HOST { DEFAULT_HOST } else { host };
    let repository = match host == DEFAULT_HOST && !name.contains('/') {
        true => format!("{OFFICIAL}/{name}"),
        false => name.to_owned(),
    };
    ensure!(host.len() + 1 + repository.len() <= NAME_MAX, "more than {NAME_MAX} bytes");
    let default = || digest.is_none().then(|| DEFAULT_TAG.to_owned());
    let tag = tag.map(str::to_owned).or_else(default);
    Ok(Reference { host: host.to_owned(), repository, tag, digest })
}

/// Whether the first part of a name is a host. Names of repositories have no upper-case
/// letters, and their first part has neither dots nor colons.
fn is_host(part: &str) -> bool {
    part == "localhost"
        || part.contains(['.', ':', '['])
        || part.contains(|c: char| c.is_ascii_uppercase())
}

fn check_host(host: &str) -> Result<()> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').context("a [ without ]")?;
            let address = address.parse::<std::net::Ipv6Addr>();
            address.map_err(|_| anyhow!("[…] is not an IPv6 address"))?;
            ("v6", rest.strip_prefix(':').or((!rest.is_empty()).then_some("")))
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    if let Some(port) = port {
        let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
        ensure!(is_port && !port.starts_with('+'), "\"{}\" is not a port", port.escape_debug());
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    ensure!(name.split('.').all(is_label), "\"{}\" is not a host", host.escape_debug());
    Ok(())
}

/// Checks one part of a repository's name: letters and digits, and between them `.`, `_`, `__`
/// or any number of `-`.
fn check_name(part: &str) -> Result<()> {
    if part.contains(|c: char| c.is_ascii_uppercase()) {
        bail!("\"{}\": names of images are lower case", part.escape_debug());
    }
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_separator =
        |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|b| b == b'-');
    let ends = [part.bytes().next(), part.bytes().next_back()];
    let is_name = ends.iter().all(|byte| byte.is_some_and(is_word))
        && separators.into_iter().all(is_separator);
    ensure!(
        is_name,
        "\"{}\" is not part of a name: letters and digits, and between them . _ __ or -",
        part.escape_debug()
    );
    Ok(())
}

fn check_tag(tag: &str) -> Result<()> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_tag = tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'));
    ensure!(
        is_tag && tag.len() <= TAG_MAX,
        "\"{}\" is not a tag: at most {TAG_MAX} letters, digits, _ . and -",
        tag.escape_debug()
    );
    Ok(())
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn references_are_parsed() {
        let digest = Digest::of(b"");
        let with_digest = format!("a/b@{digest}");
        let with_both = format!("h.example/b:1@{digest}");
        for (text, host, repository, selector, shown) in [
            ("debian", "docker.io", "library/debian", "latest", "docker.io/library/debian:latest"),
            ("debian:12", "docker.io", "library/debian", "12", "docker.io/library/debian:12"),
            (
                "index.docker.io/debian",
                "docker.io",
                "library/debian",
                "latest",
                "docker.io/library/debian:latest",
            ),
            ("acme/app:1.2", "docker.io", "acme/app", "1.2", "docker.io/acme/app:1.2"),
            ("localhost/app", "localhost", "app", "latest", "localhost/app:latest"),
            ("127.0.0.1:5000/a/b/c:x", "127.0.0.1:5000", "a/b/c", "x", "127.0.0.1:5000/a/b/c:x"),
            ("[::1]:5000/a", "[::1]:5000", "a", "latest", "[::1]:5000/a:latest"),
            ("[::1]/a", "[::1]", "a", "latest", "[::1]/a:latest"),
            ("Host/a", "Host", "a", "latest", "Host/a:latest"),
            (
                "r.example/a-b__c.d_e---f",
                "r.example",
                "a-b__c.d_e---f",
                "latest",
                "r.example/a-b__c.d_e---f:latest",
            ),
            (
                &with_digest,
                "docker.io",
                "a/b",
                digest.as_str(),
                &format!("docker.io/{with_digest}"),
            ),
            (&with_both, "h.example", "b", digest.as_str(), &with_both),
        ] {
            let found: Reference = text.parse().unwrap_or_else(|error| panic!("{text}: {error:#}"));
            assert_eq!((&*found.host, &*found.repository), (host, repository), "{text}");
            assert_eq!(found.selector(), selector, "{text}");
            assert_eq!(found.to_string(), shown, "{text}");
            assert_eq!(shown.parse::<Reference>().unwrap(), found, "{text}");
        }
    }

    #[test]
    fn bad_references_say_what_is_wrong() {
        let long_name = format!("h.example/{}", "a/".repeat(124) + "a");
        for (text, word) in [
            ("", "empty"),
            ("Debian", "lower case"),
            ("acme/App", "lower case"),
            ("a//b", "not part of a name"),
            ("/a", "not part of a name"),
            ("a/", "not part of a name"),
            ("a..b", "not part of a name"),
            ("-a", "not part of a name"),
            ("a b", "not part of a name"),
            ("é", "not part of a name"),
            ("../../etc/passwd", "not a host"),
            ("a:", "not a tag"),
            ("a:.x", "not a tag"),
            ("a:x y", "not a tag"),
            (&format!("a:{}", "x".repeat(129)), "not a tag"),
            ("a@sha256:12", "64 digits"),
            ("a@md5:12", "only sha256"),
            ("h.example:0/a", "not a port"),
            ("h.example:99999/a", "not a port"),
            ("h.example:/a", "not a port"),
            ("h..example/a", "not a host"),
            ("-h.example/a", "not a host"),
            ("[::1/a", "without ]"),
            ("[x]/a", "IPv6"),
            ("[::1]5/a", "not a port"),
            (&long_name, "255 bytes"),
        ] {
            let error = text.parse::<Reference>().expect_err(text);
            assert!(format!("{error:#}").contains(word), "{text}: {error:#}");
        }
    }

    #[test]
    fn a_new_image_has_a_name_and_a_tag() {
        for (text, tag, shown) in [
            ("app", "latest", "docker.io/library/app:latest"),
            ("app:1", "1", "docker.io/library/app:1"),
            ("localhost/app:1", "1", "localhost/app:1"),
            ("r.example:5000/a/b:v1.0", "v1.0", "r.example:5000/a/b:v1.0"),
        ] {
            let found = Reference::for_new_image(text).unwrap();
            assert_eq!((found.tag.as_deref(), &*found.to_string()), (Some(tag), shown), "{text}");
        }
        let with_digest = format!("app:1@{}", Digest::of(b""));
        for (text, word) in [
            ("", "empty"),
            ("App", "lower case"),
            ("app:", "not a tag"),
            ("app@1", "NAME[:TAG]"),
            (&with_digest, "NAME[:TAG]"),
        ] {
            let error = format!("{:#}", Reference::for_new_image(text).expect_err(text));
            assert!(error.starts_with("name of the new image ") && error.contains(word), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "[a-zA-Z0-9.:/@_\\[\\] -]{0,60}|\\PC{0,30}") {
            if let Ok(found) = text.parse::<Reference>() {
                // A tag may have several dots.
                let name = format!("{}/{}", found.host, found.repository);
                prop_assert!(!name.contains(".."), "{}", name);
                let shown = found.to_string();
                prop_assert_eq!(shown.parse::<Reference>().unwrap(), found);
            }
        }
    }
}
