//! Copies of files and directories, and archives, in the tree of an image.

use proptest::prelude::*;

use super::super::ignore::Patterns;
use super::super::select::select;
use super::*;
use crate::tree::{Content, Xattrs, directory};

fn file(text: &str) -> Kind {
    Kind::File(Content::Bytes(text.as_bytes().into()))
}

fn link(to: &str) -> Kind {
    Kind::Symlink(to.as_bytes().into())
}

fn own(permissions: u16, uid: u32) -> Meta {
    Meta { permissions, uid, gid: uid, mtime: 7, ..Meta::default() }
}

fn xattrs(names: &[&str]) -> Xattrs {
    names.iter().map(|name| (name.as_bytes().into(), name.as_bytes().into())).collect()
}

/// The tree of an image, whose files belong to user 1.
fn image() -> Tree {
    let mut tree = Tree::new(own(0o755, 0));
    for (path, permissions, kind) in [
        ("etc", 0o700, directory()),
        ("etc/sub", 0o700, directory()),
        ("etc/conf", 0o600, file("old")),
        ("usr/bin/sh", 0o755, file("sh")),
        ("bin", 0o777, link("usr/bin")),
        ("out", 0o777, link("../../outside/new")),
        ("to-conf", 0o777, link("/etc/conf")),
        ("missing", 0o777, link("opt/a/b")),
        ("loop", 0o777, link("loop")),
        ("etc/to-sub", 0o777, link("sub")),
        ("etc/to-conf", 0o777, link("conf")),
    ] {
        tree.put(path.as_bytes(), own(permissions, 1), kind).unwrap();
    }
    tree
}

/// The sources of instructions, whose files belong to user 2.
fn sources() -> Tree {
    let mut tree = Tree::new(own(0o750, 2));
    for (path, permissions, kind) in [
        ("app", 0o4755, file("app")),
        ("conf", 0o640, file("new")),
        ("sub", 0o644, file("sub")),
        ("bin", 0o644, file("bin")),
        ("dir", 0o2750, directory()),
        ("dir/conf", 0o640, file("new")),
        ("dir/sub", 0o711, directory()),
        ("dir/sub/deep", 0o400, file("deep")),
        ("dir/link", 0o777, link("conf")),
        ("dir/to-conf", 0o644, file("plain")),
        ("clash1/conf/x", 0o644, file("x")),
        ("clash2/sub", 0o644, file("x")),
        ("clash3/to-sub/x", 0o644, file("x")),
        ("l", 0o777, link("app")),
        ("fifo", 0o644, Kind::Fifo),
    ] {
        tree.put(path.as_bytes(), own(permissions, 2), kind).unwrap();
    }
    tree
}

fn chosen(patterns: &[&str]) -> Vec<Selected> {
    let one = |pattern| select(&sources(), pattern, &Patterns::default()).unwrap();
    patterns.iter().flat_map(|pattern| one(pattern)).collect()
}

/// Kind or contents, mode and owner of a node.
fn line(tree: &Tree, path: &str) -> String {
    let Some(id) = tree.find(path.as_bytes()) else { return format!("{path} missing") };
    let node = tree.node(id);
    let kind = match &node.kind {
        Kind::Directory(_) => "/".to_owned(),
        Kind::File(Content::Bytes(bytes)) => show(bytes),
        Kind::Symlink(target) => format!("-> {}", show(target)),
        kind => format!("{kind:?}"),
    };
    let Meta { permissions, uid, gid, mtime, .. } = node.meta;
    format!("{path} {kind} {permissions:o} {uid}:{gid} {mtime}")
}

#[track_caller]
fn check(name: &str, tree: &Tree, expected: &[&str]) {
    for text in expected {
        let path = text.split(' ').next().unwrap();
        assert_eq!(line(tree, path), *text, "{name}");
    }
}

const PLAIN: Rule<'_> = Rule { owner: None, mode: None, mtime_of_new_directories: 9 };

