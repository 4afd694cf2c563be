//! Extended attributes of squashfs: sets of attributes, each stored once and numbered.
//!
//! Format: `struct squashfs_xattr_entry` and others in `fs/squashfs/squashfs_fs.h`. An
//! attribute in the metadata stream is `type` (u16), `size` of the name without its prefix
//! (u16), the name, `vsize` of the value (u32), and the value. If the type has
//! [`OUT_OF_LINE`], the value is a reference (u64) to another size and value.
//!
//! | Structure | At | Bytes | Field |
//! |---|---|---|---|
//! | `squashfs_xattr_id`, one for each set | 0 | 8 | `xattr`: reference of the first attribute |
//! | | 8 | 4 | `count`: number of attributes |
//! | | 12 | 4 | `size`: bytes of the attributes |
//! | `squashfs_xattr_id_table`, the head of their table | 0 | 8 | `xattr_table_start`: address of the attributes |
//! | | 8 | 4 | `xattr_ids`: number of sets |
//! | | 12 | 4 | unused |

use anyhow::{Context, Result, ensure};

/// Prefixes, indexed by `SQUASHFS_XATTR_USER`, `…_TRUSTED` and `…_SECURITY`.
pub(in crate::squashfs) const PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// Bit of a type that says that the value is stored elsewhere
/// (`SQUASHFS_XATTR_VALUE_OOL`).
pub(in crate::squashfs) const OUT_OF_LINE: u16 = 0x100;
/// Bytes of the record of a set (`struct squashfs_xattr_id`).
pub(in crate::squashfs) const RECORD: usize = 16;
/// Bytes of the head of the table (`struct squashfs_xattr_id_table`).
pub(in crate::squashfs) const HEAD: usize = 16;
/// Longest value in bytes (`XATTR_SIZE_MAX`, `include/uapi/linux/limits.h`).
pub(in crate::squashfs) const VALUE_MAX: usize = 65536;
/// Longest name without its prefix, in bytes. The kernel's limit of 255 bytes
/// (`XATTR_NAME_MAX`) includes the prefix.
const NAME_MAX: usize = 255;

/// Whether squashfs can store an attribute with this name. It cannot store ACLs.
pub(in crate::squashfs) fn is_kept(name: &[u8]) -> bool {
    split(name).is_some()
}

/// Splits a name into the number of its prefix and the rest.
fn split(name: &[u8]) -> Option<(u16, &[u8])> {
    let split = |(kind, prefix): (u16, &&[u8])| Some((kind, name.strip_prefix(*prefix)?));
    (0..).zip(&PREFIXES).find_map(split)
}

/// Encodes one attribute.
///
/// # Errors
/// squashfs cannot store the name, or name or value are too long.
pub(in crate::squashfs) fn encode(name: &[u8], value: &[u8]) -> Result<Vec<u8>> {
    let (kind, rest) = split(name).context("squashfs does not have this name space")?;
    ensure!(rest.len() <= NAME_MAX, "the name is too long");
    ensure!(value.len() <= VALUE_MAX, "the value is too long");
    let mut out = kind.to_le_bytes().to_vec();
    out.extend(u16::try_from(rest.len())?.to_le_bytes());
    out.extend_from_slice(rest);
    out.extend(u32::try_from(value.len())?.to_le_bytes());
    out.extend_from_slice(value);
    Ok(out)
}
