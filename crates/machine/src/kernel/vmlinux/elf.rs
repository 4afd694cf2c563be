//! Reduction of a vmlinux to what a boot by PVH needs.
//!
//! Interfaces: elf(5); the note `XEN_ELFNOTE_PHYS32_ENTRY` (Xen: `public/elfnote.h`). The
//! note has the address at which a loader enters the kernel in 32-bit mode, with the
//! segments at their physical addresses (Xen: `docs/misc/pvh.pandoc`).
//!
//! The output has only headers that are written here, so that QEMU parses no header that
//! came from a root file system:
//!
//! | Offset | Contents |
//! |---|---|
//! | 0 | `Elf64_Ehdr` |
//! | 64 | one `Elf64_Phdr` for each segment and one for the note, then the note |
//! | `SEGMENTS` | the segments, each at a multiple of `PAGE`, without trailing zeros |
//!
//! QEMU fills a segment with zeros up to its size in memory. Symbols and relocations are
//! left out: a kernel that is entered by PVH stays at its physical addresses.

use anyhow::{Context, Result, bail, ensure};
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian as LE, ReadRef, U16, U32, U64};

/// Type of the note with the PVH entry (Xen: `XEN_ELFNOTE_PHYS32_ENTRY`).
const PHYS32_ENTRY: u32 = 18;
/// Owner of the note; in the file a NUL follows.
const NOTE_NAME: &[u8] = b"Xen";
/// Offset of the first segment in the output. QEMU searches the first 8192 bytes of a file
/// for the magic of a multiboot kernel, which a segment could contain.
const SEGMENTS: usize = 8192;
/// Alignment in bytes of the segments in the output.
const PAGE: usize = 4096;
/// Most segments that are accepted; a kernel has four.
const SEGMENTS_MOST: usize = 32;
/// Lowest physical address of a segment: below 1 MiB lie areas of the firmware.
const LOWEST: u64 = 1 << 20;
/// End of the physical addresses that 32-bit code can reach.
const HIGHEST: u64 = 1 << 32;
/// Most bytes of memory that the segments may take.
const MEMORY_MOST: u64 = 1 << 30;

/// Cuts the vmlinux `kernel` down; `None` if it is not a kernel of x86-64, or has no PVH
/// entry.
///
/// # Errors
/// The headers contradict each other or the size of the file.
pub fn cut_down(kernel: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(header) = header_of(kernel) else { return Ok(None) };
    let segments = header.program_headers(LE, kernel).context("program headers")?;
    let Some(entry) = entry(segments, kernel)? else { return Ok(None) };
    let loads = loads(segments)?;
    let is_inside = |load: &&ProgramHeader64<LE>| {
        let start = load.p_paddr(LE);
        (start..start + load.p_filesz(LE)).contains(&entry)
    };
    ensure!(loads.iter().any(|load| is_inside(&load)), "its entry {entry:#x} is in no segment");
    write(header, &loads, entry, kernel).map(Some)
}

/// The ELF header of an x86-64 file; `None` if `kernel` is another file.
#[must_use]
pub fn header_of(kernel: &[u8]) -> Option<&FileHeader64<LE>> {
    let header = FileHeader64::<LE>::parse(kernel).ok()?;
    let is_ours = header.endian().is_ok() && header.e_machine(LE) == elf::EM_X86_64;
    is_ours.then_some(header)
}

/// The PVH entry, the address at which a loader enters the kernel; `None` if no segment has
/// a note with it.
///
/// # Errors
/// A note is damaged, or does not hold a 32-bit address.
pub fn entry<'a>(
    segments: &[ProgramHeader64<LE>],
    kernel: impl ReadRef<'a>,
) -> Result<Option<u64>> {
    for segment in segments {
        let Some(mut notes) = segment.notes(LE, kernel).context("notes")? else { continue };
        while let Some(note) = notes.next().context("notes")? {
            if note.name() == NOTE_NAME && note.n_type(LE).0 == PHYS32_ENTRY {
                return match *note.desc() {
                    [a, b, c, d] | [a, b, c, d, 0, 0, 0, 0] => {
                        Ok(Some(u32::from_le_bytes([a, b, c, d]).into()))
                    }
                    _ => bail!("the note about its entry does not hold a 32-bit address"),
                };
            }
        }
    }
    Ok(None)
}

