//! Extended headers of a tar archive, which describe the member after them.
//!
//! Format: records `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record (POSIX
//! pax(1)). `GNU.sparse.*` is described in tar(5) of libarchive and in the manual of GNU
//! tar, "Storing Sparse Files". Records with extended attributes are read by
//! [`super::pax_xattrs`].

use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::pax_xattrs::XattrRecords;
use crate::tree::{NANOSECONDS_MAX, Xattrs};

/// Values that replace the fields of the next member's header. Clones share large values.
#[derive(Clone, Debug, Default)]
pub(super) struct Extended {
    /// Path (`path`).
    pub(super) path: Option<Arc<[u8]>>,
    /// Target of a link (`linkpath`).
    pub(super) link: Option<Arc<[u8]>>,
    /// Bytes of data in the archive (`size`).
    pub(super) size: Option<u64>,
    /// Owner (`uid`).
    pub(super) uid: Option<u64>,
    /// Group (`gid`).
    pub(super) gid: Option<u64>,
    /// Modification time in seconds since 1970, and nanoseconds to add (`mtime`).
    pub(super) mtime: Option<(i64, u32)>,
    /// Major number of a device (`SCHILY.devmajor`).
    pub(super) dev_major: Option<u64>,
    /// Minor number of a device (`SCHILY.devminor`).
    pub(super) dev_minor: Option<u64>,
    /// Extended attributes; the keys are in [`super::pax_xattrs`].
    pub(super) xattrs: Xattrs,
    /// Whether the member has an access control list that Linux cannot store.
    pub(super) has_lost_acl: bool,
    /// Whether the file begins in another volume (`GNU.volume.filename`).
    pub(super) is_continued: bool,
    /// Values about a sparse file (`GNU.sparse.*`).
    pub(super) sparse: SparseRecords,
}

/// Values of the records `GNU.sparse.*`, which describe a sparse file.
#[derive(Clone, Debug, Default)]
pub(super) struct SparseRecords {
    /// The path (`GNU.sparse.name`); the path in the header is an artificial one.
    pub(super) name: Option<Arc<[u8]>>,
    /// Version of the format (`GNU.sparse.major`): with 1, the map precedes the data; with 0,
    /// the map is in the records.
    pub(super) major: Option<u64>,
    /// Bytes of the file, holes included (`GNU.sparse.realsize` or `.size`).
    pub(super) size: Option<u64>,
    /// The map: offset and length of each piece, one number after another.
    pub(super) map: Vec<u64>,
}

impl Extended {
    /// Adds the records of one extended header.
    ///
    /// # Errors
    /// Text that does not consist of records; a value that should be a number and is not.
    pub(super) fn take(&mut self, mut text: &[u8]) -> Result<()> {
        let mut xattrs = XattrRecords::default();
        // Some writers pad the records with NUL bytes.
        while !text.is_empty() && text[0] != 0 {
            let blank = text.iter().position(|&byte| byte == b' ').context(DAMAGED)?;
            let length: usize = number(&text[..blank])?;
            let record = text.get(blank + 1..length).context(DAMAGED)?;
            let record = record.strip_suffix(b"\n").context(DAMAGED)?;
            let equals = record.iter().position(|&byte| byte == b'=').context(DAMAGED)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let taken = xattrs.take(record).and_then(|is_taken| match is_taken {
                true => Ok(()),
                false => self.record(key, value),
            });
            taken.with_context(|| format!("\"{}\"", key.escape_ascii()))?;
            text = &text[length..];
        }
        self.has_lost_acl |= xattrs.add_to(&mut self.xattrs);
        Ok(())
    }

    /// Adds the records of a global header. Ignores records about the data of one member,
    /// which make no sense there.
    ///
    /// # Errors
    /// Those of [`Extended::take`].
    pub(super) fn take_global(&mut self, text: &[u8]) -> Result<()> {
        self.take(text)?;
        (self.size, self.sparse, self.is_continued) = (None, SparseRecords::default(), false);
        Ok(())
    }

