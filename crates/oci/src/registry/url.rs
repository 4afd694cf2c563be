//! Addresses of HTTP requests, and to which of them a redirect may lead.
//!
//! Format: RFC 3986, of which a registry uses little: `http` and `https`, a host, a port, a path
//! and a query. A user name in an address is refused: it would be a credential.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context, Result, bail, ensure};

use crate::shown::shown;

/// Most bytes of an address; a signed query has about two thousand.
const URL_MAX: usize = 16 << 10;

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scheme {
    /// TLS.
    Https,
    /// Plain text.
    Http,
}

impl Scheme {
    fn prefix(self) -> &'static str {
        match self {
            Self::Https => "https://",
            Self::Http => "http://",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

/// An address. It is shown without its query, which may contain a signature.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// Encrypted or not.
    pub(super) scheme: Scheme,
    /// Host, and port if it was given.
    pub(super) authority: String,
    /// Path, from its first `/` on, and query.
    pub(super) path: String,
}

impl Url {
    /// The address of `path` at `authority`.
    #[must_use]
    pub(super) fn new(scheme: Scheme, authority: &str, path: &str) -> Self {
        Self { scheme, authority: authority.to_owned(), path: path.to_owned() }
    }

    /// Parses an address that has a scheme.
    ///
    /// # Errors
    /// Another scheme, no host, or characters that no address has.
    pub(super) fn parse(text: &str) -> Result<Self> {
        ensure!(text.len() <= URL_MAX, "an address of more than {URL_MAX} bytes");
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        ensure!(is_printable, "\"{}\" is not an address", bare(text));
        let after = |scheme: Scheme| {
            let (start, rest) = text.split_at_checked(scheme.prefix().len())?;
            start.eq_ignore_ascii_case(scheme.prefix()).then_some((scheme, rest))
        };
        let Some((scheme, rest)) = after(Scheme::Https).or_else(|| after(Scheme::Http)) else {
            bail!("the address \"{}\" is neither https nor http", bare(text));
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        ensure!(
            !authority.contains('@'),
            "{}: an address with a user name, which is never sent",
            bare(text)
        );
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/{path}"),
        };
        let url = Self { scheme, authority: authority.to_owned(), path };
        url.check_authority().with_context(|| bare(text))?;
        Ok(url)
    }

    /// Checks the host and the port, so that everybody who reads them finds the same.
    fn check_authority(&self) -> Result<()> {
        let (name, port) = match self.authority.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']').unwrap_or_default();
                ensure!(address.parse::<Ipv6Addr>().is_ok(), "not an address of IPv6");
                ("v6", rest.strip_prefix(':').or((!rest.is_empty()).then_some("")))
            }
            None => match self.authority.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (self.authority.as_str(), None),
            },
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        // No directory of certificates is called `.` or `..`, either.
        let is_label = |label: &str| !label.is_empty() && label.chars().all(is_name);
        ensure!(name.split('.').all(is_label), "not a host");
        if let Some(port) = port {
            let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
            let is_port = is_number && port.parse::<u16>().is_ok_and(|port| port != 0);
            ensure!(is_port, "not a port");
        }
        Ok(())
    }

    /// The address to which `location` leads from here.
    ///
    /// # Errors
    /// Those of [`Url::parse`].
    pub(super) fn join(&self, location: &str) -> Result<Self> {
        let colon = location.find(':').unwrap_or(usize::MAX);
        if colon < location.find(['/', '?', '#']).unwrap_or(usize::MAX) {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}{rest}", self.scheme.prefix()));
        }
        let own = self.path.split('?').next().unwrap_or_default();
        let path = match location.chars().next() {
            Some('/') => location.to_owned(),
            Some('?') => format!("{own}{location}"),
            _ => {
                let (dir, _) = own.rsplit_once('/').context("a path without /")?;
                format!("{dir}/{location}")
            }
        };
        Self::parse(&format!("{}{}{path}", self.scheme.prefix(), self.authority))
    }

    /// The whole address, with its query.
    #[must_use]
    pub(super) fn whole(&self) -> String {
        format!("{}{}{}", self.scheme.prefix(), self.authority, self.path)
    }

    /// The host, without the brackets of an IPv6 address.
    #[must_use]
    pub(super) fn host(&self) -> &str {
        host_of(&self.authority)
    }

    /// The port.
    #[must_use]
    pub(super) fn port(&self) -> u16 {
        let port = self.explicit_port().and_then(|port| port.parse().ok());
        port.unwrap_or_else(|| self.scheme.port())
    }

    fn explicit_port(&self) -> Option<&str> {
        let after_host = self.authority.rsplit(']').next().unwrap_or_default();
        after_host.rsplit_once(':').map(|(_, port)| port)
    }

    /// Whether the address is on this machine.
    #[must_use]
    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(self.host())
    }

    /// Whether both addresses lead to the same server: what one may know, the other may.
    #[must_use]
    pub(super) fn is_same_server(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.host().eq_ignore_ascii_case(other.host())
            && self.port() == other.port()
    }

    /// Whether nobody on the way can read a request to this address.
    #[must_use]
    pub(super) fn is_private(&self) -> bool {
        self.scheme == Scheme::Https || self.is_loopback()
    }
}

