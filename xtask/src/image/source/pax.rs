//! What a tar archive says of its next member before that member.
//!
//! Format: records `LENGTH KEY=VALUE\n`, LENGTH counting the whole record
//! (POSIX pax(1)); `GNU.sparse.*` in tar(5) of libarchive and the manual of GNU
//! tar, "Storing Sparse Files"; `SCHILY.xattr.NAME` in star(5).

use anyhow::{Context, Result, ensure};

use crate::image::tree::Xattrs;

/// What takes the place of the fields of a header.
#[derive(Clone, Debug, Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<i64>,
    pub(super) xattrs: Xattrs,
    pub(super) has_acl: bool,
    pub(super) sparse: SparseRecords,
}

/// `GNU.sparse.*`
#[derive(Clone, Debug, Default)]
pub(super) struct SparseRecords {
    /// The path; the member's own is made up.
    pub(super) name: Option<Vec<u8>>,
    /// 1 where the map is before the data; 0 where it is in the records.
    pub(super) major: Option<u64>,
    pub(super) size: Option<u64>,
    /// Offsets and lengths by turns.
    pub(super) map: Vec<u64>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";

impl Extended {
    /// Takes the records of one extended header.
    ///
    /// # Errors
    /// Text that is no records, or a value that is no number where one is needed.
    pub(super) fn take(&mut self, mut text: &[u8]) -> Result<()> {
        // Some writers pad with NULs.
        while !text.is_empty() && text[0] != 0 {
            let blank = text.iter().position(|&byte| byte == b' ').context(DAMAGED)?;
            let length: usize = number(&text[..blank])?;
            let record = text.get(blank + 1..length).context(DAMAGED)?;
            let record = record.strip_suffix(b"\n").context(DAMAGED)?;
            let equals = record.iter().position(|&byte| byte == b'=').context(DAMAGED)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let taken = self.record(key, value);
            taken.with_context(|| format!("\"{}\"", key.escape_ascii()))?;
            text = &text[length..];
        }
        Ok(())
    }

    /// An empty value takes back what a global header said.
    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let bytes = || (!value.is_empty()).then(|| value.to_vec());
        let count = || (!value.is_empty()).then(|| number(value)).transpose();
        match key {
            b"path" => self.path = bytes(),
            b"linkpath" => self.link = bytes(),
            b"size" => self.size = count()?,
            b"uid" => self.uid = count()?,
            b"gid" => self.gid = count()?,
            b"mtime" => self.mtime = (!value.is_empty()).then(|| seconds(value)).transpose()?,
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
            b"SCHILY.acl.access" | b"SCHILY.acl.default" => self.has_acl = true,
            _ => {
                if let Some(name) = key.strip_prefix(XATTR).filter(|name| !name.is_empty()) {
                    self.xattrs.insert(name.into(), value.into());
                }
            }
        }
        Ok(())
    }
}

const DAMAGED: &str = "damaged extended header";

fn number<T: std::str::FromStr>(text: &[u8]) -> Result<T> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.with_context(|| format!("\"{}\" is no number", text.escape_ascii()))
}

/// Whole seconds of `[-]SECONDS[.FRACTION]`, rounded down.
fn seconds(text: &[u8]) -> Result<i64> {
    let mut parts = text.splitn(2, |&byte| byte == b'.');
    let whole: i64 = number(parts.next().unwrap_or_default())?;
    let fraction = parts.next().unwrap_or_default();
    ensure!(fraction.iter().all(u8::is_ascii_digit), "a time with no number behind its point");
    let is_whole = fraction.iter().all(|&digit| digit == b'0');
    Ok(if text.starts_with(b"-") && !is_whole { whole.saturating_sub(1) } else { whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_may_have_any_bytes() {
        let mut extended = Extended::default();
        extended.take(b"30 SCHILY.xattr.user.a=x\n=\0\xffy\n12 path=a\nb\n5 x=\n\0\0").unwrap();
        assert_eq!(extended.path.as_deref(), Some(&b"a\nb"[..]));
        assert_eq!(*extended.xattrs[&b"user.a"[..]], *b"x\n=\0\xffy");
        extended.take(b"8 path=\n").unwrap();
        assert_eq!(extended.path, None);
    }

    #[test]
    fn damage_is_noticed() {
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
    fn times_are_rounded_down() {
        for (text, expected) in
            [("5", 5), ("5.9", 5), ("-5.0", -5), ("-5.1", -6), ("-0.5", -1), ("7.", 7)]
        {
            assert_eq!(seconds(text.as_bytes()).unwrap(), expected, "{text}");
        }
    }
}
