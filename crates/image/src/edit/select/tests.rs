//! Paths and wildcards of `COPY` in the tree of a context.

use proptest::prelude::*;

use super::*;
use crate::tree::{Content, Kind, directory};

fn file(text: &str) -> Kind {
    Kind::File(Content::Bytes(text.as_bytes().into()))
}

fn link(to: &str) -> Kind {
    Kind::Symlink(to.as_bytes().into())
}

/// The tree of a build's context.
fn context() -> Tree {
    let mut tree = Tree::new(Meta::default());
    let mut put = |path: &str, kind| {
        tree.put(path.as_bytes(), Meta::default(), kind).unwrap();
    };
    for path in ["home.txt", "home.md", "a*b", "a\\*b", "arr[0].txt", "src/main.rs", "src/lib.rs"] {
        put(path, file(path));
    }
    for path in ["src/bin/one.rs", "lib/x.rs", "lib/y/z.rs", "p1/a/f", "p2/a/f", "p2/b/f", "é"] {
        put(path, file(path));
    }
    put("empty", directory());
    for (path, to) in [
        ("to-file", "home.md"),
        ("to-src", "src"),
        ("up", "../../../src"),
        ("absolute", "/src/bin"),
        ("src/inside", "../home.txt"),
        ("chain", "to-src/bin"),
        ("dangling", "nothing"),
        ("loop", "loop"),
        ("p1/linked", "../src"),
    ] {
        put(path, link(to));
    }
    tree
}

fn chosen(pattern: &str, exclude: &[&str]) -> Result<Vec<Selected>> {
    select(&context(), pattern, &Patterns::of(exclude.iter().copied()).unwrap())
}

/// One line for each selected file, with its contents, and for each directory, with its paths.
fn shown(found: &[Selected]) -> Vec<String> {
    let line = |one: &Selected| {
        let mut names = Vec::new();
        let mut visit = |path: &[u8], id| {
            names.push(match &one.tree.node(id).kind {
                Kind::File(Content::Bytes(bytes)) if !one.is_directory => show(bytes),
                _ => show(path),
            });
            Ok(())
        };
        one.tree.walk(&mut visit).unwrap();
        let end = if one.is_directory { "/" } else { "" };
        format!("{}{end}: {}", show(&one.name), names.split_off(1).join(" "))
    };
    found.iter().map(line).collect()
}

#[test]
fn paths_and_wildcards_select() {
    const SRC: &str = "bin bin/one.rs inside lib.rs main.rs";
    let src = |name: &str| format!("{name}/: {SRC}");
    #[rustfmt::skip]
    let cases: &[(&str, &[&str])] = &[
        ("home.txt",             &["home.txt: home.txt"]),
        ("/home.txt",            &["home.txt: home.txt"]),
        ("./src/../home.txt",    &["home.txt: home.txt"]),
        ("../../home.txt",       &["home.txt: home.txt"]),
        ("src",                  &[&src("src")]),
        ("src/",                 &[&src("src")]),
        ("src/.",                &[&src("src")]),
        ("empty",                &["empty/: "]),
        // Links.
        ("to-file",              &["to-file: home.md"]),
        ("to-src",               &[&src("to-src")]),
        ("up",                   &[&src("up")]),
        ("to-src/main.rs",       &["main.rs: src/main.rs"]),
        ("chain/one.rs",         &["one.rs: src/bin/one.rs"]),
        ("absolute",             &["absolute/: one.rs"]),
        ("src/inside",           &["inside: home.txt"]),
        ("chain/..",             &["/: "]),
        // Without a wildcard, a backslash is one.
        ("a\\*b",                &["a\\\\*b: a\\\\*b"]),
        // Wildcards.
        ("hom*",                 &["home.md: home.md", "home.txt: home.txt"]),
        ("home.?d",              &["home.md: home.md"]),
        ("home.[^t]*",           &["home.md: home.md"]),
        ("arr[[]0].txt",         &["arr[0].txt: arr[0].txt"]),
        ("[a]\\*b",              &["a*b: a*b"]),
        ("?",                    &["é: é"]),
        ("s*",                   &[&src("src")]),
        ("src/*.rs",             &["lib.rs: src/lib.rs", "main.rs: src/main.rs"]),
        ("to-s*",                &[&src("to-src")]),
        ("to-*/../src/l*",       &["lib.rs: src/lib.rs"]),
        ("to-src/m*",            &["main.rs: src/main.rs"]),
        ("p*/a",                 &["a/: f", "a/: f"]),
        ("p?/*/f",               &["f: p1/a/f", "f: p2/a/f", "f: p2/b/f"]),
        ("p1/*",                 &["a/: f", &src("linked")]),
        // Below a wildcard, a link is not followed on the way.
        ("*/main.rs",            &["main.rs: src/main.rs"]),
        ("p1/**/main.rs",        &[]),
        ("nothing*",             &[]),
        ("empty/*",              &[]),
        ("home.txt/*",           &[]),
    ];
    for (pattern, expected) in cases {
        let found = chosen(pattern, &[]).unwrap_or_else(|error| panic!("{pattern}: {error:#}"));
        if *pattern == "chain/.." {
            // The path is cleaned first: this is the root, with everything.
            assert!(found[0].is_directory && found[0].name.is_empty());
            assert!(found[0].tree.find(b"src/bin/one.rs").is_some());
            continue;
        }
        assert_eq!(shown(&found), *expected, "{pattern}");
    }
}

