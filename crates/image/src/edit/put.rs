//! Adds files and directories of the host to a tree, with an owner and with modes by a rule.
//!
//! Paths are those of [`graft`]: links above them are followed within the tree, no
//! path leaves it, and directories that exist keep their attributes. Directories that are
//! missing above a path are made as any other reader makes them: they belong to root.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::graft;
use crate::tree::{Content, Kind, Meta, Tree, components, show};

/// Permissions of directories, of programs and of libraries.
const EXECUTABLE: u16 = 0o755;
/// Permissions of other files.
const PLAIN: u16 = 0o644;
/// Permissions of a symbolic link (`S_IRWXUGO`, as symlink(2) sets them).
const OF_LINK: u16 = 0o777;
/// Any of the bits by which a file can be executed (`S_IXUGO`).
const ANY_EXECUTE: u16 = 0o111;

/// Names of directories whose files are programs.
const PROGRAM_DIRECTORIES: [&[u8]; 2] = [b"bin", b"sbin"];
/// Beginning of the names of directories that have libraries: `lib`, `lib64`, `libexec`.
const LIBRARY_DIRECTORY: &[u8] = b"lib";

/// Owner, permissions and time of what is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placing {
    /// User and group.
    pub owner: (u32, u32),
    /// Rule for permissions.
    pub mode: ModeRule,
    /// Modification time in seconds since 1970; `None` for that of each file.
    pub mtime: Option<i64>,
}

/// Rule for the permissions of what is added. Directories that are added have 0755 by both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModeRule {
    /// 0755 for a file that anybody may execute, for a file directly in a directory `bin` or
    /// `sbin`, and for a library (`*.so`, `*.so.*`) below a directory whose name begins with
    /// `lib`; 0644 for any other file. The path is the one in the image.
    #[default]
    Auto,
    /// These permissions for every file.
    Fixed(u16),
}

/// A file of the host.
#[derive(Clone, Debug)]
pub struct HostFile<'a> {
    /// Its name, for a path that is a directory.
    pub name: &'a [u8],
    /// Its bytes.
    pub content: Content,
    /// Its permissions, of which [`ModeRule::Auto`] looks at those to execute.
    pub permissions: u16,
    /// When it was modified, in seconds since 1970.
    pub mtime: i64,
}

/// Adds a file at `path`; into the directory at `path` if there is one, or if `path` ends in a
/// slash. Returns the path of the new file, without a leading `/`.
///
/// # Errors
/// Those of [`graft::file()`].
pub fn file(
    tree: &mut Tree,
    path: &[u8],
    file: HostFile<'_>,
    placing: &Placing,
) -> Result<Vec<u8>> {
    let HostFile { name, content, permissions, mtime } = file;
    let own = Meta { permissions, mtime, ..Meta::default() };
    graft::file_with(tree, path, name, content, |path| placing.meta(path, Entry::File, &own))
}

/// Adds several files, such as those of a pattern, to the directory at `path`, which is made if
/// it is missing. Returns the paths of the new files, without leading `/`.
///
/// # Errors
/// Those of [`file()`]; two files of the same name.
pub fn files<'a>(
    tree: &mut Tree,
    path: &[u8],
    files: impl IntoIterator<Item = HostFile<'a>>,
    placing: &Placing,
) -> Result<Vec<Vec<u8>>> {
    let inside = [path, b"/"].concat();
    let mut names = BTreeSet::new();
    let mut add = |host: HostFile<'a>| {
        ensure!(names.insert(host.name), "two files are called {}", show(host.name));
        file(tree, &inside, host, placing)
    };
    files.into_iter().map(&mut add).collect()
}

/// Adds the contents of `directory` to the directory at `path`, which is made if it is missing.
/// Directories that exist keep their attributes.
///
/// # Errors
/// Those of [`graft::directory()`].
pub fn directory(tree: &mut Tree, path: &[u8], directory: &Tree, placing: &Placing) -> Result<()> {
    graft::directory_with(tree, path, directory, &|path, node| {
        let entry = match node.kind {
            Kind::Directory(_) => Entry::Directory,
            Kind::Symlink(_) => Entry::Link,
            _ => Entry::File,
        };
        placing.meta(path, entry, &node.meta)
    })
}

/// What a rule for permissions has to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Directory,
    Link,
    File,
}

