//! Round trips, hostile images, and what mkfs.erofs(1) and fsck.erofs(1) say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::{Compression, Options, read, write};
use crate::image::tree::{Children, Content, Id, Kind, Meta, Tree, Xattrs, mode};

/// Options that differ in every way that matters.
fn all_options() -> [Options; 3] {
    let lz4 = Options { time: 7, threads: 2, ..Options::default() };
    [
        Options { compression: Compression::None, ..lz4.clone() },
        Options { label: "fifteen bytes..".into(), uuid: [7; 16], ..lz4.clone() },
        Options { cluster_size: 65536, ..lz4 },
    ]
}

fn image(tree: &Tree, options: &Options) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    write(tree, options, file.as_file()).unwrap();
    file
}

fn bytes_of(file: &NamedTempFile) -> Vec<u8> {
    std::fs::read(file.path()).unwrap()
}

fn opened(path: &Path) -> anyhow::Result<Tree> {
    read(Arc::new(File::open(path).unwrap()))
}

fn contents(content: &Content) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    content.open()?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Every name with what it leads to: metadata, contents by their hash, and the
/// first other name of the same node.
fn listing(tree: &Tree) -> anyhow::Result<Vec<String>> {
    let (mut lines, mut first) = (Vec::new(), BTreeMap::new());
    tree.walk(&mut |path, id| {
        let node = tree.node(id);
        let what = match &node.kind {
            Kind::File(content) => {
                let bytes = contents(content)?;
                format!("{} bytes {}", bytes.len(), blake3::hash(&bytes))
            }
            Kind::Directory(children) => format!("{} names", children.len()),
            other => format!("{other:?}"),
        };
        let same = first.entry(id).or_insert_with(|| path.to_vec()).escape_ascii().to_string();
        let (mode, path) = (mode(node), path.escape_ascii());
        lines.push(format!("{path} {mode:o} {} {same} {:?} {what}", node.names, node.meta));
        Ok(())
    })?;
    Ok(lines)
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn text(length: usize) -> Vec<u8> {
    let words = (0_u32..).flat_map(|i| format!("{} {}\n", i % 977, i.wrapping_mul(i)).into_bytes());
    words.take(length).collect()
}

fn add(tree: &mut Tree, parent: Id, name: &[u8], kind: Kind) -> Id {
    let meta = Meta { permissions: 0o4751, uid: 1, gid: 2, mtime: 7, xattrs: Xattrs::new() };
    tree.add(parent, name, meta, kind).unwrap()
}

fn file(bytes: Vec<u8>) -> Kind {
    Kind::File(Content::Bytes(bytes.into()))
}

/// Everything that has once gone wrong in some file system.
fn nasty() -> Tree {
    let mut tree = Tree::new(Meta { permissions: 0o755, ..Meta::default() });
    let directory = || Kind::Directory(Children::new());
    let sizes = [0, 1, 4000, 4096, 4097, 8192, 70_000, (1 << 20) - 1, 1 << 20, (2 << 20) + 4097];
    let sizes_dir = add(&mut tree, Tree::ROOT, b"sizes", directory());
    for size in sizes {
        for (kind, bytes) in [("text", text(size)), ("noise", noise(size)), ("one", vec![1; size])]
        {
            add(&mut tree, sizes_dir, format!("{kind}-{size}").as_bytes(), file(bytes));
        }
    }
    // Compressed, then not, then again; and the reverse.
    let mixed = [text(1 << 20), noise(1 << 20), text(5000), noise(9000), text(1 << 20)].concat();
    add(&mut tree, sizes_dir, b"mixed", file(mixed.clone()));
    add(&mut tree, sizes_dir, b"mixed-tail", file(mixed[1 << 20..(2 << 20) + 100].to_vec()));
    let mut sparse = vec![0; (5 << 20) + 123];
    sparse[3 << 20..(3 << 20) + 9000].copy_from_slice(&noise(9000));
    add(&mut tree, sizes_dir, b"sparse", file(sparse.clone()));
    *sparse.last_mut().unwrap() = 1;
    add(&mut tree, sizes_dir, b"sparse-tail", file(sparse));

    let names = add(&mut tree, Tree::ROOT, b"names", directory());
    for name in [&b"!before-dot"[..], b"\xff\xfe not utf-8", b"new\nline", &[b'x'; 255], b"..."] {
        add(&mut tree, names, name, file(name.to_vec()));
    }
    let many = add(&mut tree, names, b"many", directory());
    for number in 0..3000 {
        add(&mut tree, many, format!("{number:0100}").as_bytes(), Kind::Fifo);
    }
    let mut deep = names;
    for _ in 0..100 {
        deep = add(&mut tree, deep, b"deep", directory());
    }

    let kinds = add(&mut tree, Tree::ROOT, b"kinds", directory());
    add(&mut tree, kinds, b"short", Kind::Symlink(b"../\xff".as_slice().into()));
    add(&mut tree, kinds, b"long", Kind::Symlink(vec![b'l'; 4095].into()));
    add(&mut tree, kinds, b"char", Kind::CharDevice(4095, 0xf_ffff));
    add(&mut tree, kinds, b"block", Kind::BlockDevice(259, 300));
    add(&mut tree, kinds, b"fifo", Kind::Fifo);
    add(&mut tree, kinds, b"socket", Kind::Socket);
    let linked = add(&mut tree, kinds, b"linked", file(text(100)));
    tree.link(names, b"linked-too", linked).unwrap();
    tree.link(Tree::ROOT, b"and-again", linked).unwrap();

    let owner = add(&mut tree, kinds, b"owner", file(text(9000)));
    let meta = &mut tree.node_mut(owner).meta;
    (meta.uid, meta.gid, meta.mtime) = (70_000, u32::MAX, -5);
    let xattrs: [(&[u8], Vec<u8>); 5] = [
        (b"security.capability", vec![1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (b"system.posix_acl_access", [&[2, 0, 0, 0][..], &[1; 24]].concat()),
        (b"trusted.empty", Vec::new()),
        (b"user.large", noise(9000)),
        (b"user.x", b"value".to_vec()),
    ];
    let xattrs: Xattrs = xattrs.map(|(name, value)| (name.into(), value.into())).into();
    for name in
        [&b"sizes/text-4000"[..], b"sizes/text-70000", b"sizes/sparse", b"kinds", b"kinds/short"]
    {
        let id = tree.find(name).unwrap();
        tree.node_mut(id).meta.xattrs = xattrs.clone();
    }
    tree
}

#[test]
fn what_is_written_is_read() {
    let tree = nasty();
    let expected = listing(&tree).unwrap();
    for options in all_options() {
        let image = image(&tree, &options);
        let found = listing(&opened(image.path()).unwrap()).unwrap();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{options:?}");
        }
    }
}

#[test]
fn threads_do_not_change_the_image() {
    let tree = nasty();
    for options in all_options() {
        let one = bytes_of(&image(&tree, &Options { threads: 1, ..options.clone() }));
        for threads in [0, 2, 5, 100] {
            let other = bytes_of(&image(&tree, &Options { threads, ..options.clone() }));
            assert!(one == other, "{threads} threads, {options:?}");
        }
    }
}

#[test]
fn the_system_s_checker_agrees() {
    if Command::new("fsck.erofs").arg("--help").output().is_err() {
        eprintln!("skipped: fsck.erofs is not there");
        return;
    }
    for options in all_options() {
        let image = image(&nasty(), &options);
        let output =
            Command::new("fsck.erofs").arg("--extract").arg(image.path()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&said));
    }
}

/// What mkfs.erofs makes of a directory is read as that directory.
#[test]
fn images_of_mkfs_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let tree = nasty();
    for name in
        ["sizes/text-70000", "sizes/noise-8192", "sizes/mixed", "sizes/one-2101249", "sizes/sparse"]
    {
        let Kind::File(content) = &tree.node(tree.find(name.as_bytes()).unwrap()).kind else {
            continue;
        };
        std::fs::write(root.join(name.replace('/', "-")), contents(content).unwrap()).unwrap();
    }
    for number in 0..500 {
        std::fs::write(root.join(format!("file-{number}")), text(number * 41)).unwrap();
    }
    let rows: [&[&str]; 9] = [
        &[],
        &["-zlz4"],
        &["-zlz4hc", "-C65536"],
        &["-zlz4", "-Elegacy-compress"],
        &["-zlz4", "-Elegacy-compress", "-Enoinline_data"],
        &["-zlz4hc", "-Eztailpacking"],
        &["-zlz4", "-C16384", "-Eztailpacking"],
        &["-zlz4", "-Eforce-inode-compact"],
        &["--chunksize=8192"],
    ];
    for arguments in rows {
        let image = dir.path().join("image");
        let mut command = Command::new("mkfs.erofs");
        let Ok(output) = command.args(arguments).arg(&image).arg(&root).output() else {
            eprintln!("skipped: mkfs.erofs is not there");
            return;
        };
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let found = opened(&image).unwrap();
        let mut count = 0;
        for entry in std::fs::read_dir(&root).unwrap() {
            let entry = entry.unwrap();
            let id = found.find(entry.file_name().as_encoded_bytes()).unwrap();
            let Kind::File(content) = &found.node(id).kind else { panic!("{entry:?}") };
            let bytes =
                contents(content).map_err(|error| format!("{arguments:?}: {entry:?}: {error:#}"));
            assert!(
                bytes.unwrap() == std::fs::read(entry.path()).unwrap(),
                "{arguments:?}: {entry:?}"
            );
            count += 1;
        }
        assert_eq!(found.children(Tree::ROOT).unwrap().len(), count);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let with = |change: &dyn Fn(&mut Tree)| {
        let mut tree = Tree::new(Meta::default());
        change(&mut tree);
        let out = tempfile::tempfile().unwrap();
        format!("{:#}", write(&tree, &Options::default(), &out).unwrap_err())
    };
    let device = with(&|tree| {
        add(tree, Tree::ROOT, b"dev", Kind::CharDevice(4096, 0));
    });
    assert!(device.starts_with("dev: device 4096:0"), "{device}");
    let xattr = |name: &'static [u8], size: usize| {
        with(&|tree| {
            tree.node_mut(Tree::ROOT).meta.xattrs.insert(name.into(), vec![0; size].into());
        })
    };
    assert!(xattr(b"os2.ea", 1).contains("attribute \"os2.ea\": EROFS has no such name space"));
    assert!(xattr(b"user.a", 65536).contains("attribute \"user.a\": the value is too long"));
    for options in [
        Options { cluster_size: 5000, ..Options::default() },
        Options { cluster_size: 2 << 20, ..Options::default() },
        Options { label: "sixteen bytes...".into(), ..Options::default() },
    ] {
        let out = tempfile::tempfile().unwrap();
        assert!(write(&Tree::new(Meta::default()), &options, &out).is_err(), "{options:?}");
    }
}