#[test]
fn what_cannot_be_selected_is_named() {
    for (pattern, expected) in [
        ("nothing", "find nothing: nothing does not exist"),
        ("src/nothing", "find src/nothing: nothing does not exist"),
        ("to-src/nothing/x", "find to-src/nothing/x: nothing does not exist"),
        ("home.txt/x", "find home.txt/x: x: the path above it is not a directory"),
        ("dangling", "find dangling: nothing does not exist"),
        ("d*g", "find dangling: nothing does not exist"),
        ("loop", "find loop: too many links"),
        ("loop/x", "find loop/x: too many links"),
        ("l?op", "find loop: too many links"),
        ("nothing/*", "find nothing: nothing does not exist"),
        ("src/[", "pattern \"[\": a class in brackets has no end"),
        ("*\\", "pattern \"*\\\\\": a backslash stands at its end"),
    ] {
        let error = format!("{:#}", chosen(pattern, &[]).unwrap_err());
        assert_eq!(error, expected, "{pattern}");
    }
}

#[test]
fn patterns_leave_files_of_a_selection_out() {
    #[rustfmt::skip]
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("hom*",     &["*.txt"],             &["home.md: home.md"]),
        ("hom*",     &["*.txt", "*.md"],     &[]),
        ("home.txt", &["*.txt"],             &[]),
        ("to-file",  &["*.md"],              &["to-file: home.md"]),
        ("src",      &["*.rs"],              &["src/: bin bin/one.rs inside"]),
        ("src",      &["**/*.rs"],           &["src/: bin inside"]),
        ("src",      &["src"],               &["src/: bin bin/one.rs inside lib.rs main.rs"]),
        ("src",      &["*", "!bin/one.rs"],  &["src/: bin bin/one.rs"]),
        ("p*",       &["a"],                 &["p1/: linked", "p2/: b b/f"]),
        ("p2",       &["*"],                 &["p2/: "]),
        ("src/l*",   &["lib.rs"],            &[]),
        ("src/l*",   &["src/lib.rs"],        &["lib.rs: src/lib.rs"]),
    ];
    for (pattern, exclude, expected) in cases {
        assert_eq!(shown(&chosen(pattern, exclude).unwrap()), *expected, "{pattern} {exclude:?}");
    }
}

#[test]
fn metadata_and_hard_links_are_kept() {
    let meta = |permissions| Meta {
        permissions,
        uid: 5,
        gid: 6,
        mtime: 7,
        nanoseconds: 8,
        xattrs: [(b"user.a"[..].into(), b"1"[..].into())].into_iter().collect(),
    };
    let mut tree = Tree::new(Meta::default());
    tree.put(b"d", meta(0o2750), directory()).unwrap();
    let one = tree.put(b"d/one", meta(0o4711), file("1")).unwrap();
    tree.put_link(b"d/sub/two", one).unwrap();
    tree.put_link(b"three", one).unwrap();
    let mut found = select(&tree, "d", &Patterns::default()).unwrap();
    let top = found.remove(0).tree;
    assert_eq!(top.node(Tree::ROOT).meta, meta(0o2750));
    let one = top.find(b"one").unwrap();
    assert_eq!((top.find(b"sub/two"), top.node(one).names), (Some(one), 2));
    assert_eq!(top.node(one).meta, meta(0o4711));
    let alone = select(&tree, "three", &Patterns::default()).unwrap().remove(0).tree;
    let copy = alone.node(alone.find(b"three").unwrap());
    assert_eq!((&copy.meta, copy.names), (&meta(0o4711), 1));
}

#[test]
fn links_do_not_multiply_a_tree_without_end() {
    let mut tree = Tree::new(Meta::default());
    for number in 0..1200 {
        let path = format!("large/{number}");
        tree.put(path.as_bytes(), Meta::default(), Kind::Fifo).unwrap();
        let path = format!("l{number}");
        tree.put(path.as_bytes(), Meta::default(), link("large")).unwrap();
    }
    let error = select(&tree, "l*", &Patterns::default()).unwrap_err();
    assert!(error.to_string().contains("more files than there are"), "{error:#}");
    assert_eq!(select(&tree, "l1*0", &Patterns::default()).unwrap().len(), 31);
}

proptest! {
    /// Every selected file has contents that say where it lies in the root.
    #[test]
    fn nothing_outside_the_root_is_selected(
        links in proptest::collection::vec(("[abl]{1}", "/?(\\.\\./|[abl]/){0,4}[abl.]{1,2}"), 0..6),
        pattern in "/?(\\.\\./|[abl*?]/|\\[a-c\\]/){0,3}[abl*?\\\\.]{1,2}",
    ) {
        let mut tree = Tree::new(Meta::default());
        for path in ["a/a/a", "a/b", "b/a"] {
            tree.put(path.as_bytes(), Meta::default(), file(path)).unwrap();
        }
        for (name, to) in &links {
            let at = [b"b/", name.as_bytes()].concat();
            // The target of an earlier link may be a file.
            let _ = tree.put(&at, Meta::default(), link(to));
            let _ = tree.put(&[b"l", name.as_bytes()].concat(), Meta::default(), link(to));
        }
        for one in select(&tree, &pattern, &Patterns::default()).unwrap_or_default() {
            one.tree.walk(&mut |_, id| {
                if let Kind::File(Content::Bytes(text)) = &one.tree.node(id).kind {
                    assert!([&b"a/a/a"[..], b"a/b", b"b/a"].contains(&&text[..]), "{text:?}");
                }
                Ok(())
            }).unwrap();
            prop_assert!(one.is_directory || one.tree.find(&one.name).is_some());
        }
    }
}