impl Placing {
    /// The metadata of a file with the metadata `own` that is added at `path`.
    fn meta(&self, path: &[u8], entry: Entry, own: &Meta) -> Meta {
        let (uid, gid) = self.owner;
        let (mtime, nanoseconds) = match self.mtime {
            Some(mtime) => (mtime, 0),
            None => (own.mtime, own.nanoseconds),
        };
        let permissions = self.mode.permissions(path, entry, own.permissions);
        Meta { permissions, uid, gid, mtime, nanoseconds, xattrs: own.xattrs.clone() }
    }
}

impl ModeRule {
    fn permissions(self, path: &[u8], entry: Entry, own: u16) -> u16 {
        match (entry, self) {
            (Entry::Directory, _) => EXECUTABLE,
            (Entry::Link, _) => OF_LINK,
            (Entry::File, Self::Fixed(permissions)) => permissions & 0o7777,
            (Entry::File, Self::Auto) if own & ANY_EXECUTE != 0 => EXECUTABLE,
            (Entry::File, Self::Auto) if is_program(path) || is_library(path) => EXECUTABLE,
            (Entry::File, Self::Auto) => PLAIN,
        }
    }
}

/// Whether the file at `path` is directly in a directory of programs.
fn is_program(path: &[u8]) -> bool {
    let names: Vec<_> = components(path).collect();
    matches!(names[..], [.., above, _] if PROGRAM_DIRECTORIES.contains(&above))
}

