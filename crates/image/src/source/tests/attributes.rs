//! Extended attributes in the records of tar archives.

use files::notes::Notes;

use super::{END, member, node, read, records, refused};
use crate::tree::posix_acl;
use crate::tree::{Kind, Meta, Tree, Xattrs};
use crate::write;

#[test]
fn attributes_are_kept_or_noted() {
    let file = member(b'0', "f", b"1").bytes();
    let list = "SCHILY.acl.access=user::rw-,user:ann:r--:7,group::r--,mask::r--,other::---";
    let x = records(
        b'x',
        &[
            b"RHT.security.selinux=system_u:object_r:etc_t:s0\0",
            b"SCHILY.xattr.user.a%3Db=1=2",
            b"LIBARCHIVE.xattr.com.apple.provenance=AQA",
            b"SCHILY.xattr.com.apple.provenance=\x01\0",
            b"SCHILY.xattr.trusted.overlay.opaque=y",
            list.as_bytes(),
        ],
    );
    let (tree, notes) = read(&[&x, &file, END]).unwrap();
    let xattrs = &node(&tree, "f").meta.xattrs;
    assert_eq!(*xattrs[&b"security.selinux"[..]], *b"system_u:object_r:etc_t:s0\0");
    assert_eq!(*xattrs[&b"user.a=b"[..]], *b"1=2");
    assert_eq!(*xattrs[&b"trusted.overlay.opaque"[..]], *b"y");
    assert!(posix_acl::is_list(&xattrs[posix_acl::ACCESS]));
    assert_eq!(xattrs.len(), 4);
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("com.apple.provenance") && notes[0].ends_with(": f"), "{notes:?}");
    let unclear =
        records(b'x', &[b"SCHILY.acl.access=user::rw-,user:ann:r--,group::r--,other::---"]);
    let (tree, notes) = read(&[&unclear, &file, END]).unwrap();
    assert_eq!((node(&tree, "f").meta.xattrs.len(), notes.len()), (0, 1));
}

#[test]
fn our_own_attributes_are_read_again() {
    let pairs: [(&[u8], &[u8]); 4] =
        [(b"user.a=b", b"1=2"), (b"user.5%", b"\n"), (b"user.%3D", b"x"), (b"user.empty", b"")];
    let xattrs: Xattrs = pairs.map(|(name, value)| (name.into(), value.into())).into();
    let mut tree = Tree::new(Meta::default());
    let meta = Meta { xattrs: xattrs.clone(), ..Meta::default() };
    tree.put(b"f", meta, Kind::Fifo).unwrap();
    let mut bytes = Vec::new();
    write::tar::write(&tree, &mut bytes, &mut Notes::default()).unwrap();
    let (again, notes) = read(&[&bytes]).unwrap();
    assert_eq!((&node(&again, "f").meta.xattrs, notes.len()), (&xattrs, 0));
}

/// The attributes of a global header need memory once; how many members may have them is
/// limited.
#[test]
fn members_share_the_attributes_of_a_global_header() {
    let value = vec![7; 900_000];
    let global = records(b'g', &[&[b"SCHILY.xattr.user.big=", &value[..]].concat(), b"uid=7"]);
    let small =
        records(b'g', &[&[b"SCHILY.xattr.user.small=", &value[..60_000]].concat(), b"uid=7"]);
    let members = |count: u32| -> Vec<u8> {
        (0..count).flat_map(|index| member(b'0', &format!("{index:05}"), b"").bytes()).collect()
    };
    let (tree, notes) = read(&[&small, &members(400), END]).unwrap();
    let set = |path| -> &Xattrs { &node(&tree, path).meta.xattrs };
    assert_eq!(set("00000").address(), set("00399").address());
    assert_eq!((set("00000").len(), node(&tree, "00399").meta.uid, notes.len()), (1, 7, 0));
    // A value that is too large for Linux is left out; it is not an error.
    let (tree, notes) = read(&[&global, &members(400), END]).unwrap();
    assert!(node(&tree, "00399").meta.xattrs.is_empty());
    assert!(notes[0].contains("64 KiB") && notes[0].contains("399 more"), "{notes:?}");
    refused("too many", &[&global, &members(1300), END], "1024 MiB");
}
