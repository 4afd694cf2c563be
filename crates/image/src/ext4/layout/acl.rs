//! Access control lists (ACLs), which ext4 stores in its own form.
//!
//! Format: `fs/ext4/acl.h` and `include/uapi/linux/posix_acl_xattr.h`, little endian. The
//! kernel shows version 2: 0 version (u32), then entries of 0 tag (u16), 2 permissions
//! (u16), 4 id (u32). ext4 stores version 1, whose entries have an id only for a named user
//! or group (`ext4_acl_entry`, `ext4_acl_entry_short`).

use anyhow::{Context, Result, ensure};

use super::bytes::{get16, get32};

/// Prefix number of [`ACCESS_NAME`] (`EXT4_XATTR_INDEX_POSIX_ACL_ACCESS`).
pub(in crate::ext4) const ACCESS: u8 = 2;

/// Prefix number of [`DEFAULT_NAME`] (`EXT4_XATTR_INDEX_POSIX_ACL_DEFAULT`).
pub(in crate::ext4) const DEFAULT: u8 = 3;

/// Attribute with the ACL of a file (`XATTR_NAME_POSIX_ACL_ACCESS`).
pub(in crate::ext4) const ACCESS_NAME: &[u8] = b"system.posix_acl_access";

/// Attribute with the ACL that new files in a directory get
/// (`XATTR_NAME_POSIX_ACL_DEFAULT`).
pub(in crate::ext4) const DEFAULT_NAME: &[u8] = b"system.posix_acl_default";

/// Version of the form that the kernel shows (`POSIX_ACL_XATTR_VERSION`).
const SHOWN: u32 = 2;
/// Version of the form that ext4 stores (`EXT4_ACL_VERSION`).
const STORED: u32 = 1;

/// Shown id of an entry without an id (`ACL_UNDEFINED_ID`).
const NO_ID: u32 = u32::MAX;

/// Whether entries with this tag have an id (`ACL_USER`, `ACL_GROUP`).
fn has_id(tag: u16) -> bool {
    matches!(tag, 0x02 | 0x08)
}

/// Converts the form that the kernel shows into the stored form.
///
/// # Errors
/// The ACL is cut off or has another version.
pub(in crate::ext4) fn encode(shown: &[u8]) -> Result<Vec<u8>> {
    let is_whole = shown.len() % 8 == 4 && get32(shown, 0) == SHOWN;
    ensure!(is_whole, "this is no access control list of version 2");
    let mut stored = STORED.to_le_bytes().to_vec();
    for entry in shown[4..].chunks_exact(8) {
        let length = if has_id(get16(entry, 0)) { 8 } else { 4 };
        stored.extend_from_slice(&entry[..length]);
    }
    Ok(stored)
}

/// Converts the stored form into the form that the kernel shows.
///
/// # Errors
/// The ACL is cut off or has another version.
pub(in crate::ext4) fn decode(stored: &[u8]) -> Result<Vec<u8>> {
    let is_whole = stored.len().is_multiple_of(4) && get32(stored, 0) == STORED;
    ensure!(is_whole, "this is no access control list of version 1");
    let mut shown = SHOWN.to_le_bytes().to_vec();
    let mut rest = &stored[4..];
    while !rest.is_empty() {
        let with_id = has_id(get16(rest, 0));
        let entry = rest.split_at_checked(if with_id { 8 } else { 4 });
        let (entry, behind) = entry.context("an access control list is cut off")?;
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

    /// The ACL is `u::rw-,u:1000:r--,g::r--,m::r--,o::---`.
    #[test]
    fn only_named_users_and_groups_have_a_stored_id() {
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
    fn a_damaged_list_is_refused() {
        for bytes in [&[][..], &[2, 0, 0], &[1, 0, 0, 0], &[2, 0, 0, 0, 1, 0, 6]] {
            assert!(encode(bytes).is_err());
        }
        for bytes in [&[][..], &[2, 0, 0, 0], &[1, 0, 0, 0, 1], &[1, 0, 0, 0, 2, 0, 4, 0]] {
            assert!(decode(bytes).is_err());
        }
    }
}
