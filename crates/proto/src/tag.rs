//! Tags: names under which the host exports directories by virtiofs.
//!
//! Virtio 1.2 §5.11.4 (`struct virtio_fs_config`): up to 36 bytes, padded with NUL. The
//! guest also uses a tag as the name of a directory below `/run/mnt`.
//!
//! Invariant: a [`Tag`] has 1 to 36 bytes, has no `/` or NUL, and is not `.` or `..`. So
//! the path of a directory and a tag joined stays inside that directory.

use core::fmt;

use crate::error::{Error, Result};
use crate::text::show;

/// Longest tag in bytes (`struct virtio_fs_config`, virtio 1.2 §5.11.4).
pub const TAG_MAX: usize = 36;

/// A valid virtiofs tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag<'a>(&'a [u8]);

impl<'a> Tag<'a> {
    /// Checks `bytes`.
    ///
    /// # Errors
    /// `bytes` break a rule for tags; the error names the first.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let problem = match bytes {
            b"" => "it is empty",
            b"." | b".." => "it names a directory",
            _ if bytes.len() > TAG_MAX => "it is longer than 36 bytes",
            _ if bytes.contains(&b'/') => "it contains '/'",
            _ if bytes.contains(&0) => "it contains NUL",
            _ => return Ok(Self(bytes)),
        };
        Err(Error::new(
            format_args!("virtiofs tag \"{}\": {problem}", show(bytes)),
            "a tag is 1-36 bytes without '/'",
        ))
    }

    /// The tag as the host exports it.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

/// The tag in quotes; bytes that are not printable are escaped.
impl fmt::Display for Tag<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", show(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn limits() {
        assert!(Tag::parse(&[b'x'; TAG_MAX]).is_ok());
        for (bad, problem) in [
            (&b""[..], "empty"),
            (&[b'x'; TAG_MAX + 1], "longer"),
            (b"a/b", "'/'"),
            (b"a\0b", "NUL"),
            (b".", "directory"),
            (b"..", "directory"),
        ] {
            let text = Tag::parse(bad).unwrap_err().to_string();
            assert!(text.contains(problem), "{text}");
        }
        assert!(Tag::parse(b"...").is_ok());
    }

    #[test]
    fn display_escapes() {
        assert_eq!(Tag::parse(b"a\"\xff").unwrap().to_string(), "\"a\\\"\\xff\"");
    }
}
