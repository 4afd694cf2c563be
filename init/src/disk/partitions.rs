//! Partition tables: the number of the partition with a given UUID or label.
//!
//! | Field | Offset | Source |
//! |---|---|---|
//! | disk signature | MBR: u32 at 440 | kernel: block/partitions/msdos.c |
//! | type of record N | MBR: byte at 450 + 16 N; 0xee guards a GPT | UEFI 2.10 §5.2.3 |
//! | `55 aa` | MBR: at 510 | UEFI 2.10 §5.2.3 |
//! | `EFI PART` | GPT header, LBA 1: at 0 | UEFI 2.10 §5.3.2 |
//! | LBA, number, size of the entries | u64 at 72, u32 at 80, u32 at 84 | UEFI 2.10 §5.3.2 |
//! | unique GUID, name in UTF-16 | GPT entry: at 16; at 56, 72 bytes | UEFI 2.10 §5.3.3 |
//!
//! The kernel checks the checksums; a partition that it has not made is not found.
//! The tables are read here because `/sys` has neither UUIDs nor labels of partitions
//! before Linux 6.9.
//!
//! Invariant: nothing here does I/O, and no bytes make it panic.

use proto::words::text;

use crate::cmdline::device::PartitionId;

/// Size of a GPT entry in bytes (`gpt_entry`, block/partitions/efi.h); the kernel accepts
/// no other.
const ENTRY: usize = 128;

/// Most entries that are read: the kernel makes at most `DISK_MAX_PARTS` - 1 partitions
/// of a disk (include/linux/genhd.h of Linux 5).
const ENTRIES_MAX: usize = 255;

/// Size of the largest logical block in bytes.
pub const BLOCK_MAX: usize = 4096;

/// The extent of the entries of a GPT on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GptEntries {
    /// Offset in bytes.
    pub at: u64,
    /// Length of all entries in bytes.
    pub length: usize,
}

/// The number of the partition `wanted`, found in the entries of a GPT; from 1 on.
#[must_use]
pub fn find_in_gpt(wanted: &PartitionId<'_>, entries: &[u8]) -> Option<usize> {
    let is_wanted = |entry: &[u8]| match wanted {
        PartitionId::Guid(guid) => entry.get(16..32) == Some(guid),
        PartitionId::Label(label) => entry.get(56..ENTRY).is_some_and(|name| has_text(name, label)),
        PartitionId::Number { .. } => false,
    };
    entries.chunks_exact(ENTRY).position(is_wanted).map(|at| at + 1)
}

/// The number of the partition `wanted`, if `sector` is the MBR of its disk.
#[must_use]
pub fn find_in_mbr(wanted: &PartitionId<'_>, sector: &[u8]) -> Option<usize> {
    match *wanted {
        PartitionId::Number { signature, number } => {
            (is_mbr(sector) && number_at(sector, 440) == Some(signature)).then_some(number)
        }
        PartitionId::Guid(_) | PartitionId::Label(_) => None,
    }
}

/// The GPT of a disk with logical blocks of `block` bytes. `head` is the start of the
/// disk, at least two blocks.
#[must_use]
pub fn gpt(head: &[u8], block: usize) -> Option<GptEntries> {
    /// Type of the MBR record that guards a GPT (`EFI_PMBR_OSTYPE_EFI_GPT`).
    const GUARD: u8 = 0xee;
    let is_guarded = (0..4).any(|record| head.get(450 + 16 * record) == Some(&GUARD));
    let header = head.get(block..).filter(|header| header.starts_with(b"EFI PART"))?;
    let lba = u64::from_le_bytes(header.get(72..)?.first_chunk().copied()?);
    let count = usize::try_from(number_at(header, 80)?).ok()?.min(ENTRIES_MAX);
    let is_known = is_guarded && is_mbr(head) && number_at(header, 84) == u32::try_from(ENTRY).ok();
    let at = lba.checked_mul(u64::try_from(block).ok()?).filter(|_| is_known)?;
    Some(GptEntries { at, length: count * ENTRY })
}

