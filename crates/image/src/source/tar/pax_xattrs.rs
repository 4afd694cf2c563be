//! Extended attributes in the extended headers of a tar archive.
//!
//! | Key | Writer | Value |
//! |---|---|---|
//! | `SCHILY.xattr.NAME` | star(5), GNU tar, libarchive | the bytes of the attribute |
//! | `LIBARCHIVE.xattr.NAME` | libarchive, in addition to the key above | base 64 |
//! | `RHT.security.selinux` | GNU tar `--selinux` | text of `security.selinux` |
//! | `SCHILY.acl.access`, `.default` | star(5), GNU tar `--acls`, libarchive | [`posix_acl`] as text |
//! | `SCHILY.acl.ace` | libarchive | an NFS access control list, which Linux cannot store |
//!
//! GNU tar writes `=` and `%` in NAME as `%3D` and `%25`. libarchive escapes the NAME of its
//! own key in the same way, and unprintable bytes, too. It does not escape the NAME of
//! `SCHILY.xattr`; there the first `=` of the NAME looks like its end.

use anyhow::{Context, Result, bail};

use crate::tree::Xattrs;
use crate::tree::posix_acl::{self, AclText};

/// Prefixes of the records, as in the table above.
const SCHILY: &[u8] = b"SCHILY.xattr.";
const LIBARCHIVE: &[u8] = b"LIBARCHIVE.xattr.";
const ACL_ACCESS: &[u8] = b"SCHILY.acl.access=";
const ACL_DEFAULT: &[u8] = b"SCHILY.acl.default=";
const ACL_NFS: &[u8] = b"SCHILY.acl.ace=";
const SELINUX: &[u8] = b"RHT.security.selinux=";

/// Bytes that GNU tar escapes in a name.
const GNU_ESCAPED: &[u8] = b"=%";

/// Name of the attribute whose value is in the record [`SELINUX`].
const SELINUX_NAME: &[u8] = b"security.selinux";

/// Name and value of an attribute.
type XattrPair = (Box<[u8]>, Box<[u8]>);

/// The records of one extended header that contain attributes.
#[derive(Debug, Default)]
pub(super) struct XattrRecords {
    /// Each `NAME=VALUE` of `SCHILY.xattr`. Only a record of libarchive can tell which `=`
    /// ends the name.
    schily: Vec<Box<[u8]>>,
    /// Attributes of `LIBARCHIVE.xattr`, whose names are exact.
    libarchive: Vec<XattrPair>,
    /// Attributes from the other keys.
    others: Vec<XattrPair>,
    /// Names of the attributes whose access control lists could not be read.
    lost: Vec<&'static [u8]>,
}

impl XattrRecords {
    /// Adds the record `KEY=VALUE`. Returns `false` if it does not contain an attribute.
    ///
    /// # Errors
    /// A value that should be base 64 and is not.
    pub(super) fn take(&mut self, record: &[u8]) -> Result<bool> {
        if let Some(rest) = record.strip_prefix(SCHILY) {
            self.schily.push(rest.into());
        } else if let Some(rest) = record.strip_prefix(LIBARCHIVE) {
            let (name, value) = split(rest);
            self.libarchive.push((unescaped(name, |_| true), base64(value)?));
        } else if let Some(label) = record.strip_prefix(SELINUX) {
            self.others.push((SELINUX_NAME.into(), selinux(label)));
        } else if let Some(text) = record.strip_prefix(ACL_ACCESS) {
            self.acl(posix_acl::ACCESS, text, posix_acl::from_text);
        } else if let Some(text) = record.strip_prefix(ACL_DEFAULT) {
            self.acl(posix_acl::DEFAULT, text, posix_acl::default_from_text);
        } else if let Some(text) = record.strip_prefix(ACL_NFS) {
            self.lost.extend((!text.is_empty()).then_some(&b""[..]));
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn acl(&mut self, name: &'static [u8], text: &[u8], read: fn(&[u8]) -> AclText) {
        match read(text) {
            _ if text.is_empty() => self.others.push((name.into(), Box::default())),
            // The permission bits say the same. An empty value removes the list of a global
            // header.
            AclText::Mode => self.others.push((name.into(), Box::default())),
            AclText::List(value) => self.others.push((name.into(), value.into())),
            AclText::Unclear => self.lost.push(name),
        }
    }

    /// Adds the attributes to `xattrs`, which has those of the global header. An empty value
    /// removes an attribute of the global header. Returns whether an access control list
    /// is lost.
    pub(super) fn add_to(self, xattrs: &mut Xattrs) -> bool {
        let is_known = |record: &[u8]| {
            self.libarchive.iter().any(|(name, value)| {
                let rest = record.strip_prefix(&**name).and_then(|rest| rest.strip_prefix(b"="));
                rest == Some(&**value)
            })
        };
        let schily = self.schily.iter().filter(|record| !is_known(record)).map(|record| {
            let (name, value) = split(record);
            (unescaped(name, |byte| GNU_ESCAPED.contains(&byte)), value.into())
        });
        let schily: Vec<XattrPair> = schily.collect();
        // Add the keys with exact values last, so that they win.
        for (name, value) in self.others {
            match value.is_empty() {
                true => drop(xattrs.remove(&name)),
                false => drop(xattrs.insert(name, value)),
            }
        }
        for (name, value) in schily.into_iter().chain(self.libarchive) {
            match value.is_empty() && xattrs.contains_key(&name) {
                true => drop(xattrs.remove(&name)),
                false => drop(xattrs.insert(name, value)),
            }
        }
        self.lost.iter().any(|name| !xattrs.contains_key(*name))
    }
}

/// Splits a record at its first `=`.
fn split(record: &[u8]) -> (&[u8], &[u8]) {
    let equals = record.iter().position(|&byte| byte == b'=').unwrap_or(record.len());
    let (name, value) = record.split_at(equals);
    (name, value.get(1..).unwrap_or_default())
}

/// The value of `security.selinux` for a label: libselinux stores a NUL after it.
fn selinux(label: &[u8]) -> Box<[u8]> {
    let end = label.iter().position(|&byte| byte == 0).unwrap_or(label.len());
    match label.get(..end).unwrap_or_default() {
        b"" => Box::default(),
        label => [label, b"\0"].concat().into(),
    }
}

/// Replaces each `%XX` in a name by its byte, if `is_escaped` says that the writer escapes
/// that byte.
fn unescaped(name: &[u8], is_escaped: fn(u8) -> bool) -> Box<[u8]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (mut bytes, mut rest) = (Vec::new(), name);
    while let Some((&first, behind)) = rest.split_first() {
        let escaped = match (first, behind) {
            (b'%', &[high, low, ..]) => digit(high).zip(digit(low)),
            _ => None,
        };
        let escaped = escaped.map(|(high, low)| high << 4 | low).filter(|byte| is_escaped(*byte));
        bytes.push(escaped.unwrap_or(first));
        rest = behind.get(if escaped.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    bytes.into()
}

/// Decodes base 64 (RFC 4648), with or without padding at its end.
fn base64(text: &[u8]) -> Result<Box<[u8]>> {
    let end = text.iter().rposition(|&byte| byte != b'=').map_or(0, |last| last + 1);
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for &letter in text.get(..end).unwrap_or_default() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("its value is not in base 64"),
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).context("base 64")?);
        }
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(records: &[&[u8]]) -> (Xattrs, bool) {
        let mut taken = XattrRecords::default();
        for record in records {
            assert!(taken.take(record).unwrap(), "{}", record.escape_ascii());
        }
        let mut xattrs = Xattrs::new();
        let has_lost_acl = taken.add_to(&mut xattrs);
        (xattrs, has_lost_acl)
    }

