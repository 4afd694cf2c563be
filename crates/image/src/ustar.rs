//! The header block of a member of a tar archive, as different writers fill it.
//!
//! Format: tar(5) of libarchive; POSIX pax(1), "ustar Interchange Format". The offsets of
//! the fields are in the constants below. A number is written in octal digits, with blanks
//! before and a blank or NUL after them, or in base 256, which is marked by the highest bit
//! of the first byte. An empty field means 0.

use anyhow::{Context, Result};

/// Bytes of a header; data is padded to a multiple of this.
pub const BLOCK: usize = 512;

/// A field that contains a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// Name of the field in messages.
    name: &'static str,
    /// Offset in the header.
    at: usize,
    /// Number of bytes.
    len: usize,
}

const fn field(name: &'static str, at: usize, len: usize) -> Field {
    Field { name, at, len }
}

/// Permissions (`mode`).
pub(super) const MODE: Field = field("mode", 100, 8);
/// Owner (`uid`).
pub(super) const UID: Field = field("owner", 108, 8);
/// Group (`gid`).
pub(super) const GID: Field = field("group", 116, 8);
/// Bytes of data (`size`).
pub(super) const SIZE: Field = field("size", 124, 12);
/// Modification time in seconds since 1970 (`mtime`).
pub(super) const MTIME: Field = field("time", 136, 12);
/// Major number of a device (`devmajor`).
pub(super) const DEV_MAJOR: Field = field("device's major number", 329, 8);
/// Minor number of a device (`devminor`).
pub(super) const DEV_MINOR: Field = field("device's minor number", 337, 8);
/// Check sum of the header (`chksum`).
const SUM: Field = field("check sum", 148, 8);

/// Offset and length of the path (`name`).
const NAME: (usize, usize) = (0, 100);
/// Offset of the type (`typeflag`).
const TYPE: usize = 156;
/// Offset and length of the target of a link (`linkname`).
const LINK: (usize, usize) = (157, 100);
/// Offset of `magic` and `version`.
const MAGIC: usize = 257;
/// Offset and length of the directories before the path (`prefix`). Only headers of POSIX
/// have this field; star(1) stores times after the field's NUL.
const PREFIX: (usize, usize) = (345, 155);

/// `magic` of POSIX. The `version` after it should be `00`, but some writers differ.
const POSIX: &[u8] = b"ustar\0";
/// `magic` and `version` of GNU tar.
const GNU: &[u8] = b"ustar  \0";

/// A header block with a right check sum.
#[derive(Clone, Debug)]
pub(super) struct Header([u8; BLOCK]);

/// Writes the right check sum into a header. For tests and fuzzing, which damage headers.
pub fn seal(block: &mut [u8; BLOCK]) {
    let mut header = tar::Header::from_byte_slice(block).clone();
    header.set_cksum();
    block.copy_from_slice(header.as_bytes());
}

impl Header {
    /// Takes `block` for a header; `None` if its check sum is wrong, because then it is not
    /// a header.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Option<Self> {
        let header = Self(*block);
        let found = number(header.bytes((SUM.at, SUM.len)));
        header.sums().iter().any(|sum| found == Some(*sum)).then_some(header)
    }

    /// The check sum: the sum of all bytes, with blanks in place of the sum itself. Some old
    /// writers took bytes as signed numbers; the second sum is theirs.
    fn sums(&self) -> [i64; 2] {
        let (before, rest) = self.0.split_at(SUM.at);
        let after = rest.get(SUM.len..).unwrap_or_default();
        let blanks = [b' '; SUM.len];
        let sum = |number: fn(u8) -> i16| -> i64 {
            let parts = [before, &blanks, after];
            // No part has so many bytes that 32 bits would not suffice.
            let sums = parts.map(|part| part.iter().map(|&byte| i32::from(number(byte))).sum());
            sums.into_iter().map(|sum: i32| i64::from(sum)).sum()
        };
        [sum(i16::from), sum(|byte| i16::from(byte.cast_signed()))]
    }

    fn bytes(&self, (at, len): (usize, usize)) -> &[u8] {
        self.0.get(at..at + len).unwrap_or_default()
    }

    fn text(&self, place: (usize, usize)) -> &[u8] {
        let bytes = self.bytes(place);
        bytes.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    /// Reads the number in `field`.
    ///
    /// # Errors
    /// A field that contains no number, or one of more than 64 bits.
    pub(super) fn number(&self, field: Field) -> Result<i64> {
        let bytes = self.bytes((field.at, field.len));
        number(bytes).with_context(|| {
            format!("its {} \"{}\" is no number", field.name, bytes.escape_ascii())
        })
    }

    /// The type of the member (`typeflag`).
    pub(super) fn kind(&self) -> u8 {
        self.0[TYPE]
    }

    /// The path of the member: prefix and name.
    pub(super) fn path(&self) -> Vec<u8> {
        let prefix =
            if self.bytes((MAGIC, POSIX.len())) == POSIX { self.text(PREFIX) } else { b"" };
        match prefix {
            b"" => self.text(NAME).to_vec(),
            prefix => [prefix, b"/", self.text(NAME)].concat(),
        }
    }

    /// The target of a link; empty for other members.
    pub(super) fn link(&self) -> &[u8] {
        self.text(LINK)
    }

    /// The fields of GNU tar's own format; `None` if the header is in another format.
    pub(super) fn gnu(&self) -> Option<&tar::GnuHeader> {
        (self.bytes((MAGIC, GNU.len())) == GNU)
            .then(|| tar::Header::from_byte_slice(&self.0).as_gnu())
            .flatten()
    }
}

