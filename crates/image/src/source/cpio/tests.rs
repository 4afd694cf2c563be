//! Archives with odd members. The expected trees follow from `init/initramfs.c`; a VM test
//! compares the kernel with this reader.

use archive::newc::write_member;
use archive::spool::spool;

use super::*;
use crate::tree::mode;

/// A member: name, mode, contents, inode number, number of links, owner.
#[derive(Clone, Copy)]
struct M(&'static str, u32, &'static str, u32, u32, u32);

const DIR: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const LINK: u32 = 0o120_777;
const CHAR: u32 = 0o020_600;

fn dir(name: &'static str) -> M {
    M(name, DIR, "", 0, 2, 0)
}

fn file(name: &'static str, text: &'static str) -> M {
    M(name, FILE, text, 0, 1, 0)
}

fn link(name: &'static str, target: &'static str) -> M {
    M(name, LINK, target, 0, 1, 0)
}

/// A name of the file with inode number 7.
fn hard(name: &'static str, text: &'static str, uid: u32) -> M {
    M(name, FILE, text, 7, 2, uid)
}

const TRAILER: M = M("TRAILER!!!", 0, "", 0, 1, 0);

fn archive(members: &[M]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for M(name, mode, text, ino, nlink, uid) in members.iter().chain([&TRAILER]) {
        let size = u32::try_from(text.len()).unwrap();
        let numbers =
            Header { ino: *ino, mode: *mode, nlink: *nlink, uid: *uid, size, ..Header::default() };
        write_member(&mut bytes, &numbers, name.as_bytes(), text.as_bytes()).unwrap();
    }
    bytes
}

fn unpack(bytes: &[u8]) -> Result<(Tree, Vec<String>)> {
    let archive = spool(|out| Ok(out.write_all(bytes)?)).unwrap();
    let mut notes = Notes::default();
    let tree = read(&Arc::new(archive), u64::MAX, &mut notes)?;
    Ok((tree, notes.lines().collect()))
}

/// One line for each name: the path; then `/`, `=CONTENTS`, `->TARGET` or the mode; then the
/// number of names if it is not 1, and the owner if it is not 0.
fn lines(tree: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    tree.walk(&mut |path, id| {
        let node = tree.node(id);
        let what = match &node.kind {
            Kind::Directory(_) => "/".to_owned(),
            Kind::File(content) => {
                let mut text = String::from("=");
                content.open()?.read_to_string(&mut text)?;
                text
            }
            Kind::Symlink(target) => format!("->{}", String::from_utf8_lossy(target)),
            _ => format!(" {:o}", mode(node)),
        };
        let names = if node.names > 1 { format!(" *{}", node.names) } else { String::new() };
        let uid = if node.meta.uid > 0 { format!(" @{}", node.meta.uid) } else { String::new() };
        lines.push(format!("{}{what}{names}{uid}", String::from_utf8_lossy(path)));
        Ok(())
    })
    .unwrap();
    lines.remove(0);
    lines
}