    fn one(name: &[u8], value: &[u8]) -> (Xattrs, bool) {
        ([(name.into(), value.into())].into(), false)
    }

    #[test]
    fn attributes_of_all_writers_are_read() {
        for (name, records, expected) in [
            ("star", &[&b"SCHILY.xattr.user.a=1"[..]][..], one(b"user.a", b"1")),
            ("empty", &[b"SCHILY.xattr.user.a="], one(b"user.a", b"")),
            ("GNU", &[b"SCHILY.xattr.user.a%3Db%25=1=2"], one(b"user.a=b%", b"1=2")),
            ("not escaped", &[b"SCHILY.xattr.user.%41=1"], one(b"user.%41", b"1")),
            ("a lone %", &[b"SCHILY.xattr.user.5%=1"], one(b"user.5%", b"1")),
            (
                "libarchive",
                &[b"LIBARCHIVE.xattr.user.a%3Db=MT0y", b"SCHILY.xattr.user.a=b=1=2"],
                one(b"user.a=b", b"1=2"),
            ),
            (
                "libarchive, the other way round",
                &[b"SCHILY.xattr.user.%41=/w", b"LIBARCHIVE.xattr.user.%2541=L3c"],
                one(b"user.%41", b"/w"),
            ),
            ("libarchive alone", &[b"LIBARCHIVE.xattr.user.a=/w"], one(b"user.a", b"\xff")),
            ("padded", &[b"LIBARCHIVE.xattr.user.a=/w=="], one(b"user.a", b"\xff")),
            ("SELinux", &[b"RHT.security.selinux=a:b:c"], one(b"security.selinux", b"a:b:c\0")),
            ("with NUL", &[b"RHT.security.selinux=a:b:c\0"], one(b"security.selinux", b"a:b:c\0")),
            (
                "both",
                &[b"SCHILY.xattr.security.selinux=exact", b"RHT.security.selinux=other"],
                one(b"security.selinux", b"exact"),
            ),
            (
                "the mode",
                &[b"SCHILY.acl.access=user::rwx,group::r-x,other::r-x"],
                (Xattrs::new(), false),
            ),
            ("no list", &[b"SCHILY.acl.access=user:ann:rwx"], (Xattrs::new(), true)),
            (
                "GNU, all of it",
                &[
                    b"SCHILY.acl.access=user::rw-,user:ann:r--,group::r--,mask::r--,other::r--",
                    b"SCHILY.xattr.system.posix_acl_access=raw",
                ],
                one(posix_acl::ACCESS, b"raw"),
            ),
            ("NFS", &[b"SCHILY.acl.ace=everyone@:r:allow"], (Xattrs::new(), true)),
        ] {
            assert_eq!(taken(records), expected, "{name}");
        }
        let list = b"SCHILY.acl.access=user::rwx,user:ann:r--:7,group::r-x,mask::r-x,other::r-x";
        let (xattrs, has_lost_acl) = taken(&[list]);
        assert!(posix_acl::is_list(&xattrs[posix_acl::ACCESS]) && !has_lost_acl);
    }

    #[test]
    fn an_empty_value_removes_an_attribute() {
        let mut xattrs = taken(&[b"SCHILY.xattr.user.a=1", b"RHT.security.selinux=x"]).0;
        let mut records = XattrRecords::default();
        records.take(b"SCHILY.xattr.user.a=").unwrap();
        records.take(b"RHT.security.selinux=").unwrap();
        records.add_to(&mut xattrs);
        assert!(xattrs.is_empty());
        assert!(!XattrRecords::default().take(b"path=SCHILY.xattr.user.a=1").unwrap());
        assert!(XattrRecords::default().take(b"LIBARCHIVE.xattr.user.a=?").is_err());
    }
}