/// The segments to load (`PT_LOAD`), sorted by physical address.
///
/// # Errors
/// Segments overlap, are too many or too large, or lie outside of the usable addresses.
fn loads(segments: &[ProgramHeader64<LE>]) -> Result<Vec<ProgramHeader64<LE>>> {
    let is_loaded = |segment: &&ProgramHeader64<LE>| {
        segment.p_type(LE) == elf::PT_LOAD && segment.p_memsz(LE) > 0
    };
    let mut loads: Vec<_> = segments.iter().filter(is_loaded).copied().collect();
    ensure!(loads.len() <= SEGMENTS_MOST, "{} segments", loads.len());
    loads.sort_by_key(|load| load.p_paddr(LE));
    let mut free = LOWEST;
    let mut memory = 0;
    for load in &loads {
        let (start, size) = (load.p_paddr(LE), load.p_memsz(LE));
        let end = start.checked_add(size).filter(|end| *end <= HIGHEST);
        let end = end.filter(|_| start >= free && load.p_filesz(LE) <= size);
        free = end.with_context(|| {
            format!("the segment at {start:#x} is out of place or overlaps another")
        })?;
        memory += size;
    }
    ensure!(memory <= MEMORY_MOST, "it takes {} MiB of memory", memory >> 20);
    Ok(loads)
}

/// Writes the output in the layout that the module's documentation shows.
fn write(
    header: &FileHeader64<LE>,
    loads: &[ProgramHeader64<LE>],
    entry: u64,
    kernel: &[u8],
) -> Result<Vec<u8>> {
    let note = note(entry);
    let table = size_of::<FileHeader64<LE>>();
    let note_at = table + (loads.len() + 1) * size_of::<ProgramHeader64<LE>>();
    let mut out = vec![0; SEGMENTS];
    let mut headers = Vec::new();
    for load in loads {
        let contents = load.data(LE, kernel).ok().context("a segment ends behind the file")?;
        let used = contents.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let mut load = *load;
        load.p_offset = U64::new(LE, out.len() as u64);
        load.p_filesz = U64::new(LE, used as u64);
        load.p_align = U64::new(LE, PAGE as u64);
        headers.extend_from_slice(object::pod::bytes_of(&load));
        out.extend_from_slice(&contents[..used]);
        out.resize(out.len().next_multiple_of(PAGE), 0);
    }
    headers.extend_from_slice(object::pod::bytes_of(&ProgramHeader64 {
        p_type: U32::new(LE, elf::PT_NOTE),
        p_flags: U32::new(LE, elf::PF_R),
        p_offset: U64::new(LE, note_at as u64),
        p_vaddr: U64::new(LE, 0),
        p_paddr: U64::new(LE, 0),
        p_filesz: U64::new(LE, note.len() as u64),
        p_memsz: U64::new(LE, note.len() as u64),
        p_align: U64::new(LE, 4),
    }));
    let mut header = *header;
    header.e_phoff = U64::new(LE, table as u64);
    header.e_phnum = U16::new(LE, u16::try_from(loads.len() + 1)?);
    (header.e_shoff, header.e_shnum) = (U64::new(LE, 0), U16::new(LE, 0));
    header.e_shstrndx = U16::new(LE, elf::SHN_UNDEF);
    let head = [object::pod::bytes_of(&header), &headers, &note].concat();
    out[..head.len()].copy_from_slice(&head);
    Ok(out)
}

