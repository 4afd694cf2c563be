//! The mount table of this process, and which mounts a path can reach.
//!
//! Interface: `/proc/PID/mountinfo` (proc_pid_mountinfo(5)), fields separated by
//! blanks: mount id, parent id, device, root, mount point, options, optional
//! fields, `-`, type, source, options of the file system. White space and
//! backslashes in a field are written in octal, as `\040`.
//!
//! Only the table is read: a call such as statvfs(2) on a mount may be forbidden (FUSE)
//! or never return (a network file system).

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Mount table of this process.
const TABLE: &str = "/proc/self/mountinfo";

/// One line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    id: u64,
    parent: u64,
    /// Mount point, as a path of this process.
    pub at: PathBuf,
    /// Options of the mount (`nosuid`, `ro`), not of its file system.
    pub options: Vec<String>,
    /// Type of the file system, such as `ext4` or `fuse.sshfs`.
    pub kind: String,
}

/// The mounts of this process, in the kernel's order.
///
/// # Errors
/// The table cannot be read.
pub fn of_this_process() -> Result<Vec<Mount>> {
    let table = std::fs::read(TABLE).with_context(|| format!("read {TABLE}"))?;
    Ok(parse(&table))
}

/// Parses a mount table. A malformed line is skipped.
#[must_use]
pub fn parse(table: &[u8]) -> Vec<Mount> {
    table.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut fields = line.split(|&byte| byte == b' ');
    let id = text(fields.next()?).parse().ok()?;
    let parent = text(fields.next()?).parse().ok()?;
    let at = fields.nth(2)?;
    let options = fields.next()?;
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount {
        id,
        parent,
        at: OsString::from_vec(unescape(at)).into(),
        options: text(options).split(',').map(str::to_owned).collect(),
        kind: text(kind),
    })
}

fn unescape(field: &[u8]) -> Vec<u8> {
    /// Number of octal digits after a backslash.
    const DIGITS: usize = 3;
    let mut bytes = Vec::new();
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.split_at_checked(DIGITS).filter(|_| byte == b'\\');
        let escaped = octal.and_then(|(digits, after)| {
            let digits = std::str::from_utf8(digits).ok()?;
            Some((u8::from_str_radix(digits, 8).ok()?, after))
        });
        let (byte, after) = escaped.unwrap_or((byte, after));
        bytes.push(byte);
        rest = after;
    }
    bytes
}

/// The mounts at and below `dir` that a path can reach. A mount is hidden if a later mount
/// covers one of the directories above it. For `/` the search starts at the last mount on
/// `/`, which only the path `/..` reaches.
#[must_use]
pub fn below<'a>(table: &'a [Mount], dir: &Path) -> Vec<&'a Mount> {
    const ROOT: &str = "/";
    let listed: HashSet<u64> = table.iter().map(|mount| mount.id).collect();
    // A root that is no mount point, as after chroot(2), is not in the table.
    let parent = |mount: &Mount| {
        Some(mount.parent).filter(|parent| *parent != mount.id && listed.contains(parent))
    };
    let children: HashMap<(Option<u64>, &Path), u64> =
        table.iter().map(|mount| ((parent(mount), &*mount.at), mount.id)).collect();
    let child = |of: Option<u64>, at: &Path| children.get(&(of, at)).copied();
    let top = |mut here: Option<u64>, at: &Path| {
        while let Some(next) = child(here, at) {
            here = Some(next);
        }
        here
    };
    let start = match dir == Path::new(ROOT) {
        true => top(None, Path::new(ROOT)),
        false => child(None, Path::new(ROOT)),
    };
    let reached = |at: &Path| {
        let mut prefixes: Vec<&Path> = at.ancestors().collect();
        prefixes.pop(); // the root, where the search starts
        prefixes.into_iter().rev().fold(start, top)
    };
    let is_seen =
        |mount: &&Mount| mount.at.starts_with(dir) && reached(&mount.at) == Some(mount.id);
    table.iter().filter(is_seen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a table of mounts, each given by id, parent and mount point.
    fn table(mounts: &[(u64, u64, &str)]) -> Vec<Mount> {
        let line = |(id, parent, at): &(u64, u64, &str)| {
            format!("{id} {parent} 0:1 / {at} rw shared:1 master:2 - tmpfs none rw\n")
        };
        parse(mounts.iter().map(line).collect::<String>().as_bytes())
    }

    #[test]
    fn lines_are_parsed() {
        let line = b"36 35 98:0 /mnt1 /a\\040b\\134c\\xy ro,nosuid master:1 - fuse.sshfs a:/ rw\n\
                     37 35 0:5 / /p rw - proc proc rw\n\nshort line\nx y 0:5 / /p rw - proc proc rw\n";
        let found = parse(line);
        let first = Mount {
            id: 36,
            parent: 35,
            at: "/a b\\c\\xy".into(),
            options: vec!["ro".into(), "nosuid".into()],
            kind: "fuse.sshfs".into(),
        };
        assert_eq!(found.first(), Some(&first));
        assert_eq!(found.get(1).map(|mount| &*mount.kind), Some("proc"));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn hidden_mounts_are_not_below() {
        let root = (1, 0, "/");
        for (name, mounts, dir, expected) in [
            ("plain", &[root, (2, 1, "/r"), (3, 2, "/r/p"), (4, 1, "/x")][..], "/r", &[2, 3][..]),
            ("name that begins alike", &[root, (2, 1, "/r"), (3, 1, "/rest")], "/r", &[2]),
            (
                "hidden by a parent",
                &[root, (2, 1, "/r"), (3, 2, "/r/a/b"), (4, 2, "/r/a")],
                "/r",
                &[2, 4],
            ),
            ("stacked", &[root, (2, 1, "/r"), (3, 2, "/r")], "/r", &[3]),
            (
                "hidden by a stack",
                &[root, (2, 1, "/r"), (3, 2, "/r/p"), (4, 2, "/r"), (5, 4, "/r/p")],
                "/r",
                &[4, 5],
            ),
            (
                "hidden above the directory",
                &[root, (2, 1, "/s/r"), (3, 1, "/s"), (4, 3, "/s/r")],
                "/s/r",
                &[4],
            ),
            ("all", &[root, (2, 1, "/r"), (3, 2, "/r/p")], "/", &[1, 2, 3]),
            ("on the root", &[root, (2, 1, "/p"), (3, 1, "/"), (4, 3, "/p")], "/", &[3, 4]),
            (
                "below a root with another on it",
                &[root, (2, 1, "/p"), (3, 1, "/"), (4, 3, "/p")],
                "/p",
                &[2],
            ),
            ("chroot", &[(2, 9, "/p"), (3, 9, "/d"), (4, 3, "/d/e")], "/d", &[3, 4]),
            (
                "chroot with a mount on its root",
                &[(2, 9, "/p"), (3, 9, "/"), (4, 3, "/p")],
                "/",
                &[3, 4],
            ),
            ("a root that is its own parent", &[(1, 1, "/"), (2, 1, "/p")], "/", &[1, 2]),
            ("none", &[root, (2, 1, "/r")], "/x", &[]),
        ] {
            let table = table(mounts);
            let ids: Vec<_> = below(&table, Path::new(dir)).iter().map(|mount| mount.id).collect();
            assert_eq!(ids, expected, "{name}");
        }
    }

    #[test]
    fn this_process_has_mounts() {
        let table = of_this_process().unwrap();
        assert!(below(&table, Path::new("/")).iter().any(|mount| mount.at == Path::new("/proc")));
    }
}
