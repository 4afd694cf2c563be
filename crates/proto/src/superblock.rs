//! Superblocks: type, UUID and label of a file system from its first bytes.
//!
//! | Type | Magic at | UUID at | Label at | Source (`struct`, header of Linux 6.1) |
//! |---|---|---|---|---|
//! | squashfs | 0     | –     | –            | `squashfs_super_block`, fs/squashfs/squashfs_fs.h |
//! | xfs      | 0     | 32    | 108, 12 long | `xfs_dsb`, fs/xfs/libxfs/xfs_format.h |
//! | erofs    | 1024  | 1072  | 1088, 16     | `erofs_super_block`, fs/erofs/erofs_fs.h |
//! | ext2–4   | 1080  | 1128  | 1144, 16     | `ext4_super_block`, fs/ext4/ext4.h |
//! | btrfs    | 65600 | 65568 | 65835, 256   | `btrfs_super_block`, fs/btrfs/ctree.h |
//!
//! All offsets are in bytes. No bytes make the reader panic.

/// Bytes of a device to pass to [`identify`]. A shorter head is enough for all types but
/// btrfs.
pub const HEAD: usize = 65 << 10;

/// Identity of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock<'a> {
    /// Type as mount(2) takes it. ext2 and ext3 have `ext4`, the name of their driver.
    pub kind: &'static str,
    /// UUID in the order of its text form. Absent if the type has no UUID, or if all
    /// bytes are zero.
    pub uuid: Option<[u8; 16]>,
    /// Label without the NULs at its end; empty if the file system has no label.
    pub label: &'a [u8],
}

/// Field offsets of one file system type.
struct SuperblockFormat {
    kind: &'static str,
    magic: &'static [u8],
    magic_at: usize,
    uuid_at: Option<usize>,
    /// Offset and longest length in bytes.
    label_at: Option<(usize, usize)>,
}

/// All known types. Types with long magics come first: the two bytes of ext4's magic may
/// be data of another file system. btrfs comes last: it does not use the first 64 KiB,
/// where another superblock may remain.
#[rustfmt::skip]
const FORMATS: &[SuperblockFormat] = &[
    SuperblockFormat { kind: "squashfs", magic: b"hsqs",             magic_at: 0,      uuid_at: None,         label_at: None },
    SuperblockFormat { kind: "xfs",      magic: b"XFSB",             magic_at: 0,      uuid_at: Some(32),     label_at: Some((108, 12)) },
    SuperblockFormat { kind: "erofs",    magic: b"\xe2\xe1\xf5\xe0", magic_at: 1024,   uuid_at: Some(1072),   label_at: Some((1088, 16)) },
    SuperblockFormat { kind: "ext4",     magic: b"\x53\xef",         magic_at: 1080,   uuid_at: Some(1128),   label_at: Some((1144, 16)) },
    SuperblockFormat { kind: "btrfs",    magic: b"_BHRfS_M",         magic_at: 65_600, uuid_at: Some(65_568), label_at: Some((65_835, 256)) },
];

/// The identity of the file system that starts with `head`, if its type is known.
#[must_use]
pub fn identify(head: &[u8]) -> Option<Superblock<'_>> {
    FORMATS.iter().find_map(|format| {
        let magic = head.get(format.magic_at..)?;
        magic.starts_with(format.magic).then(|| format.read(head))
    })
}

