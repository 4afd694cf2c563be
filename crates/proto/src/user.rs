//! The user of a command, by the files of the root in which it runs.
//!
//! Formats: passwd(5), group(5); `User` of the OCI image specification, `config.md`.

use alloc::vec::Vec;

use crate::words;

/// Credentials and home directory of a user.
#[derive(Debug, PartialEq, Eq)]
pub struct User<'a> {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, without the main group.
    pub groups: Vec<u32>,
    /// Home directory; `/` if no file names one.
    pub home: &'a [u8],
}

/// Finds `NAME`, `UID`, `NAME:GROUP` or `UID:GID` in the texts of passwd(5) and group(5).
/// Without `wanted`, the user is root. An empty part before the colon is root, too, and an empty
/// group is that of the user.
///
/// # Errors
/// The reason why there is no such user.
pub fn find<'a>(
    wanted: Option<&[u8]>,
    passwd: &'a [u8],
    group: &[u8],
) -> Result<User<'a>, &'static str> {
    let wanted = wanted.unwrap_or(b"0");
    let mut parts = wanted.splitn(2, |&byte| byte == b':');
    let (name, group_name) = (parts.next().unwrap_or_default(), parts.next());
    // A word that is empty as a whole is a mistake, such as a variable that is not set.
    let name = if name.is_empty() && group_name.is_some() { b"0" } else { name };
    let group_name = group_name.filter(|name| !name.is_empty());
    let id = number(name);
    let entry = rows(passwd).find(|row| match id {
        Some(id) => field(row, 2).and_then(number) == Some(id),
        None => field(row, 0) == Some(name),
    });
    let by_entry = |at| entry.and_then(|row| number(field(row, at)?));
    let uid = id.or_else(|| by_entry(2)).ok_or("no such user in /etc/passwd of the root")?;
    let gid = match group_name {
        Some(name) => number(name)
            .or_else(|| {
                let row = rows(group).find(|row| field(row, 0) == Some(name))?;
                number(field(row, 2)?)
            })
            .ok_or("no such group in /etc/group of the root")?,
        None => by_entry(3).unwrap_or(0),
    };
    let login = entry.and_then(|row| field(row, 0));
    let is_member = |row: &&[u8]| {
        let mut members = field(row, 3).unwrap_or_default().split(|&byte| byte == b',');
        login.is_some_and(|login| members.any(|member| member == login))
    };
    // A user with a named group has no supplementary groups, as with podman.
    let searched = if group_name.is_some() { &[] } else { group };
    let mut groups = Vec::new();
    for row in rows(searched).filter(is_member) {
        groups.extend(field(row, 2).and_then(number));
    }
    let home = entry.and_then(|row| field(row, 5)).filter(|home| home.starts_with(b"/"));
    Ok(User { uid, gid, groups, home: home.unwrap_or(b"/") })
}

fn rows(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|&byte| byte == b'\n')
}

fn field(row: &[u8], at: usize) -> Option<&[u8]> {
    row.split(|&byte| byte == b':').nth(at)
}

/// A user or group id in decimal. 4294967295 is no id: the kernel reads it as "no change".
fn number(text: &[u8]) -> Option<u32> {
    u32::try_from(words::number(text)?).ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\nbroken\n\
        alice:x:1000:100:A:/home/alice:/bin/sh\nbob:x:1001:101::relative:/bin/sh\n";
    const GROUP: &[u8] =
        b"root:x:0:\nusers:x:100:\nkvm:x:36:bob,alice\ndisk:x:6:alic\nbad:x:y:alice\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        let user = |uid, gid, groups: &[u32], home: &'static str| {
            Ok(User { uid, gid, groups: groups.into(), home: home.as_bytes() })
        };
        for (wanted, expected) in [
            (None, user(0, 0, &[], "/root")),
            (Some("alice"), user(1000, 100, &[36], "/home/alice")),
            (Some("1000"), user(1000, 100, &[36], "/home/alice")),
            (Some("alice:kvm"), user(1000, 36, &[], "/home/alice")),
            (Some("4242"), user(4242, 0, &[], "/")),
            (Some("4242:4243"), user(4242, 4243, &[], "/")),
            (Some("bob"), user(1001, 101, &[36], "/")),
            (Some("carol"), Err("no such user in /etc/passwd of the root")),
            (Some("4294967295"), Err("no such user in /etc/passwd of the root")),
            (Some("1000:"), user(1000, 100, &[36], "/home/alice")),
            (Some(":2000"), user(0, 2000, &[], "/root")),
            (Some("4294967296:0"), Err("no such user in /etc/passwd of the root")),
            (Some("0:4294967295"), Err("no such group in /etc/group of the root")),
            (Some(""), Err("no such user in /etc/passwd of the root")),
            (Some("alice:nogroup"), Err("no such group in /etc/group of the root")),
        ] {
            assert_eq!(find(wanted.map(str::as_bytes), PASSWD, GROUP), expected, "{wanted:?}");
        }
    }

    #[test]
    fn root_needs_no_files() {
        assert_eq!(find(None, b"", b"").unwrap().home, b"/");
        assert!(find(Some(b"root"), b"", b"").is_err());
    }
}