/// A small tree with each way to store a file, for tests that read it often.
fn small() -> Tree {
    let mut tree = Tree::new(Meta::default());
    let directory = add(&mut tree, Tree::ROOT, b"d", Kind::Directory(Children::new()));
    add(&mut tree, directory, b"packed", file(text(30_000)));
    add(&mut tree, directory, b"plain", file(noise(9000)));
    add(&mut tree, directory, b"link", Kind::Symlink(b"target".as_slice().into()));
    let id = add(&mut tree, directory, b"attributes", file(text(100)));
    tree.node_mut(id).meta.xattrs.insert(b"user.a".as_slice().into(), b"b".as_slice().into());
    let mut sparse = vec![0; 1 << 20];
    sparse[70_000] = 1;
    add(&mut tree, directory, b"sparse", file(sparse));
    tree
}

/// Reads whatever it can; errors are fine. Sizes are what the image says, so
/// only the start of a file is read.
fn read_all(image: &[u8]) {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, image).unwrap();
    let Ok(tree) = read(Arc::new(file)) else { return };
    let visited = tree.walk(&mut |_, id| {
        if let Kind::File(content) = &tree.node(id).kind
            && let Ok(reader) = content.open()
        {
            // Any answer is one, and any number of bytes.
            let _ = std::io::copy(&mut reader.take(4 << 20), &mut std::io::sink());
        }
        Ok(())
    });
    assert!(visited.is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn damage_ends_in_an_answer(
        options in 0_usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut image = bytes_of(&image(&small(), &all_options()[options]));
        // Without the checksum, or nothing else in the block would be looked at.
        image[1024 + 8] = 0;
        // Most bytes are contents, in which little can be wrong.
        let mut interesting: Vec<_> = (1024..1200).chain(4096..5000).collect();
        interesting.extend(image.len() - 4096..image.len());
        for (index, byte) in changes {
            image[*index.get(&interesting)] = byte;
        }
        read_all(&image);
    }
}

