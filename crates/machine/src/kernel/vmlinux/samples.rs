//! Small kernels for tests, bare and packed.
//!
//! Formats: elf(5); the note of Xen's PVH (Xen: `public/elfnote.h`); the setup header of a
//! bzImage (kernel doc: arch/x86/boot.rst); the PE format; EFI zboot (kernel:
//! drivers/firmware/efi/libstub/zboot-header.S). The numbers are written by hand, so that the
//! readers of these formats are not tested against themselves.

/// A vmlinux of two segments; with `entry` it has a note with this PVH entry.
#[must_use]
pub fn vmlinux(entry: Option<u32>) -> Vec<u8> {
    let header = |kind: u32, offset: u64, address: u64, size: u64, memory: u64| {
        let virtual_address = address | 0xffff_ffff_8000_0000;
        let flags = u64::from(kind) | 7 << 32;
        [flags, offset, virtual_address, address, size, memory, 4].map(u64::to_le_bytes).concat()
    };
    let note = entry.map_or_else(Vec::new, note);
    let ident = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0";
    let tail: [u16; 6] = [64, 56, 3, 64, 9, 8];
    let elf = [
        &ident[..],
        &[2, 0, 62, 0, 1, 0, 0, 0],
        &[0x100_0000_u64, 64, 0x5000].map(u64::to_le_bytes).concat(),
        &[0; 4],
        &tail.map(u16::to_le_bytes).concat(),
        // The second segment lies below the first one and ends in zeros.
        &header(1, 0x200, 0x100_0000, 0x100, 0x3000),
        &header(1, 0x300, 0x80_0000, 0x100, 0x100),
        &header(4, 0x400, 0, note.len() as u64, 0),
    ];
    let mut file = elf.concat();
    file.resize(0x200, 0);
    file.extend([0x90; 0x100]);
    file.extend([0x91; 0x80]);
    file.extend([0; 0x80]);
    file.extend(note);
    file.extend(b"relocations");
    file
}

/// The note `XEN_ELFNOTE_PHYS32_ENTRY` (18) with a PVH entry of 64 bits.
fn note(entry: u32) -> Vec<u8> {
    let sizes = [4_u32, 8, 18].map(u32::to_le_bytes).concat();
    [&sizes[..], b"Xen\0", &u64::from(entry).to_le_bytes()].concat()
}

/// A bzImage around a compressed kernel, which lies 7 bytes behind the setup sectors; a
/// checksum follows.
#[must_use]
pub fn bzimage(payload: &[u8]) -> Vec<u8> {
    const SECTOR: usize = 512;
    const SETUP_SECTORS: u8 = 3;
    let mut image = vec![0; (usize::from(SETUP_SECTORS) + 1) * SECTOR];
    image[0x1f1] = SETUP_SECTORS;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
    image[0x248..0x24c].copy_from_slice(&7_u32.to_le_bytes());
    image[0x24c..0x250].copy_from_slice(&length(payload).to_le_bytes());
    image.extend([0xcc; 7]);
    image.extend(payload);
    image.extend(b"crc!");
    image
}

/// A bzImage whose header names this version.
#[must_use]
pub fn bzimage_of_version(version: &str) -> Vec<u8> {
    let mut image = bzimage(b"kernel");
    // The text lies 0x200 bytes behind this offset.
    image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    image[0x300..0x300 + version.len()].copy_from_slice(version.as_bytes());
    image
}

/// An arm64 Image with `contents` behind its header (kernel doc: arch/arm64/booting.rst); it is an
/// EFI program, too.
#[must_use]
pub fn image(contents: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 64];
    image[..2].copy_from_slice(b"MZ");
    image[0x38..0x3c].copy_from_slice(b"ARM\x64");
    image.extend(contents);
    image
}

/// An EFI zboot image around a kernel that `tool` compressed.
#[must_use]
pub fn zboot(payload: &[u8], tool: &str) -> Vec<u8> {
    let numbers = [64, length(payload), 0, 0].map(u32::to_le_bytes);
    let mut image = [b"MZ\0\0zimg", numbers.as_flattened(), tool.as_bytes()].concat();
    image.resize(64, 0);
    image.extend(payload);
    image
}

/// A UKI with `kernel` in a section of this name; the section `.cmdline` comes before it.
#[must_use]
pub fn uki(section: &str, kernel: &[u8]) -> Vec<u8> {
    const DATA: u32 = 0x400;
    let mut image = vec![0; 0x80];
    image[..2].copy_from_slice(b"MZ");
    image[0x3c] = 0x80;
    // Machine, number of sections, time, symbol table, number of symbols, size of the
    // optional header, characteristics.
    image.extend(b"PE\0\0\x64\x86\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\xf0\0\x22\0");
    let mut optional = vec![0; 0xf0];
    optional[..2].copy_from_slice(&[0x0b, 0x02]);
    optional[0x20..0x24].copy_from_slice(&0x1000_u32.to_le_bytes()); // SectionAlignment, then FileAlignment
    optional[0x24..0x28].copy_from_slice(&0x200_u32.to_le_bytes());
    optional[0x6c] = 16; // NumberOfRvaAndSizes
    image.extend(optional);
    let size = length(kernel);
    for (name, at, size, raw) in
        [(".cmdline", DATA, 5, 0x200), (section, DATA + 0x200, size, size.next_multiple_of(0x200))]
    {
        let mut header = name.as_bytes().to_vec();
        header.resize(8, 0);
        let numbers = [size, 0x1000 * (at / 0x200), raw, at, 0, 0, 0, 0x4000_0040];
        header.extend(numbers.map(u32::to_le_bytes).as_flattened());
        image.extend(header);
    }
    image.resize(DATA as usize, 0);
    image.extend(b"quiet");
    image.resize(DATA as usize + 0x200, 0);
    image.extend(kernel);
    image.resize(image.len().next_multiple_of(0x200), 0);
    image
}

/// The length as a number of 32 bits.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
