//! Layers of OCI images, one on another: whiteouts, links above members, attributes.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use anyhow::Result;
use files::notes::Notes;

use super::{END, TestMember, member, text};
use crate::source::tar::Budget;
use crate::source::tar::layer::{self, DirectoryLinks, LayerOptions};
use crate::tree::{Kind, Meta, Tree};

/// A member of a test layer: `d` directory, `f` file with its path as its contents, `l`
/// symbolic link, `h` hard link. A number after the path sets the mode and the owner.
fn line_member(line: &str) -> TestMember {
    let words: Vec<_> = line.split(' ').collect();
    let owned = |member: TestMember, words: &[&str]| match words {
        [mode, owner] => member
            .with(100, format!("{mode:0>7}\0").as_bytes())
            .with(108, format!("{owner:0>7}\0").as_bytes()),
        _ => member,
    };
    match &words[..] {
        ["d", path, rest @ ..] => owned(member(b'5', path, b"").with(100, b"0000755\0"), rest),
        ["f", path, rest @ ..] => owned(member(b'0', path, path.as_bytes()), rest),
        ["l", path, target] => member(b'2', path, b"").to(target),
        ["h", path, target] => member(b'1', path, b"").to(target),
        _ => panic!("{line}"),
    }
}

fn apply_all(layers: &[&[&str]], links: DirectoryLinks) -> Result<(Tree, Vec<String>)> {
    let bytes = |lines: &&[&str]| {
        let members = lines.iter().flat_map(|line| line_member(line).bytes());
        members.chain(END.iter().copied()).collect()
    };
    let archives: Vec<Vec<u8>> = layers.iter().map(bytes).collect();
    apply_archives(&archives, links)
}

pub(super) fn apply_archives(
    archives: &[Vec<u8>],
    links: DirectoryLinks,
) -> Result<(Tree, Vec<String>)> {
    let mut tree = Tree::new(Meta { permissions: 0o755, ..Meta::default() });
    let mut notes = Notes::default();
    let options = LayerOptions { time: 77, links };
    let mut budget = Budget::IMAGE;
    for bytes in archives {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        layer::apply(&Arc::new(file), &mut tree, &options, &mut budget, &mut notes)?;
    }
    Ok((tree, notes.lines().collect()))
}

/// A line for each name, in the order of the tree: `a/` directory, `a` file whose contents are
/// its path, `a=b` file with other contents, `a>b` symbolic link.
fn lines(tree: &Tree) -> String {
    let mut lines = Vec::new();
    let mut visit = |path: &[u8], id| {
        let path = String::from_utf8_lossy(path).into_owned();
        lines.push(match &tree.node(id).kind {
            Kind::Directory(_) => format!("{path}/"),
            Kind::Symlink(target) => format!("{path}>{}", String::from_utf8_lossy(target)),
            Kind::File(_) => match String::from_utf8(text(tree, &path)).unwrap() {
                own if own == path => path,
                other => format!("{path}={other}"),
            },
            _ => format!("{path}?"),
        });
        Ok(())
    };
    tree.walk(&mut visit).unwrap();
    lines.remove(0);
    lines.join(" ")
}