/// Text that was meant to be an address, for messages: without what may be a user, a password or
/// a query.
#[must_use]
pub(super) fn bare(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    // A password may have any characters, so everything before the last `@` goes first.
    let rest = match rest.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => rest.to_owned(),
    };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    shown(&format!("{scheme}{}", rest.get(..end).unwrap_or_default()))
}

/// The host of an authority, without port and brackets.
#[must_use]
pub(super) fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// Whether a host is this machine: 127.0.0.0/8, `::1` or `localhost`.
#[must_use]
pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "{}{}{path}", self.scheme.prefix(), self.authority)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined() {
        let base = Url::parse("https://r.example:5000/v2/a/blobs/x?b=1").unwrap();
        for (location, whole) in [
            ("https://cdn.example/x?sig=1&b=2#part", "https://cdn.example/x?sig=1&b=2"),
            ("HTTPS://cdn.example", "https://cdn.example/"),
            ("http://[::1]:80?q", "http://[::1]:80/?q"),
            ("//cdn.example/y", "https://cdn.example/y"),
            ("/other", "https://r.example:5000/other"),
            ("/at:colon", "https://r.example:5000/at:colon"),
            ("?c=2", "https://r.example:5000/v2/a/blobs/x?c=2"),
            ("y/z:1", "https://r.example:5000/v2/a/blobs/y/z:1"),
        ] {
            let found = base.join(location).unwrap_or_else(|error| panic!("{location}: {error}"));
            assert_eq!(found.whole(), whole, "{location}");
        }
    }

    #[test]
    fn bad_locations_are_refused() {
        let base = Url::new(Scheme::Https, "r.example", "/v2/");
        let long = format!("/{}", "x".repeat(URL_MAX));
        for location in [
            "ftp://r.example/",
            "file:///etc/passwd",
            "https://user:password@r.example/",
            "https:///x",
            "https://h:0/",
            "https://h:port/",
            "https://h:/",
            "https://h:+1/",
            "https://h:80:443/",
            "https://[::1/",
            "https://[::1]443/",
            "https://[h]/",
            "https://h\\@r.example/",
            "https://h%2e/",
            "https://../",
            "https://./",
            "https://h..example/",
            "https://.example/",
            "https://h./",
            "/a b",
            "/a\r\nHost: x",
            "/é",
            &long,
        ] {
            assert!(base.join(location).is_err(), "{location}");
        }
    }

    #[test]
    fn messages_have_no_secrets() {
        for (text, expected) in [
            ("ftp://r.example/x", "ftp://r.example/x"),
            ("ftp://user:pass@r.example/x?token=1", "ftp://…@r.example/x"),
            ("https://user:p?a#s/s@r.example/x", "https://…@r.example/x"),
            ("ftp://r.example/x?mail=a@b", "ftp://…@b"),
            ("user:pass@r.example", "…@r.example"),
            ("https://r.example/a\u{1b}b#c", "https://r.example/a\\u{1b}b"),
        ] {
            assert_eq!(bare(text), expected);
            let error = format!("{:#}", Url::parse(text).unwrap_err());
            assert!(error.contains(expected) && !error.contains("pass"), "{text}: {error}");
        }
    }

    #[test]
    fn servers_are_compared() {
        let url = |text: &str| Url::parse(text).unwrap();
        let base = url("https://r.example/v2/");
        assert!(base.is_same_server(&url("https://R.example:443/other")));
        assert!(!base.is_same_server(&url("http://r.example:443/")));
        assert!(!base.is_same_server(&url("https://r.example:5000/")));
        assert!(!base.is_same_server(&url("https://r.example.org/")));
        for (text, expected) in [
            ("http://127.8.9.1:5000/", true),
            ("http://[::1]:5000/", true),
            ("http://LocalHost/", true),
            ("http://127.0.0.1.example/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(url(text).is_loopback(), expected, "{text}");
            assert_eq!(url(text).is_private(), expected, "{text}");
        }
        assert!(base.is_private());
        let signed = url("https://h/x?signature=s");
        assert_eq!(signed.to_string(), "https://h/x");
        assert_eq!(format!("{signed:?}"), "https://h/x");
    }
}
