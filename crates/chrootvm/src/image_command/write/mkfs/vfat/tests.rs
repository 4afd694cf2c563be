//! Tests of what is handed to mkfs.vfat and mtools.

use super::*;
use image::tree::Content;

fn file(size: usize) -> Kind {
    Kind::File(Content::Bytes(vec![1; size].into()))
}

fn meta(permissions: u16) -> Meta {
    Meta { permissions, ..Meta::default() }
}

fn tree(children: Vec<(&[u8], Kind)>) -> Tree {
    let mut tree = Tree::new(meta(0o755));
    for (name, kind) in children {
        tree.add(Tree::ROOT, name, meta(0o755), kind).unwrap();
    }
    tree
}

#[test]
fn what_a_fat_lacks_is_noted() {
    let mut tree = tree(vec![
        (b"a", file(1)),
        (b"dir", image::tree::directory()),
        (b"l", Kind::Symlink(b"a"[..].into())),
        (b"null", Kind::CharDevice(1, 3)),
        (b"pipe", Kind::Fifo),
    ]);
    let a = tree.find(b"a").unwrap();
    let dir = tree.find(b"dir").unwrap();
    tree.link(dir, b"b", a).unwrap();
    let meta = &mut tree.node_mut(a).meta;
    (meta.uid, meta.permissions, meta.mtime) = (5, 0o4755, 3);
    meta.xattrs.insert(b"user.x"[..].into(), b"1"[..].into());
    let mut notes = Notes::default();
    let plan = plan(&tree, &mut notes).unwrap();
    let notes: Vec<_> = notes.lines().collect();
    let expected = [
        (OWNERS, "a and 1 more"),
        (MODES, "a and 1 more"),
        (XATTRS, "a and 1 more"),
        (LINKS, "l"),
        (SPECIAL, "null and 1 more"),
        (HARD_LINKS, "dir/b"),
    ]
    .map(|(what, path)| format!("{what}: {path}"));
    assert_eq!(notes, expected);
    assert_eq!((plan.count, plan.files.len(), plan.directories.len()), (3, 2, 2));
    let copy = plan.tree.find(b"dir/b").unwrap();
    assert_eq!(plan.tree.node(copy).meta.mtime, TIMES.0);
    assert_eq!(plan.tree.node(copy).meta.permissions, 0o600);
}

#[test]
fn names_that_would_change_are_errors() {
    for name in
        ["a:b", "a*", "a?", "a\\", "\"", "<", ">", "|", "a.", "a ", " a", "CON", "nul", "\u{1}"]
    {
        let error = plan(&tree(vec![(name.as_bytes(), file(0))]), &mut Notes::default());
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains("cannot have this name"), "{name}: {error}");
    }
    for (children, expected) in [
        (vec![(&b"\xff"[..], file(0))], "UTF-8"),
        (vec![(b"Readme", file(0)), (b"README", file(0))], "for the same"),
        (vec![("Ü".as_bytes(), file(0)), ("ü".as_bytes(), file(0))], "for the same"),
        (vec![(b"a[b", image::tree::directory())], "cannot have this name"),
    ] {
        let error = plan(&tree(children), &mut Notes::default()).unwrap_err();
        assert!(format!("{error:#}").contains(expected), "{error:#}");
    }
    let good = ["a[b]", "con.txt", ".a", "~1", "a b", "-o", "long name with spaces.text"];
    let children = good.map(|name| (name.as_bytes(), file(0)));
    assert_eq!(plan(&tree(children.into()), &mut Notes::default()).unwrap().count, good.len());
}

#[test]
fn the_geometry_has_room_for_all() {
    let planned = |files: Vec<u64>, root| {
        let plan = plan(&tree(vec![]), &mut Notes::default()).unwrap();
        Plan { files, directories: vec![root], ..plan }
    };
    let mib = |count: u64| count << 20;
    for (files, root, options, bits, clusters) in [
        (vec![], 1, (None, Some(0)), Some(12), 1),
        (vec![1; 300], 600, (None, Some(0)), Some(12), 300),
        (vec![mib(16)], 1, (None, Some(0)), Some(16), 4150),
        (vec![mib(1)], 1, (None, None), Some(16), 4379),
        (vec![mib(255)], 1, (None, Some(0)), Some(16), 65_281),
        (vec![mib(256)], 1, (None, Some(0)), Some(32), 65_650),
        (vec![mib(1)], 70_000, (None, Some(0)), Some(32), 65_650),
        (vec![], 1, (Some(mib(4)), None), Some(12), 0),
        (vec![], 1, (Some(mib(16)), None), None, 0),
        (vec![], 1, (Some(mib(100)), None), Some(16), 0),
        (vec![], 1, (Some(mib(600)), None), Some(32), 0),
    ] {
        let (size, slack) = options;
        let options = MkfsOptions { size, slack, ..MkfsOptions::default() };
        let geometry = planned(files, root).geometry(&options).unwrap();
        assert_eq!(geometry.bits, bits, "{size:?} {slack:?} {clusters}");
        assert!(geometry.size >= clusters * 4096, "{clusters}");
        assert!(size.is_some() || geometry.size <= (clusters + 400) * 4096, "{geometry:?}");
    }
}

#[test]
fn files_are_copied_directory_by_directory() {
    let mut tree = tree(vec![(b"b", image::tree::directory()), (b"a", file(0)), (b"c", file(0))]);
    let b = tree.find(b"b").unwrap();
    let d = tree.add(b, b"d", meta(0), image::tree::directory()).unwrap();
    tree.add(d, b"e", meta(0), file(0)).unwrap();
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    assert_eq!(
        steps(&tree),
        [
            Step::Directories(words(&["::/b"])),
            Step::Files(words(&["./a", "./c", "::/"])),
            Step::Directories(words(&["::/b/d"])),
            Step::Files(words(&["./b/d/e", "::/b/d/"])),
        ]
    );
    let many: Vec<_> = (0..10_000).map(|number| OsString::from(format!("{number:020}"))).collect();
    let cut = chunks(many.clone());
    assert!(cut.len() > 1 && cut.concat() == many);
    assert!(
        cut.iter().all(|chunk| chunk.iter().map(|name| name.len() + 1).sum::<usize>() <= NAMES)
    );
}

#[test]
fn the_volume_id_is_the_start_of_the_uuid() {
    let options = MkfsOptions {
        label: "EFI".into(),
        arguments: vec!["-R".into(), "64".into()],
        ..MkfsOptions::default()
    };
    let geometry = Geometry { size: 0, cluster: 8, bits: Some(32), root: 512 };
    let mut uuid = [0; 16];
    uuid[..4].copy_from_slice(&[0x12, 0xab, 0, 1]);
    let words = arguments(&options, geometry, uuid);
    let expected = [
        "--invariant",
        "-i",
        "12ab0001",
        "-s",
        "8",
        "-r",
        "512",
        "-F",
        "32",
        "-n",
        "EFI",
        "-R",
        "64",
        IMAGE,
    ];
    assert_eq!(words, expected);
}
