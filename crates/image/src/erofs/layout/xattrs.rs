//! Extended attributes of EROFS, which follow their inode.
//!
//! Format: kernel doc filesystems/erofs.rst, "Xattrs", and `fs/erofs/erofs_fs.h`, little
//! endian. The header, `struct erofs_xattr_ibody_header`, has 12 bytes:
//!
//! | At | Bytes | Field |
//! |---|---|---|
//! | 0 | 4 | `h_name_filter` |
//! | 4 | 1 | `h_shared_count` |
//! | 5 | 7 | reserved |
//!
//! A u32 follows for each shared attribute: its position in units of 4 bytes from the
//! block of shared attributes. All other attributes follow, each padded to 4 bytes
//! (`struct erofs_xattr_entry`, then the name without its prefix, then the value):
//!
//! | At | Bytes | Field |
//! |---|---|---|
//! | 0 | 1 | `e_name_len` |
//! | 1 | 1 | `e_name_index`: number of the prefix |
//! | 2 | 2 | `e_value_size` |

use anyhow::{Context, Result, ensure};

use super::fields::{u16_at, u32_at};
use crate::disk_parts::xattr_sets::{self, PAIR};
use crate::tree::Xattrs;

/// Bytes of the header (`struct erofs_xattr_ibody_header`).
const HEADER: usize = 12;
/// Bytes of an attribute without name and value (`struct erofs_xattr_entry`), and the
/// unit to which attributes are padded.
const ENTRY: usize = 4;
/// Bit of `e_name_index` that says that the image defines the prefix
/// (`EROFS_XATTR_LONG_PREFIX`).
const LONG_PREFIX: u8 = 0x80;

/// Error text for attributes whose size does not fit into `i_xattr_icount`.
const TOO_LARGE: &str = "its attributes have more than 256 KiB: leave some out with --xattrs";

/// Most bytes of one attribute, with name and value.
pub(in crate::erofs) const ENTRY_MAX: usize = ENTRY + u8::MAX as usize + u16::MAX as usize;

/// Numbers of the prefixes (`EROFS_XATTR_INDEX_USER` and others). The prefixes of ACLs are
/// whole names.
const PREFIXES: &[(u8, &[u8])] = &[
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (5, b"lustre."),
    (6, b"security."),
];

/// Encodes the attributes of an inode. No attributes give no bytes.
///
/// # Errors
/// EROFS cannot hold a name or a value, or they are too large together.
pub(in crate::erofs) fn encode(xattrs: &Xattrs) -> Result<Vec<u8>> {
    if xattrs.is_empty() {
        return Ok(Vec::new());
    }
    let mut out = vec![0; HEADER];
    for (name, value) in xattrs {
        encode_one(name, value, &mut out)
            .with_context(|| format!("attribute \"{}\"", name.escape_ascii()))?;
    }
    words(&out)?;
    Ok(out)
}

fn encode_one(name: &[u8], value: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let split = |(index, prefix): &(u8, &[u8])| Some((*index, name.strip_prefix(*prefix)?));
    let (index, rest) =
        PREFIXES.iter().find_map(split).context("EROFS does not have this name space")?;
    out.push(u8::try_from(rest.len()).context("the name is too long")?);
    out.push(index);
    out.extend(u16::try_from(value.len()).context("the value is too long")?.to_le_bytes());
    out.extend_from_slice(rest);
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(ENTRY), 0);
    Ok(())
}

/// Value of `i_xattr_icount` for the `encoded` attributes.
pub(in crate::erofs) fn words(encoded: &[u8]) -> Result<u16> {
    match encoded.len().checked_sub(HEADER) {
        None => Ok(0),
        Some(rest) => u16::try_from(rest / ENTRY + 1).ok().context(TOO_LARGE),
    }
}

/// Number of bytes of attributes whose inode has `words` as `i_xattr_icount`.
pub(in crate::erofs) fn len(words: u16) -> usize {
    match usize::from(words) {
        0 => 0,
        words => HEADER + ENTRY * (words - 1),
    }
}

/// Decodes the attributes of an inode from `bytes`. `shared` reads the bytes of a shared
/// attribute by its position. `left` is the number of bytes that may still be kept in
/// memory; the attributes are subtracted from it.
///
/// # Errors
/// An attribute reaches beyond `bytes`, or has a prefix that we do not know.
pub(in crate::erofs) fn decode(
    bytes: &[u8],
    shared: &dyn Fn(u32) -> Result<Vec<u8>>,
    left: &mut usize,
) -> Result<Xattrs> {
    let mut xattrs = Xattrs::new();
    let Some(&count) = bytes.get(4) else { return Ok(xattrs) };
    let ids = bytes.get(HEADER..HEADER + ENTRY * usize::from(count));
    for id in ids.context("the list of shared attributes is cut off")?.chunks_exact(ENTRY) {
        decode_one(&shared(u32_at(id, 0))?, &mut xattrs, left)?;
    }
    let mut rest = &bytes[HEADER + ENTRY * usize::from(count)..];
    while !rest.is_empty() {
        let used = decode_one(rest, &mut xattrs, left)?;
        rest = rest.get(used..).unwrap_or_default();
    }
    Ok(xattrs)
}

/// Adds the attribute at the start of `bytes` to `xattrs`. Returns its length with padding.
fn decode_one(bytes: &[u8], xattrs: &mut Xattrs, left: &mut usize) -> Result<usize> {
    let &[length, index, ..] = bytes else { return Ok(bytes.len()) };
    ensure!(index & LONG_PREFIX == 0, "not supported: long prefixes of attribute names");
    let value_at = ENTRY + usize::from(length);
    let end = value_at + usize::from(u16_at(bytes, 2));
    let whole = bytes.get(..end).context("an extended attribute is cut off")?;
    *left = left.checked_sub(PAIR + end).context(xattr_sets::TOO_MANY)?;
    let prefix = PREFIXES.iter().find(|prefix| prefix.0 == index);
    let (_, prefix) =
        prefix.with_context(|| format!("an extended attribute has the unknown prefix {index}"))?;
    let name = [prefix, &whole[ENTRY..value_at]].concat();
    xattrs.insert(name.into(), whole[value_at..].into());
    Ok(end.next_multiple_of(ENTRY))
}
