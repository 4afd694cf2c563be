//! Tests with a tree before and after.

use std::collections::BTreeMap;

use super::*;
use crate::tree::{Meta, directory};

/// A 32-digit id, as of a machine.
const ID: &str = "0123456789abcdef0123456789abcdef";
/// Latest time of a file in the tests.
const LATEST: i64 = 1_000;

/// What the tests put at a path.
#[derive(Clone, Copy)]
enum Item<'a> {
    File(&'a str),
    Link(&'a str),
    Directory,
    /// A further name of the file at a path.
    Name(&'a str),
}

use Item::{Directory, File, Link, Name};

fn tree(items: &[(&str, Item<'_>)]) -> Tree {
    let mut tree = Tree::new(Meta::default());
    for (path, item) in items {
        let meta = Meta { permissions: 0o640, uid: 7, mtime: 5, ..Meta::default() };
        let kind = match item {
            File(text) => Kind::File(Content::Bytes(text.as_bytes().into())),
            Link(target) => Kind::Symlink(target.as_bytes().into()),
            Directory => directory(),
            Name(other) => {
                let id = tree.find(other.as_bytes()).unwrap();
                tree.put_link(path.as_bytes(), id).unwrap();
                continue;
            }
        };
        tree.put(path.as_bytes(), meta, kind).unwrap();
    }
    tree
}

fn bytes(tree: &Tree, path: &str) -> Vec<u8> {
    let id = tree.find(path.as_bytes()).unwrap_or_else(|| panic!("{path} is missing"));
    let Kind::File(content) = &tree.node(id).kind else { panic!("{path} is no file") };
    let mut bytes = Vec::new();
    content.open().unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(content.size(), bytes.len() as u64, "{path}");
    bytes
}

/// Paths of the files with their text, of the links with their targets, and of the empty
/// directories.
fn left(tree: &Tree) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut visit = |path: &[u8], id| {
        let path = String::from_utf8(path.to_vec()).unwrap();
        let text = match &tree.node(id).kind {
            Kind::File(_) => String::from_utf8(bytes(tree, &path)).unwrap(),
            Kind::Symlink(target) => format!("-> {}", String::from_utf8_lossy(target)),
            Kind::Directory(children) if children.is_empty() => "/".to_owned(),
            _ => return Ok(()),
        };
        found.insert(path, text);
        Ok(())
    };
    tree.walk(&mut visit).unwrap();
    found
}

#[test]
fn what_differs_is_removed_and_nothing_else() {
    use Normalisation as N;
    /// Name of the case, row, the tree, and what is left of it.
    type Case<'a> = (&'a str, N, &'a [(&'a str, Item<'a>)], &'a [(&'a str, &'a str)]);
    let id = format!("{ID}\n");
    let journal = format!("var/log/journal/{ID}/system.journal");
    let namespace = format!("var/log/journal/{ID}.web/system.journal");
    let long_id = format!("{ID}{ID}{ID}\n");
    #[rustfmt::skip]
    let cases: &[Case] = &[
        ("logs", N::Logs,
         &[("var/log/a", File("1")), ("var/log/apt/b", File("2")), ("var/log/l", Link("/etc/x")), ("etc/x", File("3")), ("var/logs", File("4"))],
         &[("var/log/a", ""), ("var/log/apt/b", ""), ("var/log/l", "-> /etc/x"), ("etc/x", "3"), ("var/logs", "4")]),
        ("journals", N::Logs,
         &[(&journal, File("1")), (&namespace, File("2")), ("var/log/journal/remote/x", File("3")), ("var/log/journal/fss", File("4"))],
         &[("var/log/journal/remote/x", ""), ("var/log/journal/fss", "")]),
        ("logs behind a link", N::Logs,
         &[("var/log", Link("../../srv/log")), ("srv/log/a", File("1")), ("srv/b", File("2"))],
         &[("var/log", "-> ../../srv/log"), ("srv/log/a", ""), ("srv/b", "2")]),
        ("logs behind a loop", N::Logs, &[("var/log", Link("log"))], &[("var/log", "-> log")]),
        ("a file in place of the logs", N::Logs, &[("var/log", File("1"))], &[("var/log", "1")]),
        ("a log with another name elsewhere", N::Logs,
         &[("srv/a", File("1")), ("var/log/a", Name("srv/a")), ("var/log/b", Name("srv/a"))],
         &[("srv/a", "1"), ("var/log/a", ""), ("var/log/b", "")]),
        ("ldconfig", N::Ldconfig,
         &[("var/cache/ldconfig/aux-cache", File("1")), ("etc/ld.so.cache", File("2"))],
         &[("var/cache/ldconfig", "/"), ("etc/ld.so.cache", "2")]),
        ("machine-id", N::MachineId, &[("etc/machine-id", File(&id))], &[("etc/machine-id", "")]),
        ("machine-id without a new line", N::MachineId, &[("etc/machine-id", File(ID))], &[("etc/machine-id", "")]),
        ("no id yet", N::MachineId, &[("etc/machine-id", File("uninitialized\n"))], &[("etc/machine-id", "uninitialized\n")]),
        ("no id at all", N::MachineId, &[("etc/machine-id", File(&long_id))], &[("etc/machine-id", &long_id)]),
        ("a link to an id", N::MachineId,
         &[("etc/machine-id", Link("../run/id")), ("run/id", File(&id))],
         &[("etc/machine-id", "-> ../run/id"), ("run/id", &id)]),
        ("an id with two names", N::MachineId,
         &[("etc/machine-id", File(&id)), ("var/lib/dbus/machine-id", Name("etc/machine-id"))],
         &[("etc/machine-id", ""), ("var/lib/dbus/machine-id", &id)]),
        ("dbus-id", N::DbusId, &[("var/lib/dbus/machine-id", File(&id))], &[("var/lib/dbus", "/")]),
        ("dbus-id that is a link", N::DbusId,
         &[("var/lib/dbus/machine-id", Link("/etc/machine-id")), ("etc/machine-id", File(&id))],
         &[("var/lib/dbus/machine-id", "-> /etc/machine-id"), ("etc/machine-id", &id)]),
        ("random-seed", N::RandomSeed,
         &[("var/lib/systemd/random-seed", File("1")), ("var/lib/urandom/random-seed", File("2")), ("var/lib/misc/random-seed", File("3")),
           ("var/lib/random-seed", File("4")), ("var/lib/seedrng/seed.credit", File("5")), ("var/lib/systemd/credential.secret", File("6"))],
         &[("var/lib/systemd/credential.secret", "6"), ("var/lib/urandom", "/"), ("var/lib/misc", "/"), ("var/lib/seedrng", "/")]),
        ("wget-hsts", N::WgetHsts,
         &[("root/.wget-hsts", File("1")), ("srv/home/a/.wget-hsts", File("2")), ("srv/home/b/.bashrc", File("3")), ("home", Link("srv/home")),
           ("srv/home/c", File("4")), ("srv/.wget-hsts", File("5")), ("srv/home/d", Link("../out")), ("srv/out/.wget-hsts", File("6"))],
         &[("root", "/"), ("srv/home/a", "/"), ("srv/home/b/.bashrc", "3"), ("home", "-> srv/home"),
           ("srv/home/c", "4"), ("srv/.wget-hsts", "5"), ("srv/home/d", "-> ../out"), ("srv/out", "/")]),
        ("apt", N::Apt,
         &[("var/cache/apt/pkgcache.bin", File("1")), ("var/cache/apt/srcpkgcache.bin", File("2")), ("var/cache/apt/archives/lock", File("")),
           ("var/cache/apt/archives/a.deb", File("3")), ("var/lib/apt/lists/partial/x", File("4")), ("var/lib/apt/lists/lock", File("")),
           ("var/lib/apt/lists/d_Packages", File("5")), ("var/lib/dpkg/status", File("6")), ("var/lib/dpkg/status-old", File("7")),
           ("var/lib/dpkg/info/x-old", File("8")), ("var/cache/debconf/config.dat-old", File("9")), ("var/lib/dpkg/d-old", Directory)],
         &[("var/cache/apt/archives/a.deb", "3"), ("var/lib/apt/lists/partial", "/"), ("var/lib/apt/lists/d_Packages", "5"),
           ("var/lib/dpkg/status", "6"), ("var/lib/dpkg/info/x-old", "8"), ("var/cache/debconf", "/"), ("var/lib/dpkg/d-old", "/")]),
    ];
    for (name, row, before, expected) in cases {
        let mut tree = tree(before);
        let expected = expected.iter().map(|(path, text)| ((*path).into(), (*text).into()));
        let expected: BTreeMap<String, String> = expected.collect();
        for time in ["once", "again"] {
            apply(&mut tree, &[*row], LATEST).unwrap();
            assert_eq!(left(&tree), expected, "{name} {time}");
        }
    }
}

#[test]
fn an_empty_tree_and_any_row_are_fine() {
    let rows: Vec<_> = Normalisation::all().collect();
    assert_eq!(rows.len(), 8);
    let mut empty = tree(&[]);
    apply(&mut empty, &rows, LATEST).unwrap();
    assert_eq!(left(&empty), BTreeMap::from([(String::new(), "/".to_owned())]));
}

#[test]
fn emptied_files_keep_their_attributes_and_their_links() {
    let mut tree = tree(&[
        ("var/log/a", File("1")),
        ("var/log/b", Name("var/log/a")),
        ("var/log/c", File("3")),
        ("etc/c", Name("var/log/c")),
    ]);
    apply(&mut tree, &[Normalisation::Logs], LATEST).unwrap();
    let found = |path: &[u8]| tree.find(path).unwrap();
    assert_eq!(found(b"var/log/a"), found(b"var/log/b"), "still one file");
    assert_ne!(found(b"var/log/c"), found(b"etc/c"));
    assert_eq!(bytes(&tree, "etc/c"), b"3");
    for path in [&b"var/log/a"[..], b"var/log/c"] {
        let meta = &tree.node(found(path)).meta;
        assert_eq!((meta.permissions, meta.uid, meta.mtime), (0o640, 7, 5));
    }
}
