//! Writing directories without the permission for all parts of the tree.

use std::os::unix::fs::MetadataExt;

use super::*;

/// Number that chown(2) cannot set.
const STRANGER: u32 = u32::MAX;

fn unpacked(tree: &Tree, path: &Path) -> anyhow::Result<Vec<String>> {
    let mut notes = Notes::default();
    write::dir::write(tree, path, &mut notes, &Progress::bar(tree, String::new()))?;
    Ok(notes.lines().collect())
}

#[test]
fn metadata_that_cannot_be_set_is_noted_once() {
    let parent = tempfile::tempdir().unwrap();
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut tree =
        Tree::new(Meta { permissions: 0o755, uid: own.0, gid: own.1, ..Meta::default() });
    let meta = |uid| Meta { permissions: 0o6755, uid, gid: own.1, ..Meta::default() };
    for number in 0..50 {
        let mut foreign = meta(STRANGER);
        foreign.xattrs.insert(b"nobody.knows"[..].into(), b"1"[..].into());
        let kind = match number % 4 {
            0 => Kind::File(Content::Bytes(b"x"[..].into())),
            1 => directory(),
            2 => Kind::Fifo,
            _ => Kind::Symlink(b"x"[..].into()),
        };
        tree.put(format!("foreign-{number}").as_bytes(), foreign, kind).unwrap();
    }
    tree.put(b"own", meta(own.0), Kind::File(Content::Bytes(b"x"[..].into()))).unwrap();
    let path = parent.path().join("new");
    let lines = unpacked(&tree, &path).unwrap();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| line.ends_with(" and 49 more")), "{lines:?}");
    let mode = |name: &str| path.join(name).metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode("foreign-0"), mode("foreign-1"), mode("own")), (0o755, 0o755, 0o6755));
}

/// If a device is left out, all of its names are left out. Without capabilities, no device
/// can be made.
#[test]
fn all_names_of_a_device_are_left_out_together() {
    let parent = tempfile::tempdir().unwrap();
    let mut tree = Tree::new(Meta { permissions: 0o755, ..Meta::default() });
    let id = tree.put(b"a", Meta::default(), Kind::CharDevice(1, 3)).unwrap();
    for name in [&b"b"[..], b"d/c"] {
        tree.put_link(name, id).unwrap();
    }
    let path = parent.path().join("new");
    let lines = without_capabilities(|| unpacked(&tree, &path).unwrap());
    let device = lines.iter().find(|line| line.starts_with("device nodes")).unwrap();
    assert!(device.ends_with("a and 2 more"), "{lines:?}");
    assert!(path.join("d").is_dir() && !path.join("d/c").exists());
}

/// Runs `body` in a thread without capabilities.
fn without_capabilities<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let none = rustix::thread::CapabilitySets {
                effective: rustix::thread::CapabilitySet::empty(),
                permitted: rustix::thread::CapabilitySet::empty(),
                inheritable: rustix::thread::CapabilitySet::empty(),
            };
            rustix::thread::set_capabilities(None, none).unwrap();
            body()
        });
        thread.join().unwrap()
    })
}

#[test]
fn a_foreign_owner_is_not_an_error() {
    let parent = tempfile::tempdir().unwrap();
    let (_dir, tree) = nasty(Order::Forward);
    let path = parent.path().join("new");
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let lines = without_capabilities(|| unpacked(&tree, &path).unwrap());
    let again = dir::read(&path, &mut Notes::default()).unwrap();
    let is_there = |name: &[u8]| again.find(name).is_some();
    assert!(is_there(b"second") && is_there(b"sparse") && is_there(b"empty"), "{lines:?}");
}

#[test]
fn a_link_to_an_empty_directory_stays() {
    let parent = tempfile::tempdir().unwrap();
    let (target, link) = (parent.path().join("target"), parent.path().join("link"));
    fs::create_dir(&target).unwrap();
    symlink("target", &link).unwrap();
    let mut tree = Tree::new(Meta { permissions: 0o755, ..Meta::default() });
    tree.put(b"a/b", Meta::default(), Kind::Symlink(b"/etc"[..].into())).unwrap();
    unpacked(&tree, &link).unwrap();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert!(target.join("a/b").is_symlink());
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2);
}