#[test]
#[rustfmt::skip]
fn layers_are_merged_as_the_specification_says() {
    let deep: Vec<String> = (0..41).map(|n| format!("l l{n} l{}", n + 1)).collect();
    let deep: Vec<&str> = deep.iter().map(String::as_str).chain(["d l41"]).collect();
    for (name, layers, expected) in [
        ("a directory again, and opaque", &[&["d a", "d a/b", "f a/b/foo"][..], &["d a", "f a/.wh..wh..opq"]][..], "a/"),
        ("opaque after new entries", &[&["d a", "f a/old"], &["d a", "f a/new", "f a/.wh..wh..opq"]], "a/ a/new"),
        ("opaque without the directory", &[&["d a", "f a/old"], &["f a/.wh..wh..opq"]], "a/"),
        ("removed and back", &[&["f X"], &["f .wh.X"], &["f X"]], "X"),
        ("removed by the last layer", &[&["f X"], &["f Y"], &["f .wh.X"]], "Y"),
        ("a whiteout and one below it", &[&["d t", "f t/t"], &["f .wh.t", "f t/.wh.t"]], ""),
        ("the same, in the other order", &[&["d t", "f t/t"], &["f t/.wh.t", "f .wh.t"]], ""),
        ("a whiteout after its own file", &[&["f etc/a"], &["f etc/a", "f etc/.wh.a"]], "etc/ etc/a"),
        ("a whiteout of nothing", &[&["f a"], &["f .wh.b", "f c/.wh.d"]], "a"),
        ("a dangling link removed", &[&["l a nowhere"], &["f .wh.a"]], ""),
        ("marks of aufs", &[&["f a"], &["f .wh..wh.plnk/x", "f .wh..wh.aufs"]], "a"),
        ("a directory removed and made again", &[&["d a", "f a/x"], &["f .wh.a", "f a/y"]], "a/ a/y"),
        ("a hard link over a file", &[&["f a", "f b"], &["h b a"]], "a b=a"),
        ("a hard link over a link", &[&["f a", "l b a"], &["h b a"]], "a b=a"),
        ("a hard link over a directory", &[&["f a", "d b", "f b/x"], &["h b a"]], "a b=a"),
        ("a hard link to what is replaced", &[&["d b", "f b/x"], &["h b b/x"]], "b=b/x"),
        ("a hard link to itself", &[&["f a"], &["h a a"]], "a"),
        ("a hard link to a lower file", &[&["f a"], &["h b a"], &["f .wh.a"]], "b=a"),
        ("one name of two replaced", &[&["f a", "h b a"], &["l a x"]], "a>x b=a"),
        ("a link over a file of its layer", &[&["f bin/s", "l bin/s ../x"]], "bin/ bin/s>../x"),
        ("a link over a link", &[&["l a one"], &["l a two"]], "a>two"),
        ("through an absolute link", &[&["d run", "d var", "l var/run /run"], &["f var/run/x"]], "run/ run/x=var/run/x var/ var/run>/run"),
        ("through a link out of the root", &[&["l a ../../../../etc"], &["f a/x"]], "a>../../../../etc etc/ etc/x=a/x"),
        ("a whiteout through a link", &[&["d b", "f b/x", "l a b"], &["f a/.wh.x"]], "a>b b/"),
        ("a hard link through a link", &[&["f x", "l a ../.."], &["h a/y a/x"]], "a>../.. x y=x"),
        ("file, directory, file", &[&["f a"], &["f a/b/c"], &["f a"]], "a"),
        ("below a former file", &[&["f a"], &["f a/b"]], "a/ a/b"),
        ("below a link to a file", &[&["f f", "l a f"], &["f a/b"]], "a/ a/b f"),
        ("merged usr, no entry", &[&["d usr", "d usr/bin", "f usr/bin/sh", "l bin usr/bin"], &["f bin/tool"]], "bin>usr/bin usr/ usr/bin/ usr/bin/sh usr/bin/tool=bin/tool"),
        ("merged usr, an entry", &[&["d usr", "d usr/bin", "f usr/bin/sh", "l bin usr/bin"], &["d bin", "f bin/tool"]], "bin/ bin/tool usr/ usr/bin/ usr/bin/sh"),
        ("a whiteout in a replaced link", &[&["d b", "f b/x", "l a b"], &["d a", "f a/.wh.x", "f a/.wh..wh..opq"]], "a/ b/ b/x"),
        ("a whiteout of a link, then one through it", &[&["d b", "f b/x", "l a b"], &["f .wh.a", "f a/.wh.x"]], "b/ b/x"),
        ("the same, in the other order", &[&["d b", "f b/x", "l a b"], &["f a/.wh.x", "f .wh.a"]], "b/ b/x"),
        ("through a link that is hidden", &[&["d b", "f b/x", "d d", "l d/a /b"], &["f d/a/.wh.x", "f .wh.d"]], "b/ b/x"),
        ("through a link that is opaque", &[&["d b", "f b/x", "d d", "l d/a /b"], &["f d/a/.wh.x", "f d/.wh..wh..opq"]], "b/ b/x d/"),
        ("two whiteouts, one through a link", &[&["d b", "f b/x", "l a b"], &["f b/.wh.x", "f a/.wh.x"]], "a>b b/"),
        ("the same link again, and a whiteout", &[&["d b", "f b/x", "l a b"], &["l a b", "f a/.wh.x"]], "a>b b/"),
        ("another link, and a whiteout", &[&["d b", "f b/x", "d c", "l a b"], &["l a c", "f a/.wh.x"]], "a>c b/ b/x c/"),
        ("a whiteout out of the root", &[&["l a ../..", "f x"], &["f a/.wh.x"]], "a>../.."),
        ("opaque out of the root", &[&["l a ../..", "f x"], &["f a/.wh..wh..opq", "f y"]], "y"),
        ("the root is opaque", &[&["d a", "f a/x", "f b"], &["f c", "f .wh..wh..opq"]], "c"),
        ("files of eStargz", &[&["f stargz.index.json", "f .prefetch.landmark", "f ./.no.prefetch.landmark", "d a", "f a/stargz.index.json"]], "a/ a/stargz.index.json"),
        ("a chain of hard links", &[&["f a", "h b a", "h c b"], &["h d c"]], "a b=a c=a d=a"),
        ("a hard link to a link", &[&["l a nowhere"], &["h b a"]], "a>nowhere b>nowhere"),
        ("duplicates", &[&["f a", "l a x", "f a"]], "a"),
        ("the same layer twice", &[&["f a/b"], &["f a/b"]], "a/ a/b"),
        ("no member", &[&[], &["f a"], &[]], "a"),
        ("40 links", &[&deep[1..], &["f l1/x"]], &{
            let links: Vec<_> = (1..41).map(|n| format!("l{n}>l{}", n + 1)).chain(["l41/".into(), "l41/x=l1/x".into()]).collect();
            let mut links = links; links.sort_by(|a, b| a.split(['>', '/']).next().cmp(&b.split(['>', '/']).next()).then(a.cmp(b)));
            links.join(" ")
        }),
    ] {
        let (tree, _) = apply_all(layers, DirectoryLinks::Replace).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert_eq!(lines(&tree), expected, "{name}");
    }
    for (name, layers, word) in [
        ("41 links", &[&deep[..], &["f l0/x"]][..], "too many links"),
        ("a circle", &[&["l a b", "l b a"], &["f a/x"]], "too many links"),
        ("a whiteout without a name", &[&["f .wh."]], "names no file"),
        ("a whiteout of the directory", &[&["f a/.wh.."]], "names no file"),
        ("a whiteout of the parent", &[&["f a/.wh..."]], "names no file"),
        ("above the root", &[&["f ../x"]], "\"..\""),
        ("within the path", &[&["f a/../x"]], "\"..\""),
        ("a hard link before its target", &[&["h b a", "f a"]], "the target of the link, a, is missing"),
        ("a hard link to nothing, itself", &[&["h a a"]], "the target of the link, a, is missing"),
        ("a hard link to what is hidden", &[&["f a"], &["f .wh.a", "h b a"]], "the target of the link, a, is missing"),
        ("a chain before its target", &[&["h c b", "h b a", "f a"]], "c: the target of the link, b, is missing"),
        ("a hard link to a directory", &[&["d a"], &["h b a"]], "b: link to a: a directory has one name"),
        ("a hard link through a circle", &[&["l a b", "l b a", "h x a/y"]], "the target of the link, a/y, is missing"),
        ("a file as the root", &[&["f ."]], "the root is a directory"),
        ("a hard link above the root", &[&["h b ../a"]], "outside of the archive"),
    ] {
        let error = apply_all(layers, DirectoryLinks::Replace).map(|_| ()).expect_err(name);
        assert!(format!("{error:#}").contains(word), "{name}: {error:#}");
    }
}