/// A name of the case, members, lines of the expected tree, and the number of different
/// notes.
type Row = (&'static str, Vec<M>, &'static [&'static str], usize);

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    vec![
        ("names and targets end at the first NUL", vec![
            link("l", "target\0"), file("a\0b", "x"), link("m", "t\0junk"), link("n", "\0"), link("o", ""),
        ], &["a=x", "l->target", "m->t"], 1),
        ("below a link", vec![
            dir("usr"), dir("usr/lib"), link("lib", "usr/lib"), file("lib/fw.bin", "fw"),
            link("up", "../../usr"), file("up/lib/x", "1"), file("/lib/../lib/y", "2"),
        ], &["lib->usr/lib", "up->../../usr", "usr/", "usr/lib/", "usr/lib/fw.bin=fw",
             "usr/lib/x=1", "usr/lib/y=2"], 0),
        ("no directory", vec![
            file("a/b", "x"), dir("c/d"), link("e/f", "t"), link("loop", "loop"), file("loop/x", ""),
            file("z", "z"), file("z/x", ""), M("q/null", CHAR, "", 0, 1, 0), dir("a"), file("a/c", ""),
        ], &["a/", "a/c=", "loop->loop", "z=z"], 1),
        ("built-in directories", vec![
            M("dev/null", CHAR, "", 0, 1, 0), file("root/x", "1"), file("root/no/x", ""),
        ], &["dev/", "dev/null 20600", "root/", "root/x=1"], 1),
        ("the root, and senseless names", vec![
            M(".", DIR, "", 0, 2, 5), file("", "x"), file(".", "x"), link("/", "x"), dir("./a/"),
            file("a/", "x"), dir("//b//."), dir("//b"), file("./b/./c", "1"), M("b/..", DIR, "", 0, 2, 6),
        ], &["a/", "b/", "b/c=1"], 3),
        ("the last member wins", vec![
            file("a", "1"), file("a", "22"), link("l", "1"), link("l", "2"), file("x", "1"), dir("x"),
            dir("empty"), file("empty", "f"), dir("full"), file("full/x", ""), file("full", "f"),
            link("full", "t"), M("full", DIR, "", 0, 2, 9), link("d", "full"), dir("d"),
        ], &["a=22", "d/", "empty=f", "full/ @9", "full/x=", "l->2", "x/"], 1),
        ("a slash follows a link", vec![
            dir("usr"), link("lib", "usr"), M("lib/", DIR, "", 0, 2, 4), link("x", "gone"), dir("x/"),
        ], &["lib->usr", "usr/ @4", "x->gone"], 1),
        ("contents in the last name", vec![hard("a", "", 1), hard("b", "", 2), hard("c", "text", 3)],
         &["a=text *3 @3", "b=text *3 @3", "c=text *3 @3"], 0),
        ("contents in the first name", vec![hard("a", "text", 1), hard("b", "", 2)],
         &["a=text *2 @2", "b=text *2 @2"], 0),
        ("one name only", vec![hard("a", "text", 1)], &["a=text @1"], 0),
        ("inode numbers mean other files in the next archive", vec![
            hard("a", "1", 0), TRAILER, hard("b", "2", 0), hard("c", "", 0),
        ], &["a=1", "b=2 *2", "c=2 *2"], 0),
        ("all names of a file change", vec![hard("a", "1", 0), hard("b", "", 0), file("b", "new")],
         &["a=new *2", "b=new *2"], 0),
        ("a first name that was replaced", vec![hard("a", "1", 0), hard("a", "2", 0)], &[], 1),
        ("a name replaced by a link", vec![link("b", "t"), hard("a", "1", 0), hard("b", "", 0)],
         &["a=1 *2", "b=1 *2"], 0),
        ("devices", vec![
            M("c", CHAR, "", 7, 2, 0), M("d", CHAR, "", 7, 2, 0), M("c", CHAR, "", 0, 1, 3),
            M("e", CHAR, "contents", 0, 1, 0), M("f", 0, "", 0, 1, 0),
        ], &["c 20600 *2 @3", "d 20600 *2 @3"], 1),
    ]
}

#[test]
fn members_are_where_the_kernel_puts_them() {
    for (name, members, expected, notes) in rows() {
        let (tree, said) = unpack(&archive(&members)).unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert_eq!(lines(&tree), expected, "{name}");
        assert_eq!(said.len(), notes, "{name}: {said:?}");
    }
}

#[test]
fn unusable_names_are_left_out() {
    let long = "n".repeat(NAME_MAX + 1);
    for name in [&b""[..], &b"x/".repeat(3000), long.as_bytes()] {
        let mut bytes = Vec::new();
        let header = Header { mode: FILE, nlink: 1, ..Header::default() };
        write_member(&mut bytes, &header, name, b"").unwrap();
        bytes.extend(archive(&[file("a", "1")]));
        let (tree, notes) = unpack(&bytes).unwrap();
        assert_eq!((lines(&tree), notes.len()), (vec!["a=1".to_owned()], 1), "{}", name.len());
    }
    // A name without a NUL, which no tool writes.
    let mut bytes = archive(&[M("", FILE, "", 0, 1, 0)]);
    bytes[94..102].copy_from_slice(b"00000000");
    bytes.drain(110..112);
    bytes.splice(110..110, [0; 2]);
    let (tree, notes) = unpack(&bytes).unwrap();
    assert_eq!((lines(&tree).len(), notes.len()), (0, 1));
}

#[test]
fn links_make_no_tree_too_deep() {
    let deep = "d/".repeat(2000);
    let mut tree = Tree::new(Meta::default());
    tree.put(deep.as_bytes(), Meta::default(), directory()).unwrap();
    let (tree, mut notes) = (tree, Notes::default());
    let mut reader = InitramfsReader { tree, links: HashMap::new(), notes: &mut notes };
    let link = Kind::Symlink(deep.as_bytes().into());
    reader.tree.put(b"l", Meta::default(), link).unwrap();
    assert!(matches!(reader.target(b"l/x").unwrap(), Target::Name(..)));
    let long = [b"l/", &[b'x'; 200][..]].concat();
    assert!(reader.target(&long).is_err());
}
