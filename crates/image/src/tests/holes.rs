//! Holes of files, from every source to every format: holes are neither read nor written.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::*;
use crate::tree::holes::{Part, for_parts};

/// Bytes of the sparse file: too many to be read or written in a test.
const SIZE: u64 = (600 << 30) + 5;
/// Offsets and bytes of the data in the sparse file.
const DATA: &[(u64, &[u8])] =
    &[(0, b"start"), (70_000, b"early"), (500 << 30, &[7; 9000]), (SIZE - 3, b"end")];

fn make_sparse(path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len(SIZE).unwrap();
    for (at, bytes) in DATA {
        file.write_all_at(bytes, *at).unwrap();
    }
}

/// The contents of the file `sparse`.
fn content(tree: &Tree) -> Content {
    match &tree.node(tree.find(b"sparse").unwrap()).kind {
        Kind::File(content) => content.clone(),
        other => panic!("{other:?}"),
    }
}

/// Checks every byte of `content`. Returns the number of bytes that are not in holes.
fn check(name: &str, content: &Content) -> u64 {
    let (mut at, mut stored) = (0, 0);
    for_parts(content, &mut |part| {
        let bytes = match part {
            Part::Hole(count) => {
                let overlap = |(start, data): &&(u64, &[u8])| {
                    *start < at + count && at < start + data.len() as u64
                };
                assert!(DATA.iter().find(overlap).is_none(), "{name}: a hole at {at}");
                at += count;
                return Ok(());
            }
            Part::Data(bytes) => bytes,
        };
        for (byte, position) in bytes.iter().zip(at..) {
            let data = DATA
                .iter()
                .find(|(start, data)| (*start..start + data.len() as u64).contains(&position));
            let expected =
                data.map_or(0, |(start, data)| data[usize::try_from(position - start).unwrap()]);
            assert_eq!(*byte, expected, "{name}: byte {position}");
        }
        at += bytes.len() as u64;
        stored += bytes.len() as u64;
        Ok(())
    })
    .unwrap();
    assert_eq!(at, SIZE, "{name}");
    stored
}

/// Most bytes that a format may count as data. A chunk of EROFS has 16 MiB for a file of this
/// size, although most of it is not written; a block of squashfs has 1 MiB.
const MOST: u64 = 64 << 20;

/// Most bytes of an image on disk.
const ON_DISK_MAX: u64 = 48 << 20;

#[test]
fn holes_stay_holes_from_every_source_to_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    make_sparse(&root.join("sparse"));
    let open = |path: &Path| {
        source::open(path, &ReadOptions::default(), &mut Notes::default()).unwrap().tree
    };
    let formats = [
        Format::Tar(Compression::None),
        Format::Tar(Compression::Zstd),
        Format::Erofs,
        Format::Ext4,
        Format::Squashfs,
        Format::Dir,
    ];
    let write = |tree: &Tree, format: Format, path: &Path| match format {
        Format::Dir => {
            let progress = Progress::bar(tree, String::new());
            write::dir::write(tree, path, &mut Notes::default(), &progress).unwrap();
        }
        Format::Tar(_) => fs::write(path, written(tree, format, 1)).unwrap(),
        _ => {
            // Large blocks, because squashfs stores a length for each block.
            let cluster_size = (format == Format::Squashfs).then_some(1 << 20);
            write_disk(tree, format, DiskOptions { cluster_size, ..DiskOptions::default() }, path);
        }
    };
    let first = dir.path().join("source");
    for from in formats {
        write(&open(&root), from, &first);
        let tree = open(&first);
        let stored = check(from.name(), &content(&tree));
        assert!(stored <= MOST, "{from}: {stored}");
        let on_disk = first.metadata().unwrap().blocks() * 512;
        assert!(on_disk <= ON_DISK_MAX, "{from}: {on_disk}");
        for to in formats {
            let name = format!("{from} to {to}");
            let path = dir.path().join("image");
            write(&tree, to, &path);
            let again = open(&path);
            check(&name, &content(&again));
            assert_equal(&name, &tree, &again, &[]);
            match to {
                Format::Dir => fs::remove_dir_all(&path).unwrap(),
                _ => fs::remove_file(&path).unwrap(),
            }
        }
        match from {
            Format::Dir => fs::remove_dir_all(&first).unwrap(),
            _ => fs::remove_file(&first).unwrap(),
        }
    }
}

/// Stored zeros and holes give equal images.
#[test]
fn images_do_not_depend_on_how_zeros_are_stored() {
    const LENGTH: u64 = 70 << 20;
    let images = [true, false].map(|is_stored| {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("sparse")).unwrap();
        file.set_len(LENGTH).unwrap();
        if is_stored {
            for at in (0..LENGTH).step_by(1 << 20) {
                file.write_all_at(&vec![0; 1 << 20], at).unwrap();
            }
        }
        file.write_all_at(b"data", 9_000_000).unwrap();
        set_times(dir.path());
        let tree = dir::read(dir.path(), &mut Notes::default()).unwrap();
        let disks = [Format::Erofs, Format::Ext4, Format::Squashfs]
            .map(|format| disk_bytes(&tree, format, DiskOptions::default()));
        (disks, written(&tree, Format::Tar(Compression::None), 1))
    });
    assert!(images[0] == images[1]);
}

/// GNU tar unpacks our sparse members to the same bytes.
#[test]
fn gnu_tar_unpacks_our_sparse_members() {
    let dir = tempfile::tempdir().unwrap();
    make_sparse(&dir.path().join("sparse"));
    let tree = dir::read(dir.path(), &mut Notes::default()).unwrap();
    let archive = tempfile::NamedTempFile::new().unwrap();
    fs::write(archive.path(), written(&tree, Format::Tar(Compression::None), 1)).unwrap();
    assert!(archive.as_file().metadata().unwrap().len() < 100_000);
    let out = tempfile::tempdir().unwrap();
    let arguments: [&OsStr; 4] =
        ["-xf".as_ref(), archive.path().as_ref(), "-C".as_ref(), out.path().as_ref()];
    if has("tar") {
        let output = command("tar").args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let found = dir::read(out.path(), &mut Notes::default()).unwrap();
        check("GNU tar", &content(&found));
    }
}
