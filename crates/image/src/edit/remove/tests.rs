//! Patterns with exceptions, and parts of a tree.

use super::*;
use crate::tree::{Kind, Meta, directory};

/// A tree of these paths: `PATH/` is a directory, `PATH->TARGET` a link, any other a pipe.
fn tree(paths: &[&str]) -> Tree {
    let mut tree = Tree::new(Meta::default());
    for path in paths {
        let (path, kind) = match path.split_once("->") {
            Some((path, target)) => (path, Kind::Symlink(target.as_bytes().into())),
            None if path.ends_with('/') => (*path, directory()),
            None => (*path, Kind::Fifo),
        };
        tree.put(path.as_bytes(), Meta::default(), kind).unwrap();
    }
    tree
}

/// The paths of all files and of all empty directories, the latter with a `/` at the end.
fn left(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    let mut visit = |path: &[u8], id| {
        let path = String::from_utf8(path.to_vec()).unwrap();
        match tree.children(id) {
            Some(children) if children.is_empty() && id != Tree::ROOT => {
                found.push(format!("{path}/"));
            }
            Some(_) => {}
            None => found.push(path),
        }
        Ok(())
    };
    tree.walk(&mut visit).unwrap();
    found
}

const DOC: &[&str] = &[
    "usr/share/doc/a/copyright",
    "usr/share/doc/a/news",
    "usr/share/doc/b/news",
    "usr/share/doc/c/d/copyright",
    "usr/share/man/x",
];

#[test]
fn exceptions_stay_with_the_directories_above_them() {
    /// Name of the case, paths of the tree, patterns, the paths that stay, and the patterns that
    /// have removed nothing.
    type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str], &'a [&'a str]);
    let ab = &["a/b", "c/a/b"];
    #[rustfmt::skip]
    let cases: &[Case] = &[
        ("copyright files",       DOC, &["/usr/share/doc/**", "!/usr/share/doc/*/copyright"], &["usr/share/doc/a/copyright", "usr/share/man/x"], &[]),
        ("of the directory",      DOC, &["/usr/share/doc", "!/usr/share/doc/*/copyright"],    &["usr/share/doc/a/copyright", "usr/share/man/x"], &[]),
        ("at any depth",          DOC, &["/usr/share/doc/", "!/usr/share/doc/**/copyright"],  &["usr/share/doc/a/copyright", "usr/share/doc/c/d/copyright", "usr/share/man/x"], &[]),
        ("nothing is kept",       DOC, &["/usr/share/doc/**", "!/usr/share/doc/*/licence"],   &["usr/share/doc/", "usr/share/man/x"], &[]),
        ("a kept directory",      DOC, &["/usr/**", "!/usr/share/doc/c"],                     &["usr/share/doc/c/d/copyright"], &[]),
        ("kept, removed again",   DOC, &["/usr", "!/usr/share/doc/a", "/usr/share/doc/*/news"], &["usr/share/doc/a/copyright"], &[]),
        ("the last one wins",     DOC, &["!/usr/share/man", "/usr/share"],                    &["usr/"], &[]),
        ("all",                   DOC, &["/**"],                                              &[], &[]),
        ("all, by the root's names", DOC, &["/*", "!/usr/share/man/x"],                       &["usr/share/man/x"], &[]),
        ("kept by an older one",  DOC, &["/usr/share/man", "!/usr/share/man/x"],              DOC, &["/usr/share/man"]),
        ("anchored",              ab,  &["/a"],                                               &["c/a/b"], &[]),
        ("anchored without /",    ab,  &["a"],                                                &["c/a/b"], &[]),
        ("anywhere",              ab,  &["**/b"],                                             &["a/", "c/a/"], &[]),
        ("directories only",      &["a/tmp/", "tmp", "b/tmp"], &["**/tmp/"],                  &["a/", "b/tmp", "tmp"], &[]),
        ("matches nothing",       ab,  &["/x", "/a/b", "!/y", "/*/x/**"],                     &["a/", "c/a/b"], &["/x", "/*/x/**"]),
        ("two match",             ab,  &["/a/b", "/a"],                                       &["c/a/b"], &[]),
        ("classes, escapes",      &["a1", "ab", "!x", "#x", "[z"], &["a[0-9]", "\\!x", "/#x", "\\[z"], &["ab"], &[]),
        ("a link is a name",      &["l->d", "d/x"], &["/l", "/l/x"],                          &["d/x"], &["/l/x"]),
    ];
    for (name, paths, patterns, expected, idle) in cases {
        let mut tree = tree(paths);
        let removal = Removal::of(patterns.iter().copied()).unwrap();
        let effects = removal.apply(&mut tree);
        assert_eq!(left(&tree), *expected, "{name}");
        let removing = patterns.iter().filter(|pattern| !pattern.starts_with('!'));
        assert!(effects.iter().map(|effect| effect.pattern).eq(removing.copied()), "{name}");
        let without = effects.iter().filter(|effect| !effect.has_removed);
        assert_eq!(without.map(|effect| effect.pattern).collect::<Vec<_>>(), *idle, "{name}");
    }
}