/// Whether the file at `path` has the name of a library and is below a directory of libraries.
fn is_library(path: &[u8]) -> bool {
    let names: Vec<_> = components(path).collect();
    let Some((name, above)) = names.split_last() else { return false };
    let is_shared = name.ends_with(b".so") || name.windows(4).any(|part| part == b".so.");
    is_shared && above.iter().any(|name| name.starts_with(LIBRARY_DIRECTORY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::directory as empty;

    fn content(text: &str) -> Content {
        Content::Bytes(text.as_bytes().into())
    }

    fn host(name: &str, permissions: u16) -> HostFile<'_> {
        HostFile { name: name.as_bytes(), content: content(name), permissions, mtime: 7 }
    }

    fn link(to: &str) -> Kind {
        Kind::Symlink(to.as_bytes().into())
    }

    fn image() -> Tree {
        let mut tree = Tree::new(Meta::default());
        let own = Meta { permissions: 0o700, uid: 7, ..Meta::default() };
        tree.put(b"etc", own, empty()).unwrap();
        tree.put(b"usr/bin/sh", Meta::default(), Kind::Fifo).unwrap();
        tree.put(b"bin", Meta::default(), link("usr/bin")).unwrap();
        tree.put(b"out", Meta::default(), link("../../outside")).unwrap();
        tree
    }

    #[test]
    fn modes_follow_the_place_and_the_execute_bits() {
        #[rustfmt::skip]
        let cases = [
            ("etc/app.toml",                    0o600,  0o644),
            ("srv/run",                         0o654,  0o755),
            ("srv/run",                         0o601,  0o755),
            ("srv/run",                         0o4711, 0o755),
            ("bin/app",                         0o644,  0o755),
            ("usr/local/sbin/app",              0o600,  0o755),
            ("opt/app/bin/tool",                0o600,  0o755),
            ("bin/data/file",                   0o600,  0o644),
            ("bin",                             0o600,  0o644),
            ("cabin/app",                       0o600,  0o644),
            ("usr/lib/libx.so",                 0o600,  0o755),
            ("lib64/libx.so.1.2",               0o600,  0o755),
            ("lib/x86_64-linux-gnu/libx.so.1",  0o600,  0o755),
            ("usr/lib/app/plugins/a.so",        0o600,  0o755),
            ("usr/lib/libx.a",                  0o600,  0o644),
            ("usr/lib/x.son",                   0o600,  0o644),
            ("usr/lib/x.so.conf/file",          0o600,  0o644),
            ("srv/libx.so",                     0o600,  0o644),
        ];
        for (path, own, expected) in cases {
            let auto = ModeRule::Auto.permissions(path.as_bytes(), Entry::File, own);
            assert_eq!(auto, expected, "{path} {own:o}");
            let fixed = ModeRule::Fixed(0o4640);
            assert_eq!(fixed.permissions(path.as_bytes(), Entry::File, own), 0o4640, "{path}");
            for rule in [fixed, ModeRule::Auto] {
                let entries = [(Entry::Directory, 0o755), (Entry::Link, 0o777)];
                for (entry, expected) in entries {
                    assert_eq!(rule.permissions(path.as_bytes(), entry, own), expected, "{path}");
                }
            }
        }
    }

    #[test]
    fn a_file_is_put_with_its_owner() {
        let placing = Placing { owner: (5, 6), ..Placing::default() };
        let fixed = Placing { mode: ModeRule::Fixed(0o440), mtime: Some(9), ..placing };
        for (path, placing, expected, permissions, mtime) in [
            ("/usr/bin/app", placing, "usr/bin/app", 0o755, 7),
            ("/bin", placing, "usr/bin/src", 0o755, 7),
            ("/etc/", fixed, "etc/src", 0o440, 9),
            ("new/dir/", placing, "new/dir/src", 0o644, 7),
            ("out/x", placing, "outside/x", 0o644, 7),
        ] {
            let mut tree = image();
            file(&mut tree, path.as_bytes(), host("src", 0o600), &placing).unwrap();
            let id = tree.find(expected.as_bytes()).unwrap_or_else(|| panic!("{path}"));
            let expected = Meta { permissions, uid: 5, gid: 6, mtime, ..Meta::default() };
            assert_eq!(tree.node(id).meta, expected, "{path}");
        }
        for bad in ["../x", "/a/../x", "usr/bin/sh/x"] {
            let added = file(&mut image(), bad.as_bytes(), host("src", 0), &placing);
            assert!(added.is_err(), "{bad}");
        }
    }

    #[test]
    fn several_files_go_into_one_directory() {
        let placing = Placing { owner: (5, 6), ..Placing::default() };
        let both = || [host("a", 0o755), host("b", 0o600)];
        for (path, expected) in [
            ("/bin", ["usr/bin/a", "usr/bin/b"]),
            ("/srv/new", ["srv/new/a", "srv/new/b"]),
            ("/", ["a", "b"]),
        ] {
            let mut tree = image();
            let added = files(&mut tree, path.as_bytes(), both(), &placing).unwrap();
            assert_eq!(added.len(), 2, "{path}");
            for path in expected {
                assert_eq!(tree.node(tree.find(path.as_bytes()).unwrap()).meta.uid, 5, "{path}");
            }
        }
        assert!(files(&mut image(), b"/usr/bin/sh", both(), &placing).is_err());
        let twice = files(&mut image(), b"/srv", [host("a", 0), host("a", 0)], &placing);
        assert_eq!(twice.unwrap_err().to_string(), "two files are called a");
    }

    #[test]
    fn a_directory_is_put_with_its_owner() {
        let own = |permissions| Meta { permissions, uid: 9, nanoseconds: 3, ..Meta::default() };
        let mut from = Tree::new(own(0o700));
        let one = from.put(b"etc/one", own(0o4640), Kind::File(content("1"))).unwrap();
        from.put_link(b"bin/two", one).unwrap();
        from.put(b"sub", own(0o2711), empty()).unwrap();
        from.put(b"link", own(0o777), link("etc/one")).unwrap();
        let placing = Placing { owner: (5, 6), mode: ModeRule::Fixed(0o600), mtime: Some(9) };
        let mut tree = image();
        directory(&mut tree, b"/", &from, &placing).unwrap();
        directory(&mut tree, b"/srv", &from, &placing).unwrap();
        #[rustfmt::skip]
        let expected = [
            ("etc",     0o700, 7, 0),
            ("etc/one", 0o600, 5, 9),
            ("sub",     0o755, 5, 9),
            ("link",    0o777, 5, 9),
            ("srv",     0o755, 5, 9),
            ("srv/etc", 0o755, 5, 9),
        ];
        for (path, permissions, uid, mtime) in expected {
            let meta = &tree.node(tree.find(path.as_bytes()).unwrap()).meta;
            let found = (meta.permissions, meta.uid, meta.mtime, meta.nanoseconds);
            assert_eq!(found, (permissions, uid, mtime, 0), "{path}");
        }
        assert_eq!(tree.find(b"usr/bin/two"), tree.find(b"etc/one"));
    }
}
