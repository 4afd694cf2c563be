//! Tests against squashfs-tools: we read images of mksquashfs(1), and unsquashfs(1) reads
//! ours. A check is left out where its tool is missing.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use files::notes::Notes;

use super::super::SquashfsOptions;
use super::opened;
use crate::compare::compare;
use crate::sample::{command, contents, has, noise, text};
use crate::source::dir;
use crate::tree::{Kind, Tree, components};

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

/// Checks that unsquashfs lists `count` names, if it is installed.
pub(super) fn lists(image: &Path, count: usize) {
    if has("unsquashfs") {
        let list = run(command("unsquashfs").arg("-ll").arg(image)).stdout;
        let lines = list.split(|&byte| byte == b'\n').filter(|line| line.contains(&b'/'));
        assert_eq!(lines.count(), count);
    }
}

/// Checks that unsquashfs unpacks the files of `tree` from `image`, if it is installed.
pub(super) fn agrees(tree: &Tree, options: &SquashfsOptions, image: &Path) {
    if !has("unsquashfs") {
        return;
    }
    let shown = run(command("unsquashfs").arg("-s").arg(image)).stdout;
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(shown.contains(&format!("Compression {}", options.compressor.name())), "{shown}");
    assert!(shown.contains(&format!("Block size {}", options.block_size)), "{shown}");
    lists(image, names(tree));
    let parent = tempfile::tempdir().unwrap();
    let to = parent.path().join("out");
    let mut tool = command("unsquashfs");
    run(tool.args(["-no-xattrs", "-d"]).arg(&to).arg(image).args(["sizes", "names"]));
    let found = dir::read(&to, &mut Notes::default()).unwrap();
    let visited = tree.walk(&mut |path, id| {
        let is_unpacked = components(path).next().is_some_and(|top| top == b"sizes");
        if let Kind::File(expected) = &tree.node(id).kind
            && is_unpacked
        {
            let Kind::File(content) = &found.node(found.find(path).unwrap()).kind else {
                panic!("{}", path.escape_ascii())
            };
            assert!(contents(content)? == contents(expected)?, "{}", path.escape_ascii());
        }
        Ok(())
    });
    visited.unwrap();
}

/// Number of names in a tree, the root included.
fn names(tree: &Tree) -> usize {
    let mut count = 0;
    let visited = tree.walk(&mut |_, _| {
        count += 1;
        Ok(())
    });
    visited.map(|()| count).unwrap()
}

/// Makes a directory with files of many sizes, and some files with equal contents.
fn make_root(root: &Path) {
    fs::create_dir(root).unwrap();
    for size in [0, 1, 4095, 4096, 4097, 131_071, 131_072, 131_073, 300_000, 1_100_000] {
        fs::write(root.join(format!("text-{size}")), text(size)).unwrap();
        fs::write(root.join(format!("noise-{size}")), noise(size)).unwrap();
        fs::write(root.join(format!("zero-{size}")), vec![0; size]).unwrap();
    }
    fs::write(root.join("twice"), text(300_000)).unwrap();
    fs::hard_link(root.join("twice"), root.join("another-name")).unwrap();
    fs::create_dir(root.join("many")).unwrap();
    for number in 0..600 {
        fs::write(root.join(format!("many/file-{number}")), text(number * 41)).unwrap();
    }
    std::os::unix::fs::symlink("a/target", root.join("link")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    for name in ["twice", "link", "many", "text-1", "text-4096"] {
        // Not every file system has attributes. mksquashfs stores a long value out of line.
        let _ = rustix::fs::setxattr(root.join(name), "user.long", &text(500), flags);
        let _ = rustix::fs::setxattr(root.join(name), "user.a", name.as_bytes(), flags);
    }
}

fn assert_same(name: &str, expected: &Tree, image: &Path) {
    let found = opened(image).map_err(|error| format!("{name}: {error:#}")).unwrap();
    let mut lines = Vec::new();
    compare(expected, &found, &[], &mut |change| lines.push(change.to_string())).unwrap();
    assert!(lines.is_empty(), "{name}: {lines:#?}");
    let names = |tree: &Tree| tree.node(tree.find(b"twice").unwrap()).names;
    assert_eq!(names(&found), names(expected), "{name}");
}

#[test]
fn images_of_mksquashfs_are_read() {
    if !has("mksquashfs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, image) = (dir.path().join("root"), dir.path().join("image"));
    make_root(&root);
    let tree = dir::read(&root, &mut Notes::default()).unwrap();
    let rows: [&[&str]; 12] = [
        &[],
        &["-comp", "lzo"],
        &["-comp", "xz", "-Xbcj", "x86"],
        &["-comp", "lz4", "-Xhc"],
        &["-comp", "zstd"],
        &["-b", "4096"],
        &["-b", "1M", "-comp", "xz"],
        &["-noI", "-noD", "-noF", "-noX"],
        &["-no-fragments"],
        &["-always-use-fragments", "-comp", "zstd"],
        &["-no-duplicates", "-no-exports", "-no-sparse"],
        &["-no-hardlinks", "-tailends"],
    ];
    for arguments in rows {
        let mut tool = command("mksquashfs");
        tool.arg(&root).arg(&image).args(["-noappend", "-no-progress", "-quiet"]);
        run(tool.args(arguments));
        let name = arguments.join(" ");
        if name.contains("-no-hardlinks") {
            let found = opened(&image).unwrap();
            assert_eq!(found.node(found.find(b"twice").unwrap()).names, 1);
        } else {
            assert_same(&name, &tree, &image);
        }
    }
}
