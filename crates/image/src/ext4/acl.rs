//! Access control lists, which ext4 stores in a form of its own.
//!
//! Format: `fs/ext4/acl.h`; little-endian. Linux shows version 2: a number of 32
//! bits, and entries of tag (2), permissions (2) and id (4). ext4 has version 1,
//! whose entries leave the id out where it says nothing.

use anyhow::{Context, Result, ensure};

use super::bytes::{get16, get32};

/// Number of the prefix of [`ACCESS_NAME`].
pub(super) const ACCESS: u8 = 2;

/// Number of the prefix of [`DEFAULT_NAME`].
pub(super) const DEFAULT: u8 = 3;

/// What Linux calls the list of any file.
pub(super) const ACCESS_NAME: &[u8] = b"system.posix_acl_access";

/// What Linux calls the list that a directory hands on.
pub(super) const DEFAULT_NAME: &[u8] = b"system.posix_acl_default";

const SHOWN: u32 = 2;
const STORED: u32 = 1;

/// The id of an entry that has none.
const NO_ID: u32 = u32::MAX;

/// Whether a tag names somebody: `ACL_USER`, `ACL_GROUP`.
fn has_id(tag: u16) -> bool {
    matches!(tag, 0x02 | 0x08)
}

/// What Linux shows → what ext4 stores.
pub(super) fn encode(shown: &[u8]) -> Result<Vec<u8>> {
    let is_whole = shown.len() % 8 == 4 && get32(shown, 0) == SHOWN;
    ensure!(is_whole, "this is no access control list of version 2");
    let mut stored = STORED.to_le_bytes().to_vec();
    for entry in shown[4..].chunks_exact(8) {
        let length = if has_id(get16(entry, 0)) { 8 } else { 4 };
        stored.extend_from_slice(&entry[..length]);
    }
    Ok(stored)
}

/// What ext4 stores → what Linux shows.
pub(super) fn decode(stored: &[u8]) -> Result<Vec<u8>> {
    let is_whole = stored.len().is_multiple_of(4) && get32(stored, 0) == STORED;
    ensure!(is_whole, "this is no access control list of version 1");
    let mut shown = SHOWN.to_le_bytes().to_vec();
    let mut rest = &stored[4..];
    while !rest.is_empty() {
        let with_id = has_id(get16(rest, 0));
        let entry = rest.split_at_checked(if with_id { 8 } else { 4 });
        let (entry, behind) = entry.context("an access control list is cut short")?;
        let id = if with_id { get32(entry, 4) } else { NO_ID };
        shown.extend_from_slice(&entry[..4]);
        shown.extend_from_slice(&id.to_le_bytes());
        rest = behind;
    }
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `u::rw-,u:1000:r--,g::r--,m::r--,o::---`.
    #[test]
    fn ids_are_stored_where_they_say_something() {
        let entry = |tag: u16, permissions: u16, id: u32| {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let none = u32::MAX;
        let entries = [(1, 6, none), (2, 4, 1000), (4, 4, none), (0x10, 4, none), (0x20, 0, none)];
        let entries = entries.map(|(tag, permissions, id)| entry(tag, permissions, id)).concat();
        let shown = [&[2, 0, 0, 0][..], &entries].concat();
        let stored = encode(&shown).unwrap();
        let expected: &[u8] = &[
            1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 0x10, 0, 4, 0, 0x20, 0,
            0, 0,
        ];
        assert_eq!(stored, expected);
        assert_eq!(decode(&stored).unwrap(), shown);
    }

    #[test]
    fn damage_is_refused() {
        for bytes in [&[][..], &[2, 0, 0], &[1, 0, 0, 0], &[2, 0, 0, 0, 1, 0, 6]] {
            assert!(encode(bytes).is_err());
        }
        for bytes in [&[][..], &[2, 0, 0, 0], &[1, 0, 0, 0, 1], &[1, 0, 0, 0, 2, 0, 4, 0]] {
            assert!(decode(bytes).is_err());
        }
    }
}