#[test]
fn files_and_directories_go_where_buildkit_puts_them() {
    /// Name, sources, destination, paths of single files, and lines of the tree.
    type Case<'a> = (&'a str, &'a [&'a str], &'a str, &'a [&'a str], &'a [&'a str]);
    #[rustfmt::skip]
    let cases: &[Case] = &[
        ("new file",                &["app"],         "/srv/a/prog",   &["srv/a/prog"],
         &["srv/a/prog app 4755 2:2 7", "srv/a / 755 0:0 9", "srv / 755 0:0 9"]),
        ("slash",                   &["app"],         "/srv/",         &["srv/app"],    &["srv/app app 4755 2:2 7"]),
        ("dot",                     &["app"],         "/srv/.",        &["srv/app"],    &["srv/app app 4755 2:2 7"]),
        ("root",                    &["app"],         "/",             &["app"],        &["app app 4755 2:2 7"]),
        ("nothing is the root",     &["app"],         "",              &["app"],        &["app app 4755 2:2 7"]),
        ("relative and not clean",  &["app"],         "./../srv//../x", &["x"],         &["x app 4755 2:2 7", "srv missing"]),
        ("existing directory",      &["app"],         "/etc",          &["etc/app"],
         &["etc/app app 4755 2:2 7", "etc / 700 1:1 7"]),
        ("existing file",           &["conf"],        "/etc/conf",     &["etc/conf"],   &["etc/conf new 640 2:2 7"]),
        ("existing file, inside",   &["conf"],        "/etc/",         &["etc/conf"],   &["etc/conf new 640 2:2 7"]),
        ("link to a directory",     &["app"],         "/bin",          &["bin/app"],
         &["usr/bin/app app 4755 2:2 7", "bin -> usr/bin 777 1:1 7"]),
        ("through a link",          &["app"],         "/bin/x",        &["bin/x"],      &["usr/bin/x app 4755 2:2 7"]),
        ("link to a file",          &["conf"],        "/to-conf",      &["to-conf"],
         &["etc/conf new 640 2:2 7", "to-conf -> /etc/conf 777 1:1 7"]),
        ("link inside",             &["dir/to-conf"], "/etc/",         &["etc/to-conf"],
         &["etc/to-conf plain 644 2:2 7", "etc/conf old 600 1:1 7"]),
        ("link to nothing",         &["conf"],        "/missing",      &["missing"],
         &["opt/a/b new 640 2:2 7", "opt/a / 755 0:0 9", "missing -> opt/a/b 777 1:1 7"]),
        ("link out of the root",    &["app"],         "/out/",         &["out/app"],
         &["outside/new/app app 4755 2:2 7", "outside/new / 755 0:0 9"]),
        ("several",                 &["app", "conf"], "/srv",          &["srv/app", "srv/conf"],
         &["srv/app app 4755 2:2 7", "srv/conf new 640 2:2 7"]),
        ("nothing",                 &[],              "/srv/",         &[],             &["srv missing"]),
        ("selected by a link",      &["l"],           "/srv/",         &["srv/l"],      &["srv/l app 4755 2:2 7"]),
        ("special file",            &["fifo"],        "/srv/f",        &["srv/f"],      &["srv/f Fifo 644 2:2 7"]),
        // Directories.
        ("new directory",           &["dir"],         "/srv/d",        &[],
         &["srv/d / 755 0:0 9", "srv/d/conf new 640 2:2 7", "srv/d/sub / 711 2:2 7",
           "srv/d/sub/deep deep 400 2:2 7", "srv/d/link -> conf 777 2:2 7"]),
        ("merged directory",        &["dir"],         "/etc",          &[],
         &["etc / 700 1:1 7", "etc/sub / 711 2:2 7", "etc/sub/deep deep 400 2:2 7", "etc/conf new 640 2:2 7",
           "etc/to-conf plain 644 2:2 7", "etc/to-sub -> sub 777 1:1 7"]),
        ("into a link",             &["dir"],         "/bin/",         &[],
         &["usr/bin/conf new 640 2:2 7", "usr/bin/sh sh 755 1:1 7", "bin -> usr/bin 777 1:1 7"]),
        ("link to nothing, dir",    &["dir"],         "/missing",      &[],
         &["opt/a/b / 755 0:0 9", "opt/a/b/conf new 640 2:2 7"]),
        ("into the root",           &["dir"],         "/",             &[],             &["conf new 640 2:2 7"]),
        ("directory and file",      &["dir", "app"],  "/srv",          &["srv/app"],
         &["srv/conf new 640 2:2 7", "srv/app app 4755 2:2 7", "srv/dir missing"]),
    ];
    for (name, patterns, to, put, expected) in cases {
        let mut tree = image();
        let found = copy(&mut tree, to.as_bytes(), &chosen(patterns), &PLAIN)
            .unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert_eq!(found.iter().map(|path| show(path)).collect::<Vec<_>>(), *put, "{name}");
        check(name, &tree, expected);
    }
}

#[test]
fn clashes_are_errors_that_name_both() {
    let long = "x/".repeat(2100);
    #[rustfmt::skip]
    let cases: &[(&str, &[&str], &str, &[&str])] = &[
        ("file over directory",       &["sub"],    "/etc/",        &["/etc/sub is a directory", "sub is a file"]),
        ("file over directory, root", &["bin"],    "/usr/",        &["/usr/bin is a directory", "bin is a file"]),
        ("nested file over directory", &["clash2"], "/etc",        &["/etc/sub is a directory", "/sub of the source"]),
        ("nested directory over file", &["clash1"], "/etc",        &["/etc/conf", "the image has a file"]),
        ("directory over link",       &["clash3"], "/etc",         &["/etc/to-sub", "a link to sub"]),
        ("directory over file",       &["dir"],    "/etc/conf",    &["directory dir", "/etc/conf is a file"]),
        ("directory over link, top",  &["dir"],    "/to-conf",     &["directory dir", "/to-conf is a file"]),
        ("below a file",              &["app"],    "/etc/conf/x",  &["copy app to /etc/conf/x", "not a directory"]),
        ("file with a slash",         &["app"],    "/etc/conf/",   &["/etc/conf is a file"]),
        ("several over a file",       &["app", "fifo"], "/etc/conf", &["/etc/conf is a file"]),
        ("links in circles",          &["app"],    "/loop",        &["/loop", "too many links"]),
        ("long",                      &["app"],    &long,          &["4095 bytes"]),
    ];
    for (name, patterns, to, expected) in cases {
        let found = copy(&mut image(), to.as_bytes(), &chosen(patterns), &PLAIN);
        let error = format!("{:#}", found.unwrap_err());
        for text in *expected {
            assert!(error.contains(text), "{name}: {error}");
        }
    }
}

#[test]
fn a_rule_gives_owners_and_modes() {
    let octal = |_: u16, _: Entry| 0o10640;
    let symbolic = |own: u16, entry: Entry| match entry {
        Entry::Missing => own,
        Entry::Directory => own | 0o100,
        Entry::File => own | 0o020,
    };
    let with = |mode| Rule { owner: Some((5, 6)), mode: Some(mode), mtime_of_new_directories: 9 };
    let owner = Rule { mode: None, ..with(&octal) };
    #[rustfmt::skip]
    let cases: &[(&str, Rule<'_>, &[&str])] = &[
        ("owner",    owner,           &["srv / 755 5:6 9", "srv/d/sub / 711 5:6 7", "srv/d/link -> conf 777 5:6 7",
                                        "srv/d/conf new 640 5:6 7", "srv/d/app app 4755 5:6 7"]),
        ("octal",    with(&octal),    &["srv / 640 5:6 9", "srv/d/sub / 640 5:6 7", "srv/d/link -> conf 777 5:6 7",
                                        "srv/d/conf new 640 5:6 7", "srv/d/app app 640 5:6 7"]),
        ("symbolic", with(&symbolic), &["srv / 755 5:6 9", "srv/d/sub / 711 5:6 7", "srv/d/link -> conf 777 5:6 7",
                                        "srv/d/conf new 660 5:6 7", "srv/d/app app 4775 5:6 7"]),
    ];
    for (name, rule, expected) in cases {
        let mut tree = image();
        copy(&mut tree, b"/srv/d/", &chosen(&["dir", "app"]), rule).unwrap();
        check(name, &tree, expected);
    }
}

#[test]
fn attributes_and_hard_links_survive() {
    let mut from = Tree::new(Meta { xattrs: xattrs(&["user.top"]), ..Meta::default() });
    let with = |names: &[&str]| Meta { xattrs: xattrs(names), ..own(0o755, 2) };
    let one = from.put(b"d/one", with(&["security.capability"]), file("1")).unwrap();
    from.put_link(b"d/sub/two", one).unwrap();
    from.node_mut(from.find(b"d/sub").unwrap()).meta = with(&["user.a", "user.b"]);
    let source = select(&from, "d", &Patterns::default()).unwrap();
    let mut tree = image();
    tree.put(b"etc/sub", with(&["user.old", "user.b"]), directory()).unwrap();
    let old = tree.find(b"etc/conf").unwrap();
    tree.put_link(b"etc/one", old).unwrap();
    let rule = Rule { owner: Some((5, 6)), ..PLAIN };
    copy(&mut tree, b"/etc", &source, &rule).unwrap();
    let node = |path: &[u8]| tree.node(tree.find(path).unwrap());
    assert_eq!(node(b"etc/one").meta.xattrs, xattrs(&["security.capability"]));
    assert_eq!(node(b"etc/sub").meta.xattrs, xattrs(&["user.a", "user.b", "user.old"]));
    assert!(node(b"etc").meta.xattrs.is_empty());
    assert_eq!(tree.find(b"etc/one"), tree.find(b"etc/sub/two"));
    // The other name of the file that was replaced still has it.
    check("old file", &tree, &["etc/conf old 600 1:1 7"]);
    assert_eq!(tree.node(old).names, 1);
}

#[test]
fn archives_are_merged() {
    let mut archive = Tree::new(own(0o700, 3));
    for (path, permissions, kind) in [
        ("etc", 0o711, directory()),
        ("etc/conf/x", 0o644, file("x")),
        ("etc/sub", 0o644, file("file")),
        ("bin/tool", 0o4755, file("tool")),
        ("missing", 0o700, directory()),
        ("missing/y", 0o644, file("y")),
        ("to-conf/z", 0o644, file("z")),
        ("usr/lib", 0o777, link("lib64")),
    ] {
        archive.put(path.as_bytes(), own(permissions, 3), kind).unwrap();
    }
    let tool = archive.find(b"bin/tool").unwrap();
    archive.put_link(b"etc/tool", tool).unwrap();
    let with_owner = Rule { owner: Some((5, 6)), ..PLAIN };
    #[rustfmt::skip]
    let cases: &[(&str, &str, Rule<'_>, &[&str])] = &[
        ("into the root", "/", PLAIN,
         &["etc / 711 3:3 7", "etc/conf / 755 0:0 0", "etc/conf/x x 644 3:3 7", "etc/sub file 644 3:3 7",
           "usr/bin/tool tool 4755 3:3 7", "bin -> usr/bin 777 1:1 7", "usr / 755 0:0 0",
           "missing / 700 3:3 7", "missing/y y 644 3:3 7", "to-conf/z z 644 3:3 7", "usr/lib -> lib64 777 3:3 7"]),
        ("into a new directory", "/srv/new", PLAIN,
         &["srv / 755 0:0 9", "srv/new / 755 0:0 9", "srv/new/etc / 711 3:3 7"]),
        ("into a link", "/out", PLAIN, &["outside/new/etc / 711 3:3 7"]),
        ("with an owner", "/srv", with_owner,
         &["srv / 755 5:6 9", "srv/etc / 711 5:6 7", "srv/bin / 755 5:6 0", "srv/bin/tool tool 4755 5:6 7"]),
    ];
    for (name, to, rule, expected) in cases {
        let mut tree = image();
        unpack(&mut tree, to.as_bytes(), &archive, rule).unwrap();
        check(name, &tree, expected);
    }
    let mut tree = image();
    let usr = tree.find(b"usr").unwrap();
    tree.node_mut(usr).meta = own(0o1777, 4);
    unpack(&mut tree, b"/", &archive, &PLAIN).unwrap();
    check("a directory without an entry changes none", &tree, &["usr / 1777 4:4 7"]);
    assert_eq!(tree.find(b"etc/tool"), tree.find(b"usr/bin/tool"));
    for bad in ["/etc/conf", "/etc/conf/x", "/loop"] {
        assert!(unpack(&mut image(), bad.as_bytes(), &archive, &PLAIN).is_err(), "{bad}");
    }
}

/// The image has `bin -> usr/bin`, and the archive both `bin/x` and a file `usr/bin`.
#[test]
fn an_archive_does_not_replace_what_it_has_filled() {
    let mut archive = Tree::new(Meta::default());
    archive.put(b"bin/x", own(0o644, 3), file("x")).unwrap();
    archive.put(b"usr/bin", own(0o644, 3), file("y")).unwrap();
    let error = unpack(&mut image(), b"/", &archive, &PLAIN).unwrap_err();
    assert_eq!(error.to_string(), "/bin: a link leads to a directory that the archive replaces");
}

/// [`Tree::walk`] is recursive, so the depth of a tree must be limited.
#[test]
fn a_merge_makes_no_path_too_long() {
    let mut from = Tree::new(Meta::default());
    from.put("d/".repeat(2000).as_bytes(), Meta::default(), directory()).unwrap();
    let source = select(&from, "/", &Patterns::default()).unwrap();
    let mut tree = image();
    copy(&mut tree, b"/x", &source, &PLAIN).unwrap();
    let to = "y/".repeat(100);
    for found in [
        copy(&mut tree, to.as_bytes(), &source, &PLAIN).map(drop),
        unpack(&mut tree, to.as_bytes(), &from, &PLAIN),
    ] {
        assert!(format!("{:#}", found.unwrap_err()).contains("4095 bytes"));
    }
}

proptest! {
    /// Whatever links the image has, a copy ends, and a file lies where its path leads.
    #[test]
    fn copies_end_inside_the_tree(
        links in proptest::collection::vec(("[ab](/[ab]){0,2}", "/?(\\.\\./|[ab]/){0,3}[ab.]{1,2}"), 0..6),
        to in "/?(\\.\\./|[ab]/){0,4}[ab.]{0,2}",
    ) {
        let mut tree = Tree::new(Meta::default());
        for (path, target) in &links {
            // An earlier link may lead nowhere.
            let _ = tree.put(path.as_bytes(), Meta::default(), link(target));
        }
        if let Ok(put) = copy(&mut tree, to.as_bytes(), &chosen(&["dir", "app"]), &PLAIN) {
            let id = tree.resolve(&put[0]).unwrap();
            assert!(matches!(tree.node(id).kind, Kind::File(_)));
        }
        // An error is fine, a panic is not.
        let _ = unpack(&mut tree, to.as_bytes(), &sources(), &PLAIN);
        let count = tree.nodes().count();
        let mut walked = 0;
        tree.walk(&mut |_, _| { walked += 1; Ok(()) }).unwrap();
        prop_assert!(walked >= count);
    }
}