#[test]
fn a_directory_is_entered_once() {
    let mut tree = Tree::new(Meta::default());
    let first = add(&mut tree, Tree::ROOT, b"first", Kind::Directory(Children::new()));
    add(&mut tree, first, b"second", Kind::Directory(Children::new()));
    let image = image(&tree, &Options::default());
    let root_nid = 128_u64.to_le_bytes();
    let bytes = bytes_of(&image);
    let records: Vec<_> = bytes
        .windows(8)
        .enumerate()
        .filter(|(_, nid)| *nid > &root_nid[..] && nid[0] > 128 && nid[1..] == [0; 7])
        .map(|(at, _)| at)
        .collect();
    let mut cycles = 0;
    for at in records {
        image.as_file().write_all_at(&root_nid, at as u64).unwrap();
        let result = opened(image.path()).map_err(|error| format!("{error:#}"));
        cycles += u32::from(result.is_err_and(|error| error.contains("a second name")));
        image.as_file().write_all_at(&bytes[at..at + 8], at as u64).unwrap();
    }
    assert!(cycles >= 2, "{cycles}");
}

#[test]
fn features_we_do_not_know_are_named() {
    let image = image(&small(), &Options::default());
    for (bit, expected) in [(0x20_u8, "fragments"), (0x40, "long prefixes"), (0x80, "48-bit")] {
        image.as_file().write_all_at(&[bit], 1024 + 80).unwrap();
        let error = format!("{:#}", opened(image.path()).unwrap_err());
        assert!(error.starts_with("not supported") && error.contains(expected), "{error}");
    }
    image.as_file().write_all_at(&[1], 1024 + 80).unwrap();
    image.as_file().write_all_at(b"x", 1024 + 64).unwrap();
    let error = format!("{:#}", opened(image.path()).unwrap_err());
    assert!(error.contains("checksum"), "{error}");
    image.as_file().set_len(100).unwrap();
    assert!(opened(image.path()).is_err());
}
