//! Extended attributes, behind their inode.
//!
//! Format: kernel doc filesystems/erofs.rst, "Xattrs". Header of 12 bytes: 0
//! name filter (u32), 4 number of shared attributes (u8), 5 reserved; then a u32
//! for each shared one, counting 4 bytes from the block of shared attributes;
//! then the others. Each: 0 length of the name (u8), 1 prefix (u8), 2 length of
//! the value (u16), name without its prefix, value; padded to 4 bytes.

use anyhow::{Context, Result, ensure};

use super::layout::{u16_at, u32_at};
use crate::tree::Xattrs;
use crate::xattr_sets::{self, PAIR};

const HEADER: usize = 12;
const ENTRY: usize = 4;
/// Set where the prefix is one of the image's own.
const LONG_PREFIX: u8 = 0x80;

/// Error for attributes beyond what an inode can state (`i_xattr_icount`, in units of 4
/// bytes).
const TOO_LARGE: &str = "its attributes have more than 256 KiB: leave some out with --xattrs";

/// Bytes of an attribute, all included.
pub(super) const ENTRY_MAX: usize = ENTRY + u8::MAX as usize + u16::MAX as usize;

/// Numbers of prefixes. Those of ACLs are whole names.
const PREFIXES: &[(u8, &[u8])] = &[
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (5, b"lustre."),
    (6, b"security."),
];

/// The attributes as they follow an inode: nothing, where there are none.
///
/// # Errors
/// Names and values that the format cannot hold.
pub(super) fn encode(xattrs: &Xattrs) -> Result<Vec<u8>> {
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
    let (index, rest) = PREFIXES.iter().find_map(split).context("EROFS has no such name space")?;
    out.push(u8::try_from(rest.len()).context("the name is too long")?);
    out.push(index);
    out.extend(u16::try_from(value.len()).context("the value is too long")?.to_le_bytes());
    out.extend_from_slice(rest);
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(ENTRY), 0);
    Ok(())
}

/// What an inode says of the length of `encoded` attributes.
pub(super) fn words(encoded: &[u8]) -> Result<u16> {
    match encoded.len().checked_sub(HEADER) {
        None => Ok(0),
        Some(rest) => u16::try_from(rest / ENTRY + 1).ok().context(TOO_LARGE),
    }
}

/// Bytes of attributes of which an inode says this.
pub(super) fn len(words: u16) -> usize {
    match usize::from(words) {
        0 => 0,
        words => HEADER + ENTRY * (words - 1),
    }
}

/// Undoes [`encode`]; `shared` reads a shared attribute by its number, `left` is
/// how many bytes may still be kept.
///
/// # Errors
/// Entries that reach out of `bytes`; a name space we do not know.
pub(super) fn decode(
    bytes: &[u8],
    shared: &dyn Fn(u32) -> Result<Vec<u8>>,
    left: &mut usize,
) -> Result<Xattrs> {
    let mut xattrs = Xattrs::new();
    let Some(&count) = bytes.get(4) else { return Ok(xattrs) };
    let ids = bytes.get(HEADER..HEADER + ENTRY * usize::from(count));
    for id in ids.context("shared attributes are cut off")?.chunks_exact(ENTRY) {
        decode_one(&shared(u32_at(id, 0))?, &mut xattrs, left)?;
    }
    let mut rest = &bytes[HEADER + ENTRY * usize::from(count)..];
    while !rest.is_empty() {
        let used = decode_one(rest, &mut xattrs, left)?;
        rest = rest.get(used..).unwrap_or_default();
    }
    Ok(xattrs)
}

/// Adds the attribute that `bytes` start with; tells its bytes, padded.
fn decode_one(bytes: &[u8], xattrs: &mut Xattrs, left: &mut usize) -> Result<usize> {
    let &[length, index, ..] = bytes else { return Ok(bytes.len()) };
    ensure!(index & LONG_PREFIX == 0, "not supported: long prefixes of attribute names");
    let value_at = ENTRY + usize::from(length);
    let end = value_at + usize::from(u16_at(bytes, 2));
    let whole = bytes.get(..end).context("an attribute is cut off")?;
    *left = left.checked_sub(PAIR + end).context(xattr_sets::TOO_MANY)?;
    let prefix = PREFIXES.iter().find(|prefix| prefix.0 == index);
    let (_, prefix) = prefix.with_context(|| format!("attribute of unknown kind {index}"))?;
    let name = [prefix, &whole[ENTRY..value_at]].concat();
    xattrs.insert(name.into(), whole[value_at..].into());
    Ok(end.next_multiple_of(ENTRY))
}
