//! Which configuration files apply, by their owners and permissions.
//!
//! A file can share any directory of the user with a guest. In a directory such as /tmp,
//! anybody can plant one, so a file must belong to the user or to root, and nobody else
//! may be able to change it.

/// Permissions that let others change a file: `S_IWGRP` and `S_IWOTH` (inode(7)).
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// User id of root.
const ROOT: u32 = 0;

/// The owner and the permissions of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ownership {
    /// User id of the owner.
    pub(super) uid: u32,
    /// Permission bits.
    pub(super) mode: u32,
}

/// User ids whose files apply: root's and the user's. `sudo_uid` is `$SUDO_UID`: under
/// sudo(8), the user is the one who has typed the command.
pub(super) fn trusted(euid: u32, sudo_uid: Option<&str>) -> Vec<u32> {
    let caller = sudo_uid.filter(|_| euid == ROOT).and_then(|text| text.parse().ok());
    [ROOT, euid].into_iter().chain(caller).collect()
}

/// The reason to ignore a file; `None` if it applies. A symbolic link has an owner, but its
/// permissions mean nothing.
pub(super) fn objection(owners: &[u32], link: u32, file: Ownership) -> Option<String> {
    let foreign = [link, file.uid].into_iter().find(|uid| !owners.contains(uid));
    if let Some(uid) = foreign {
        return Some(format!("it belongs to user {uid}, neither to this user nor to root"));
    }
    (file.mode & WRITABLE_BY_OTHERS != 0)
        .then(|| "others can write to it: use `chmod go-w`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_others_are_ignored() {
        for (name, owners, link, uid, mode, expected) in [
            ("own", trusted(1000, None), 1000, 1000, 0o644, None),
            ("of root", trusted(1000, None), 0, 0, 0o644, None),
            ("of another", trusted(1000, None), 1001, 1001, 0o644, Some("user 1001")),
            ("own, by another's link", trusted(1000, None), 1001, 1000, 0o644, Some("user 1001")),
            ("writable by all", trusted(1000, None), 1000, 1000, 0o666, Some("chmod go-w")),
            ("writable by the group", trusted(1000, None), 1000, 1000, 0o664, Some("chmod go-w")),
            ("of a user, for root", trusted(0, None), 1000, 1000, 0o644, Some("user 1000")),
            ("of the user of sudo", trusted(0, Some("1000")), 1000, 1000, 0o600, None),
            ("not under sudo", trusted(1001, Some("1000")), 1000, 1000, 0o600, Some("user 1000")),
            ("SUDO_UID without a number", trusted(0, Some("x")), 0, 0, 0o600, None),
        ] {
            let found = objection(&owners, link, Ownership { uid, mode });
            match expected {
                Some(part) => assert!(
                    found.as_ref().is_some_and(|why| why.contains(part)),
                    "{name}: {found:?}"
                ),
                None => assert_eq!(found, None, "{name}"),
            }
        }
    }
}