#[test]
fn names_may_have_any_bytes_and_several_names_are_separate() {
    let mut tree = Tree::new(Meta::default());
    let id = tree.put(b"d/\xff.o", Meta::default(), Kind::Fifo).unwrap();
    tree.put_link(b"kept", id).unwrap();
    assert!(Removal::of(["/d/*.o"]).unwrap().apply(&mut tree)[0].has_removed);
    assert_eq!((tree.find(b"kept"), tree.node(id).names), (Some(id), 1));
    for bad in ["", "!", "!/", " ", "# x", "[z-a]", "a\nb", "/", "{a"] {
        let error = Removal::of(["/a", bad]).unwrap_err();
        assert!(error.to_string().starts_with("pattern \""), "{bad}: {error:#}");
    }
}

#[test]
fn only_the_given_paths_stay() {
    const ROOT: &[&str] = &[
        "bin->usr/bin",
        "dangling->opt/none",
        "etc/os-release->../usr/lib/os-release",
        "etc/passwd",
        "loop->loop",
        "opt/",
        "usr/bin/dash",
        "usr/bin/sh->dash",
        "usr/lib/libc",
        "usr/lib/os-release",
        "usr/share/doc/x",
    ];
    /// Name of the case, the given paths, the paths that stay, and those that are missing.
    type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);
    #[rustfmt::skip]
    let cases: &[Case] = &[
        ("nothing",              &[],                          &[], &[]),
        ("everything",           &["/"],                       ROOT, &[]),
        ("a directory",          &["/usr/lib"],                &["usr/lib/libc", "usr/lib/os-release"], &[]),
        ("a file",               &["/etc/passwd"],             &["etc/passwd"], &[]),
        ("an empty directory",   &["/opt"],                    &["opt/"], &[]),
        ("two in one",           &["/usr/lib/libc", "/usr/share"], &["usr/lib/libc", "usr/share/doc/x"], &[]),
        ("one in the other",     &["/usr/lib/libc", "/usr/lib"], &["usr/lib/libc", "usr/lib/os-release"], &[]),
        ("a link to a directory", &["/bin"],                   &["bin->usr/bin", "usr/bin/dash", "usr/bin/sh->dash"], &[]),
        ("a link to a file",     &["/etc/os-release"],         &["etc/os-release->../usr/lib/os-release", "usr/lib/os-release"], &[]),
        ("below a link",         &["/bin/sh"],                 &["bin->usr/bin", "usr/bin/dash", "usr/bin/sh->dash"], &[]),
        ("a dangling link",      &["/dangling"],               &["dangling->opt/none", "opt/"], &[]),
        ("a loop",               &["/loop"],                   &["loop->loop"], &[]),
        ("missing",              &["/etc/passwd", "/none", "/etc/passwd/x", "/loop/x", "/usr/none/x"], &["etc/passwd"], &["/none", "/etc/passwd/x", "/loop/x", "/usr/none/x"]),
    ];
    for (name, paths, expected, absent) in cases {
        let mut tree = tree(ROOT);
        let missing = only(&mut tree, paths.iter().map(|path| path.as_bytes()));
        let missing: Vec<_> =
            missing.into_iter().map(|path| str::from_utf8(path).unwrap()).collect();
        let expected: Vec<_> =
            expected.iter().map(|path| path.split("->").next().unwrap()).collect();
        assert_eq!(
            (left(&tree), missing.as_slice()),
            (expected.iter().map(ToString::to_string).collect(), *absent),
            "{name}"
        );
    }
}