/// The number in a field; `None` if the field contains no number.
fn number(bytes: &[u8]) -> Option<i64> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => binary(bytes),
        _ => octal(bytes),
    }
}

fn octal(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.trim_ascii_start();
    let end = digits.iter().position(|byte| matches!(byte, 0 | b' '));
    let digits = digits.get(..end.unwrap_or(digits.len()))?;
    digits.iter().try_fold(0_i64, |number, digit| match digit {
        b'0'..=b'7' => Some(number << 3 | i64::from(digit - b'0')),
        _ => None,
    })
}

/// A number in base 256: two's complement without the highest bit. Some writers extend a
/// negative number of 32 bits with zeros instead of ones.
fn binary(bytes: &[u8]) -> Option<i64> {
    /// Bit of the sign; the bit above it marks base 256.
    const SIGN: u8 = 0x40;
    let (first, rest) = bytes.split_first()?;
    let sign = if first & SIGN == 0 { 0 } else { -i128::from(SIGN) };
    let first = sign + i128::from(first & (SIGN - 1));
    let number = rest.iter().fold(first, |number, &byte| number << 8 | i128::from(byte));
    i64::try_from(number).or_else(|_| u64::try_from(number).map(u64::cast_signed)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(put: &[(usize, &[u8])]) -> Header {
        let mut block = [0; BLOCK];
        for (at, bytes) in put {
            block[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        Header(block)
    }

    #[test]
    fn numbers_of_all_writers_are_read() {
        for (name, bytes, expected) in [
            ("GNU and POSIX", &b"0000644\0"[..], Some(0o644)),
            ("V7", b"   644 \0", Some(0o644)),
            ("all digits", b"77777777", Some(0o77_777_777)),
            ("size", b"77777777777\0", Some(0o77_777_777_777)),
            ("NULs", b"\0\0\0\0\0\0\0\0", Some(0)),
            ("blanks", b"        ", Some(0)),
            ("one NUL, then rubbish", b"\0xyz7777", Some(0)),
            ("rubbish behind the end", b"644\0\xff\xff\xff\xff", Some(0o644)),
            ("base 256", b"\x80\0\0\0\0\0\0\x05", Some(5)),
            ("base 256, negative", b"\xff\xff\xff\xff\xff\xff\xff\xfb", Some(-5)),
            ("12 bytes", b"\x80\0\0\0\0\0\0\x02\0\0\0\0", Some(2 << 32)),
            ("12 bytes, negative", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfb", Some(-5)),
            ("sign not extended", b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xfb", Some(-5)),
            ("above 64 bits", b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
            ("no digits", b"abc\0\0\0\0\0", None),
            ("no octal digits", b"0000689\0", None),
            ("base 64", b"-1\0\0\0\0\0\0", None),
        ] {
            assert_eq!(number(bytes), expected, "{name}");
        }
    }

    #[test]
    fn both_check_sums_are_accepted() {
        let mut block = header(&[(0, b"\xe9t\xe9"), (TYPE, b"0")]).0;
        assert!(Header::parse(&block).is_none());
        for sum in Header(block).sums() {
            block[SUM.at..][..SUM.len].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            assert!(Header::parse(&block).is_some(), "{sum:o}");
        }
        assert!(Header::parse(&[0; BLOCK]).is_none());
    }

    #[test]
    fn only_posix_has_a_prefix() {
        let (name, prefix) = ((0, &b"name"[..]), (PREFIX.0, &b"pre/fix\0rubbish"[..]));
        for (magic, expected) in [
            (&b"ustar\x0000"[..], "pre/fix/name"),
            (b"ustar\0\0\0", "pre/fix/name"),
            (b"ustar  \0", "name"),
            (b"\0\0\0\0\0\0\0\0", "name"),
        ] {
            let header = header(&[name, prefix, (MAGIC, magic)]);
            assert_eq!(header.path(), expected.as_bytes(), "{}", magic.escape_ascii());
            assert_eq!(header.gnu().is_some(), magic == GNU);
        }
    }
}