fn is_mbr(sector: &[u8]) -> bool {
    sector.get(510..512) == Some(b"\x55\xaa")
}

fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// Whether `name`, which is UTF-16 and padded with NULs, equals `label`, which is UTF-8.
fn has_text(name: &[u8], label: &[u8]) -> bool {
    let (units, _) = name.as_chunks();
    let units = units.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|&unit| unit != 0);
    let label = text(label);
    !label.is_empty() && label.encode_utf16().eq(units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;
    use std::process::Stdio;
    use std::vec::Vec;
    use std::{format, fs, vec};
    use virtinitrd_vm_tests::{has, tool};

    const UUID: &str = "11223344-5566-7788-99aa-bbccddeeff00";
    /// [`UUID`] in a GPT that sfdisk(8) wrote, as hexdump(1) shows it.
    const GUID: [u8; 16] = *b"\x44\x33\x22\x11\x66\x55\x88\x77\x99\xaa\xbb\xcc\xdd\xee\xff\0";

    /// A disk with a protective MBR and a header with `count` entries.
    fn disk(block: usize, count: u8) -> Vec<u8> {
        let mut head = vec![0; 2 * block];
        head[450] = 0xee;
        head[510..512].copy_from_slice(b"\x55\xaa");
        head[block..block + 8].copy_from_slice(b"EFI PART");
        head[block + 72] = 2;
        head[block + 80] = count;
        head[block + 84] = 128;
        head
    }

    fn entry(guid: [u8; 16], name: &str) -> Vec<u8> {
        let mut entry = vec![0; ENTRY];
        entry[16..32].copy_from_slice(&guid);
        for (at, unit) in name.encode_utf16().enumerate() {
            entry[56 + 2 * at..][..2].copy_from_slice(&unit.to_le_bytes());
        }
        entry
    }

    type Change = fn(&mut Vec<u8>);

    #[test]
    fn a_gpt_tells_where_its_entries_are() {
        let found = |at, length| Some(GptEntries { at, length });
        assert_eq!(gpt(&disk(512, 128), 512), found(1024, 128 * 128));
        assert_eq!(gpt(&disk(4096, 4), 4096), found(8192, 4 * 128));
        assert_eq!(gpt(&disk(512, 128), 4096), None);
        #[rustfmt::skip]
        let cases: &[(&str, Change, Option<GptEntries>)] = &[
            ("not guarded",        |head| head[450] = 0x83,                     None),
            ("no MBR",             |head| head[510] = 0,                        None),
            ("no header",          |head| head[512] = 0,                        None),
            ("entries of 256",     |head| head[512 + 84..][..2].fill(0),        None),
            ("cut short",          |head| head.truncate(512 + 87),              None),
            ("beyond all disks",   |head| head[512 + 72..][..8].fill(0xff),     None),
            ("endlessly many",     |head| head[512 + 80..][..4].fill(0xff),     found(1024, 255 * 128)),
            ("guarded by another", |head| { head[450] = 0; head[482] = 0xee; }, found(1024, 128 * 128)),
        ];
        for (name, change, expected) in cases {
            let mut head = disk(512, 128);
            change(&mut head);
            assert_eq!(gpt(&head, 512), *expected, "{name}");
        }
    }

    #[test]
    fn partitions_are_numbered_by_their_place() {
        let entries = [
            entry([0; 16], ""),
            entry(GUID, "data"),
            entry([7; 16], "d\u{e4}ta \u{1f4be}"),
            entry([7; 16], "data"),
        ]
        .concat();
        let found = |wanted: PartitionId<'_>| find_in_gpt(&wanted, &entries);
        let uuid = |text: &str| PartitionId::parse_uuid(text.as_bytes()).unwrap();
        assert_eq!(found(uuid(UUID)), Some(2));
        assert_eq!(found(uuid("11223344-5566-7788-99aa-bbccddeeff01")), None);
        assert_eq!(found(uuid("deadbeef-01")), None);
        assert_eq!(found(PartitionId::Label(b"data")), Some(2));
        assert_eq!(found(PartitionId::Label("d\u{e4}ta \u{1f4be}".as_bytes())), Some(3));
        for label in [&b"dat"[..], b"data ", b"DATA", b"", b"\xff"] {
            assert_eq!(found(PartitionId::Label(label)), None, "{}", label.escape_ascii());
        }
    }

    #[test]
    fn an_mbr_has_a_signature() {
        let mut sector = vec![0; 512];
        sector[440..444].copy_from_slice(b"\xef\xbe\xad\xde");
        sector[510..].copy_from_slice(b"\x55\xaa");
        for (text, expected) in [
            ("deadbeef-01", Some(1)),
            ("DEADBEEF-0a", Some(10)),
            ("deadbeee-01", None),
            (UUID, None),
        ] {
            let wanted = PartitionId::parse_uuid(text.as_bytes()).unwrap();
            assert_eq!(find_in_mbr(&wanted, &sector), expected, "{text}");
            assert_eq!(find_in_mbr(&wanted, &sector[..500]), None, "{text}");
        }
        for text in ["", "deadbeef", "deadbeef-1", "deadbeef-001", "deadbeef-0x", "deadbee-001"] {
            assert_eq!(PartitionId::parse_uuid(text.as_bytes()), None, "{text}");
        }
    }

    /// Reads tables that sfdisk(8) writes.
    #[test]
    fn tables_of_sfdisk_are_read() {
        if !has("sfdisk") {
            return;
        }
        let image = std::env::temp_dir().join(format!("partitions-{}", std::process::id()));
        #[rustfmt::skip]
        let cases = [
            (format!("label: gpt\nstart=2048,size=2048\nstart=4096,size=2048\nstart=6144,size=2048,uuid={UUID},name=\"two words\"\n"), UUID, "two words"),
            ("label: dos\nlabel-id: 0xdeadbeef\nstart=2048,size=2048\nstart=4096,size=2048\nstart=6144,size=2048\n".into(), "deadbeef-03", ""),
        ];
        for (script, uuid, label) in cases {
            let file = fs::File::create(&image).unwrap();
            file.set_len(16 << 20).unwrap();
            let mut sfdisk = tool("sfdisk")
                .args(["--quiet", "--no-reread", "--no-tell-kernel"])
                .arg(&image)
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            sfdisk.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
            assert!(sfdisk.wait().unwrap().success());
            let bytes = fs::read(&image).unwrap();
            let wanted = PartitionId::parse_uuid(uuid.as_bytes()).unwrap();
            if label.is_empty() {
                assert_eq!((gpt(&bytes, 512), find_in_mbr(&wanted, &bytes)), (None, Some(3)));
                continue;
            }
            let GptEntries { at, length } = gpt(&bytes, 512).unwrap();
            let entries = &bytes[usize::try_from(at).unwrap()..][..length];
            assert_eq!(find_in_gpt(&wanted, entries), Some(3));
            assert_eq!(find_in_gpt(&PartitionId::Label(label.as_bytes()), entries), Some(3));
        }
        fs::remove_file(image).unwrap();
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..1200),
            as_gpt: bool,
        ) {
            let mut head = disk(512, 128);
            if as_gpt {
                head[520..].iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
            }
            let head = if as_gpt { &head } else { &bytes };
            let _ = gpt(head, 512);
            for wanted in [PartitionId::Guid(GUID), PartitionId::Label(&bytes)] {
                let _ = (find_in_gpt(&wanted, &bytes), find_in_mbr(&wanted, &bytes));
            }
            let _ = PartitionId::parse_uuid(&bytes);
        }
    }
}