impl SuperblockFormat {
    fn read<'a>(&self, head: &'a [u8]) -> Superblock<'a> {
        let uuid = self.uuid_at.and_then(|at| head.get(at..)?.first_chunk().copied());
        let label = self.label_at.and_then(|(at, length)| head.get(at..)?.get(..length));
        let label = label.and_then(|label| label.split(|&byte| byte == 0).next());
        Superblock {
            kind: self.kind,
            uuid: uuid.filter(|uuid| *uuid != [0; 16]),
            label: label.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::uuid;
    use proptest::prelude::*;
    use std::path::Path;
    use std::string::{String, ToString};
    use std::vec::Vec;
    use std::{format, fs, vec};
    use virtinitrd_vm_tests::{has, tool};

    const UUID: &str = "11223344-5566-7788-99aa-bbccddeeff00";
    const UUID_BYTES: [u8; 16] = *b"\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff\0";

    /// `head` with some bytes set.
    fn fixture(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        for (at, bytes) in parts {
            head[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        head
    }

    /// Offsets in file systems of mke2fs, mkfs.erofs, mkfs.xfs, mkfs.btrfs and mksquashfs, as
    /// hexdump(1) shows them.
    #[test]
    fn each_type_is_identified() {
        type Case = (&'static [(usize, &'static [u8])], Option<Superblock<'static>>);
        const fn found(kind: &'static str, label: &'static [u8]) -> Superblock<'static> {
            Superblock { kind, uuid: Some(UUID_BYTES), label }
        }
        const NAMELESS: Superblock<'_> = Superblock { kind: "ext4", uuid: None, label: b"" };
        #[rustfmt::skip]
        let cases: &[Case] = &[
            (&[(0x438, b"\x53\xef"), (0x468, &UUID_BYTES), (0x478, b"sixteen-chars-xxrest")], Some(found("ext4", b"sixteen-chars-xx"))),
            (&[(0x400, b"\xe2\xe1\xf5\xe0"), (0x430, &UUID_BYTES), (0x440, b"a b")],          Some(found("erofs", b"a b"))),
            (&[(0, b"XFSB"), (0x20, &UUID_BYTES), (0x6c, b"twelve-bytesrest")],               Some(found("xfs", b"twelve-bytes"))),
            (&[(0x10040, b"_BHRfS_M"), (0x10020, &UUID_BYTES), (0x1012b, b"x")],              Some(found("btrfs", b"x"))),
            (&[(0, b"hsqs")],         Some(Superblock { kind: "squashfs", ..NAMELESS })),
            (&[(0x438, b"\x53\xef")], Some(NAMELESS)),
            (&[(0x438, b"\x53\xee")], None),
            (&[],                     None),
            // The superblock of another type wins over bytes in its data.
            (&[(0, b"hsqs"), (0x438, b"\x53\xef")], Some(Superblock { kind: "squashfs", ..NAMELESS })),
        ];
        for (parts, expected) in cases {
            assert_eq!(identify(&fixture(parts)), *expected, "{parts:?}");
        }
    }

    /// A field beyond the end of a short device is absent.
    #[test]
    fn a_short_head_is_enough() {
        let head = fixture(&[(0x438, b"\x53\xef"), (0x468, &UUID_BYTES), (0x478, b"x")]);
        let label = |length| identify(&head[..length]).map(|found| (found.uuid, found.label));
        assert_eq!(label(4096), Some((Some(UUID_BYTES), &b"x"[..])));
        assert_eq!(label(0x480), Some((Some(UUID_BYTES), &b""[..])));
        assert_eq!(label(0x470), Some((None, &b""[..])));
        assert_eq!(label(0x439), None);
    }

    /// The value of `tag` that `blkid -p` prints for `image`.
    fn blkid(image: &Path, tag: &str) -> String {
        let mut blkid = tool("blkid");
        let output = blkid.args(["-p", "-o", "value", "-s", tag]).arg(image).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().into()
    }

    /// Reads file systems that their own tools make, and compares with blkid(8).
    #[test]
    fn real_file_systems_are_identified_as_by_blkid() {
        let dir = std::env::temp_dir().join(format!("superblock-{}", std::process::id()));
        fs::create_dir_all(dir.join("empty")).unwrap();
        let dirs = dir.join("empty").to_string_lossy().to_string();
        #[rustfmt::skip]
        let makers: &[(&str, u64, &[&str], &[&str])] = &[
            ("mke2fs",     8,   &["-q", "-F", "-t", "ext4", "-L", "label 4", "-U", UUID], &[]),
            ("mke2fs",     8,   &["-q", "-F", "-t", "ext2", "-U", UUID],                  &[]),
            ("mkfs.xfs",   300, &["-q", "-f", "-L", "xlabel"],                            &[]),
            ("mkfs.btrfs", 128, &["-q", "-f", "-L", "a longer label than others have"],   &[]),
            ("mkfs.erofs", 0,   &["--quiet", "-U", UUID],                                 &[&dirs]),
        ];
        for (name, megabytes, options, after) in makers {
            if !has(name) || !has("blkid") {
                continue;
            }
            let image = dir.join(name);
            let file = fs::File::create(&image).unwrap();
            file.set_len(megabytes << 20).unwrap();
            let made = tool(name).args(*options).arg(&image).args(*after).output().unwrap();
            assert!(made.status.success(), "{name}: {}", String::from_utf8_lossy(&made.stderr));
            let kind = blkid(&image, "TYPE");
            let bytes = fs::read(&image).unwrap();
            let found = identify(&bytes[..bytes.len().min(HEAD)]).unwrap();
            assert_eq!(found.kind, kind.replace("ext2", "ext4"), "{name}");
            let label = String::from_utf8_lossy(found.label);
            assert_eq!(label, blkid(&image, "LABEL"), "{name}");
            assert_eq!(found.uuid, uuid(blkid(&image, "UUID").as_bytes()), "{name}");
        }
        fs::remove_dir_all(dir).unwrap();
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..3000),
            format in 0..FORMATS.len(),
        ) {
            let SuperblockFormat { magic, magic_at, .. } = FORMATS[format];
            if let Some(place) = bytes.get_mut(magic_at..).and_then(|rest| rest.get_mut(..magic.len())) {
                place.copy_from_slice(magic);
            }
            let _ = identify(&bytes);
        }
    }
}