/// A note with the PVH entry `entry`. QEMU reads an entry of eight bytes.
fn note(entry: u64) -> Vec<u8> {
    let sizes = [4_u32, 8, PHYS32_ENTRY].map(u32::to_le_bytes).concat();
    [&sizes[..], NOTE_NAME, b"\0", &entry.to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::vmlinux::samples::vmlinux as sample;
    use proptest::prelude::*;

    const ENTRY: u32 = 0x100_0010;

    /// Physical address, contents and size in memory of each segment in `file`.
    fn segments(file: &[u8]) -> Vec<(u64, Vec<u8>, u64)> {
        let header = header_of(file).unwrap();
        let segments = header.program_headers(LE, file).unwrap().iter();
        let loads = segments.filter(|segment| segment.p_type(LE) == elf::PT_LOAD);
        let is_in_place = |at: u64| at >= SEGMENTS as u64 && at.is_multiple_of(PAGE as u64);
        let read = |load: &ProgramHeader64<LE>| {
            assert!(is_in_place(load.p_offset(LE)));
            (load.p_paddr(LE), load.data(LE, file).unwrap().to_vec(), load.p_memsz(LE))
        };
        loads.map(read).collect()
    }

    #[test]
    fn only_segments_and_entry_are_kept() {
        let out = cut_down(&sample(Some(ENTRY))).unwrap().unwrap();
        let expected =
            [(0x80_0000, vec![0x91; 0x80], 0x100), (0x100_0000, vec![0x90; 0x100], 0x3000)];
        assert_eq!(segments(&out), expected);
        let header = header_of(&out).unwrap();
        assert_eq!(header.e_shoff(LE), 0);
        let headers = header.program_headers(LE, &*out).unwrap();
        assert_eq!(entry(headers, &*out).unwrap(), Some(ENTRY.into()));
        assert!(!out.windows(11).any(|part| part == b"relocations"));
        assert_eq!(cut_down(&out).unwrap().unwrap(), out);
    }

    #[test]
    fn a_kernel_without_pvh_is_no_error_but_a_damaged_one_is() {
        /// Offset, and the bytes to write there.
        type Change = (usize, &'static [u8]);
        const PHYSICAL: usize = 64 + 24;
        #[rustfmt::skip]
        let cases: &[(&str, Change, bool)] = &[
            ("32-bit",          (4, &[1]), true),
            ("big-endian",      (5, &[2]), true),
            ("aarch64",         (18, &[183]), true),
            ("other note type", (0x400 + 8, &[17]), true),
            ("other's note",    (0x400 + 12, b"Zen"), true),
            ("behind the end",  (64 + 8, &[0, 0, 0, 1]), false),
            ("no table",        (32, &[0xff; 8]), false),
            ("below 1 MiB",     (PHYSICAL, &[0; 8]), false),
            ("beyond 4 GiB",    (PHYSICAL, &[0, 0, 0, 0, 1]), false),
            ("at the very end", (PHYSICAL, &[0xff; 8]), false),
            ("overlap",         (PHYSICAL, &[0, 0, 0x80, 0, 0]), false),
            ("larger in file",  (PHYSICAL + 16, &[1, 0]), false),
            ("huge in memory",  (PHYSICAL + 16, &[0, 0, 0, 0x70]), false),
            ("entry elsewhere", (0x400 + 16, &[0, 2]), false),
            ("entry too high",  (0x400 + 20, &[1]), false),
            ("note is cut",     (0x400 + 4, &[0xff]), false),
        ];
        for (name, (at, bytes), is_whole) in cases {
            let mut kernel = sample(Some(ENTRY));
            kernel[*at..at + bytes.len()].copy_from_slice(bytes);
            let result = cut_down(&kernel);
            match is_whole {
                true => assert_eq!(result.unwrap(), None, "{name}"),
                false => assert!(result.is_err(), "{name}"),
            }
        }
        assert_eq!(cut_down(&sample(None)).unwrap(), None);
        assert_eq!(cut_down(b"").unwrap(), None);
    }

    proptest! {
        #[test]
        fn no_header_panics(
            changes in prop::collection::vec((0..0x420_usize, any::<u8>()), 1..20),
            end in 0..0x420_usize,
        ) {
            let mut kernel = sample(Some(ENTRY));
            for (at, byte) in changes {
                if let Some(found) = kernel.get_mut(at) {
                    *found = byte;
                }
            }
            let _ = cut_down(&kernel); // any result is fine
            kernel.truncate(end);
            let _ = cut_down(&kernel); // any result is fine
        }
    }
}