    /// Adds one record. An empty value removes the value of a global header.
    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let bytes = || (!value.is_empty()).then(|| value.into());
        let count = || (!value.is_empty()).then(|| number(value)).transpose();
        match key {
            b"path" => self.path = bytes(),
            b"linkpath" => self.link = bytes(),
            b"size" => self.size = count()?,
            b"uid" => self.uid = count()?,
            b"gid" => self.gid = count()?,
            b"mtime" => self.mtime = (!value.is_empty()).then(|| time(value)).transpose()?,
            b"SCHILY.devmajor" => self.dev_major = count()?,
            b"SCHILY.devminor" => self.dev_minor = count()?,
            b"GNU.volume.filename" => self.is_continued = !value.is_empty(),
            b"GNU.sparse.name" => self.sparse.name = bytes(),
            b"GNU.sparse.major" => self.sparse.major = count()?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = count()?,
            b"GNU.sparse.map" => {
                let numbers = value.split(|&byte| byte == b',').filter(|text| !text.is_empty());
                self.sparse.map = numbers.map(number).collect::<Result<_>>()?;
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                self.sparse.map.push(number(value)?);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Error for text that does not consist of records.
const DAMAGED: &str = "damaged extended header";

fn number<T: std::str::FromStr>(text: &[u8]) -> Result<T> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.with_context(|| format!("\"{}\" is no number", text.escape_ascii()))
}

/// Parses a time `[-]SECONDS[.FRACTION]` as whole seconds, rounded down, and nanoseconds to
/// add. Further digits are left out.
fn time(text: &[u8]) -> Result<(i64, u32)> {
    let mut parts = text.splitn(2, |&byte| byte == b'.');
    let whole: i64 = number(parts.next().unwrap_or_default())?;
    let fraction = parts.next().unwrap_or_default();
    ensure!(fraction.iter().all(u8::is_ascii_digit), "a time without digits after its point");
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |sum, digit| 10 * sum + u32::from(digit - b'0'));
    Ok(match text.starts_with(b"-") && nanoseconds > 0 {
        true => (whole.saturating_sub(1), NANOSECONDS_MAX + 1 - nanoseconds),
        false => (whole, nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_may_contain_any_bytes() {
        let mut extended = Extended::default();
        extended.take(b"30 SCHILY.xattr.user.a=x\n=\0\xffy\n12 path=a\nb\n5 x=\n\0\0").unwrap();
        assert_eq!(extended.path.as_deref(), Some(&b"a\nb"[..]));
        assert_eq!(*extended.xattrs[&b"user.a"[..]], *b"x\n=\0\xffy");
        extended.take(b"8 path=\n").unwrap();
        assert_eq!(extended.path, None);
    }

    #[test]
    fn global_records_about_data_are_ignored() {
        let mut global = Extended::default();
        global.take_global(b"9 size=5\n11 mtime=7\n21 GNU.sparse.size=5\n").unwrap();
        assert_eq!((global.size, global.sparse.size, global.mtime), (None, None, Some((7, 0))));
    }

    #[test]
    fn damaged_records_are_errors() {
        for text in [
            "5",
            "x a=b\n",
            "7 a=b\n",
            "5 a=b\n",
            "6 ab\n\n",
            "99 a=b\n",
            "10 size=x\n",
            "0 a=b\n",
            "3 \n",
            "18446744073709551616 a=b\n",
            "13 mtime=1.x\n",
        ] {
            assert!(Extended::default().take(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn times_are_seconds_and_nanoseconds() {
        for (text, expected) in [
            ("5", (5, 0)),
            ("5.9", (5, 900_000_000)),
            ("5.0000000019", (5, 1)),
            ("-5.0", (-5, 0)),
            ("-5.1", (-6, 900_000_000)),
            ("-0.5", (-1, 500_000_000)),
            ("7.", (7, 0)),
        ] {
            assert_eq!(time(text.as_bytes()).unwrap(), expected, "{text}");
        }
    }
}