#[test]
fn attributes_stay_where_a_layer_has_no_entry() {
    let (tree, notes) = apply_all(
        &[&["d . 700 5", "d root 700 5", "d tmp 1777 0"], &["f root/b", "f tmp/c", "f new/d"]],
        DirectoryLinks::Replace,
    )
    .unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    for (path, permissions, uid, mtime) in
        [("", 0o700, 5, 0), ("root", 0o700, 5, 0), ("tmp", 0o1777, 0, 0), ("new", 0o755, 0, 77)]
    {
        let meta = &tree.node(tree.find(path.as_bytes()).unwrap()).meta;
        assert_eq!((meta.permissions, meta.uid, meta.mtime), (permissions, uid, mtime), "{path}");
    }
    assert_eq!(tree.node(tree.find(b"new/d").unwrap()).meta.mtime, 0);
}

#[test]
fn links_to_directories_can_be_kept() {
    let layers: &[&[&str]] =
        &[&["d usr", "d usr/bin", "l bin usr/bin"], &["d bin 700 3", "f bin/tool"]];
    let (tree, notes) = apply_all(layers, DirectoryLinks::Keep).unwrap();
    assert_eq!(lines(&tree), "bin>usr/bin usr/ usr/bin/ usr/bin/tool=bin/tool");
    assert_eq!(tree.node(tree.find(b"usr/bin").unwrap()).meta.permissions, 0o700);
    assert!(notes.is_empty(), "{notes:?}");
    // A whiteout in the directory is about the files in the directory that the link leads to.
    let whiteout: &[&[&str]] =
        &[&["d usr", "d usr/bin", "f usr/bin/sh", "l bin usr/bin"], &["d bin", "f bin/.wh.sh"]];
    let (tree, _) = apply_all(whiteout, DirectoryLinks::Keep).unwrap();
    assert_eq!(lines(&tree), "bin>usr/bin usr/ usr/bin/");
    let (_, notes) = apply_all(layers, DirectoryLinks::Replace).unwrap();
    assert!(notes.len() == 1 && notes[0].contains("replaces a link"), "{notes:?}");
}
