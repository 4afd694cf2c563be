//! Places of images: outputs within their own source, and block devices.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::*;
use crate::sample::skip;
use crate::source::FileId;

fn names(tree: &Tree) -> Vec<String> {
    let mut names = Vec::new();
    tree.walk(&mut |path, _| {
        names.push(String::from_utf8_lossy(path).into_owned());
        Ok(())
    })
    .unwrap();
    names
}

/// An output is left out under all of its names; a directory is left out with its contents.
#[test]
fn an_output_in_the_source_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("sub/new")).unwrap();
    for name in ["kept", "out.erofs", "sub/out", "sub/new/inside"] {
        fs::write(path(name), name).unwrap();
    }
    fs::hard_link(path("sub/out"), path("sub/second")).unwrap();
    symlink("out.erofs", path("link")).unwrap();
    let ids = |names: &[&str]| -> Vec<FileId> {
        names.iter().map(|name| FileId::of(&path(name).metadata().unwrap())).collect()
    };
    let all = ["", "kept", "link", "out.erofs", "sub", "sub/new", "sub/new/inside", "sub/out"];
    let all = [&all[..], &["sub/second"]].concat();
    let rows: [(&[&str], &[&str], usize); 4] = [
        (&[], &[], 0),
        (&["link"], &["out.erofs"], 1),
        (&["sub/second"], &["sub/out", "sub/second"], 1),
        (&["out.erofs", "sub/new"], &["out.erofs", "sub/new", "sub/new/inside"], 1),
    ];
    for (outputs, missing, lines) in rows {
        let mut notes = Notes::default();
        let options = ReadOptions { left_out: ids(outputs), ..ReadOptions::default() };
        let found = source::open(dir.path(), &options, &mut notes).unwrap();
        let expected: Vec<_> = all.iter().filter(|name| !missing.contains(name)).collect();
        assert_eq!(names(&found.tree).iter().collect::<Vec<_>>(), expected, "{outputs:?}");
        assert_eq!(notes.lines().count(), lines, "{outputs:?}");
    }
}

/// A loop device. Needs root, and a kernel with loop devices.
struct Loop(String);

impl Loop {
    fn of(path: &Path) -> Option<Self> {
        let output = command("losetup").args(["--find", "--show"]).arg(path).output().ok()?;
        let device = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let is_there = fs::metadata(&device).is_ok_and(|found| found.file_type().is_block_device());
        (output.status.success() && is_there).then_some(Self(device))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // The result does not matter to the test.
        let _: Option<std::process::ExitStatus> =
            command("losetup").args(["--detach", &self.0]).status().ok();
    }
}

#[test]
fn images_on_block_devices_are_read() {
    let (_dir, tree) = nasty(Order::Forward);
    let parent = tempfile::tempdir().unwrap();
    for format in [Format::Erofs, Format::Ext4, Format::Squashfs, STREAMS[0], STREAMS[5]] {
        let image = parent.path().join(format.name());
        match format {
            Format::Cpio(_) | Format::Tar(_) => {
                // The size of a device is a multiple of a block.
                let mut bytes = written(&tree, format, 1);
                bytes.resize(bytes.len().next_multiple_of(4096), 0);
                fs::write(&image, bytes).unwrap();
            }
            _ => write_disk(&tree, format, DiskOptions::default(), &image),
        }
        let Some(device) = Loop::of(&image) else {
            skip("losetup cannot set up a loop device: that takes root");
            return;
        };
        let found =
            source::open(Path::new(&device.0), &ReadOptions::default(), &mut Notes::default())
                .unwrap();
        assert_eq!(found.format, format);
        assert!(found.file.metadata().unwrap().rdev() > 0);
        let ignore: &[Aspect] = match format {
            Format::Cpio(_) => &[Aspect::Xattrs],
            _ => &[],
        };
        assert_equal(format.name(), &tree, &found.tree, ignore);
    }
}
