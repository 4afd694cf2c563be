//! Recognition of a file that was given as a kernel.
//!
//! QEMU says "linux kernel too old to load a ram disk", or nothing, about most files that
//! are not a kernel. So the errors here name the kind of file before QEMU runs.
//!
//! Interfaces: the setup header of x86 (kernel doc: arch/x86/boot.rst); the headers of arm64
//! and RISC-V images (kernel docs: arch/arm64/booting.rst, arch/riscv/boot-image-header.rst);
//! PE, whose header lies at the offset that is stored at 0x3c and has the magic `PE\0\0` and
//! the machine (2 bytes); EFI zboot (kernel: drivers/firmware/efi/libstub/zboot-header.S);
//! elf(5).

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use object::elf as elf_format;
use object::read::elf::FileHeader;
use object::{LittleEndian, ReadCache, ReadRef};

use super::{bzimage, decompress, elf};
use crate::plan::architecture;

/// Form of a kernel that can be loaded or unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A kernel of x86 that unpacks itself (bzImage).
    BzImage,
    /// An uncompressed kernel of x86 with a PVH entry (vmlinux).
    Vmlinux,
    /// An uncompressed kernel of this architecture, arm64 or RISC-V (Image).
    Image(&'static str),
    /// A kernel that this tool compressed.
    Compressed(&'static str),
    /// An EFI zboot image: a compressed kernel in an EFI program that unpacks it.
    Zboot,
    /// An EFI program; if it is a UKI, a section of it has the kernel.
    Efi,
}

impl Form {
    /// Whether QEMU can load this form without unpacking.
    #[must_use]
    pub fn is_loadable(self) -> bool {
        self.architecture().is_some()
    }

    /// Name of the architecture that boots this form; `None` if the form does not tell, because
    /// the kernel is inside.
    #[must_use]
    pub fn architecture(self) -> Option<&'static str> {
        match self {
            Self::BzImage | Self::Vmlinux => Some(X86),
            Self::Image(arch) => Some(arch),
            Self::Compressed(_) | Self::Zboot | Self::Efi => None,
        }
    }
}

/// Name of the architecture of [`Form::BzImage`] and [`Form::Vmlinux`], and two that have Images.
const X86: &str = "x86_64";
const ARM: &str = "aarch64";
const RISCV: &str = "riscv64";

/// Bytes at the start of a file that are read to recognise it. Only the notes of a vmlinux
/// may lie behind them.
const HEAD: usize = 64 << 10;

/// Bytes at the start of a file that decide whether it is text.
const BEGINNING: usize = 32;

/// First bytes of a PE file, such as an EFI program (PE format: "MS-DOS stub").
const MZ: &[u8] = b"MZ";
/// Offset of [`ZBOOT`] in an EFI zboot image.
const ZBOOT_AT: usize = 4;
/// Magic of an EFI zboot image.
const ZBOOT: &[u8] = b"zimg";

/// Offset of the magic of an Image.
const IMAGE_AT: usize = 0x38;
/// Magics of Images, and the architectures.
const IMAGES: &[(&[u8], &str)] = &[(b"ARM\x64", ARM), (b"RSC\x05", RISCV)];
/// Offset and magic of a zImage of 32-bit Arm.
const ZIMAGE: (usize, &[u8]) = (0x24, b"\x18\x28\x6f\x01");

/// Values of `Machine` in a PE header (PE format, "Machine types"), and the architectures.
const PE_MACHINES: &[(u16, &str)] = &[
    (0x8664, X86),
    (0xaa64, ARM),
    (0x014c, "i386"),
    (0x01c0, "arm"),
    (0x01c2, "arm"),
    (0x5032, "riscv32"),
    (0x5064, RISCV),
    (0x6264, "loongarch64"),
];

/// Values of `e_machine` in an ELF header (elf(5), `EM_*`), and the architectures.
const ELF_MACHINES: &[(u16, &str)] = &[
    (62, X86),
    (183, ARM),
    (3, "i386"),
    (40, "arm"),
    (243, RISCV),
    (258, "loongarch64"),
    (20, "ppc"),
    (21, "ppc64"),
    (22, "s390x"),
    (8, "mips"),
    (43, "sparc64"),
];

/// Files that people give by mistake: offset and magic, name.
#[rustfmt::skip]
const OTHERS: &[(usize, &[u8], &str)] = &[
    (0,      b"070701",           "a cpio archive, as an initrd is"),
    (0,      b"070702",           "a cpio archive, as an initrd is"),
    (0,      b"070707",           "a cpio archive"),
    (0,      b"\xc7\x71",         "a cpio archive"),
    (0,      b"!<arch>\ndebian-binary", "a Debian package"),
    (0,      b"!<arch>\n",        "an archive of ar(1)"),
    (0,      b"\xed\xab\xee\xdb", "an RPM package"),
    (257,    b"ustar",            "a tar archive"),
    (0,      b"PK\x03\x04",       "a zip archive"),
    (0,      b"QFI\xfb",          "a qcow2 image"),
    (0,      b"KDMV",             "a VMDK image"),
    (0,      b"hsqs",             "a squashfs image"),
    (1024,   b"\xe2\xe1\xf5\xe0", "an EROFS image"),
    (1080,   b"\x53\xef",         "an ext4 image"),
    (0x8001, b"CD001",            "an ISO 9660 image"),
    (512,    b"EFI PART",         "a disk with partitions"),
    (510,    b"\x55\xaa",         "a disk or a boot sector"),
    (0,      b"\x27\x05\x19\x56", "a U-Boot image"),
    (0,      b"\xd0\x0d\xfe\xed", "a device tree"),
    (0,      b"ANDROID!",         "an Android boot image"),
    (0,      b"#!",               "a script"),
];

/// Recognises the form of the kernel `file`.
///
/// # Errors
/// The file is not a kernel that a machine here boots, or is cut; the error names its kind.
pub fn of_file(file: &File) -> Result<Form> {
    let size = file.metadata().context("look at it")?.len();
    let mut head = vec![0; HEAD.min(usize::try_from(size).unwrap_or(HEAD))];
    file.read_exact_at(&mut head, 0).context("read it")?;
    of(&head, size, &ReadCache::new(file))
}

/// Recognises the form of the kernel in `bytes`, which are a whole file.
///
/// # Errors
/// Those of [`of_file`].
pub fn of_bytes(bytes: &[u8]) -> Result<Form> {
    of(bytes.get(..HEAD).unwrap_or(bytes), bytes.len() as u64, bytes)
}

/// Recognises a file of `size` bytes by its start `head`; `whole` reads the whole file.
fn of<'a>(head: &[u8], size: u64, whole: impl ReadRef<'a>) -> Result<Form> {
    let has = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(magic));
    ensure!(size > 0, "it is empty");
    if bzimage::is_bzimage(head) {
        let least = bzimage::size(head).context("it is a bzImage that is cut in its header")?;
        ensure!(size >= least, "it is a bzImage that is cut: {size} bytes of {least}");
        return Ok(Form::BzImage);
    }
    if has(ZIMAGE.0, ZIMAGE.1) {
        bail!("it is an ARM zImage for arm; {}", no_machine());
    }
    // With an EFI stub, an Image is an EFI program, too.
    if let Some(arch) = image_architecture(head) {
        return Ok(Form::Image(arch));
    }
    if has(0, MZ) {
        let is_zboot = has(ZBOOT_AT, ZBOOT);
        let what = if is_zboot { "an EFI zboot image" } else { "an EFI program" };
        if let Some(machine) = pe_machine(head) {
            name(what, machine, PE_MACHINES)?;
        }
        return Ok(if is_zboot { Form::Zboot } else { Form::Efi });
    }
    if has(0, &elf_format::ELFMAG) {
        return of_elf(head, whole);
    }
    if let Some(name) = decompress::tool(head) {
        return Ok(Form::Compressed(name));
    }
    let other = OTHERS.iter().find(|(at, magic, _)| has(*at, magic));
    match other.map(|(.., what)| *what).or_else(|| is_text(head).then_some("text")) {
        Some(what) => bail!("it is {what}, not a kernel"),
        None => bail!(
            "it is not a known kind of kernel: neither a bzImage nor a vmlinux nor an Image, nor one \
             of them compressed or in an EFI program; it begins with the bytes {:02x?}",
            head.get(..8).unwrap_or(head)
        ),
    }
}

/// The architecture of an Image with this beginning; `None` if it is another file.
pub(super) fn image_architecture(head: &[u8]) -> Option<&'static str> {
    let magic = head.get(IMAGE_AT..)?;
    IMAGES.iter().find(|(known, _)| magic.starts_with(known)).map(|(_, arch)| *arch)
}

/// Recognises a vmlinux among the ELF files.
fn of_elf<'a>(head: &[u8], whole: impl ReadRef<'a>) -> Result<Form> {
    /// Index of `EI_DATA` in `e_ident`, and its value `ELFDATA2MSB` for big-endian files.
    const DATA: (usize, u8) = (5, 2);
    /// Offset of `e_type`.
    const TYPE: usize = 16;
    /// Offset of `e_machine`.
    const MACHINE: usize = 18;
    let is_big = head.get(DATA.0) == Some(&DATA.1);
    let number = |at: usize| {
        let bytes = head.get(at..)?.first_chunk().copied()?;
        Some(if is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let (kind, machine) =
        number(TYPE).zip(number(MACHINE)).context("it is an ELF file that is cut")?;
    let arch = name("an ELF file", machine, ELF_MACHINES)?;
    ensure!(
        kind == elf_format::ET_EXEC.0,
        "it is an ELF file, but not a kernel: {}",
        match kind {
            kind if kind == elf_format::ET_REL.0 => "an object, as a kernel module is",
            kind if kind == elf_format::ET_DYN.0 => "a shared library or a program",
            _ => "not an executable",
        }
    );
    ensure!(
        arch == X86,
        "it is an ELF file for {arch}: a program, or a vmlinux, which QEMU does not boot; give the \
         Image"
    );
    let header = elf_format::FileHeader64::<LittleEndian>::parse(whole);
    let entry = header
        .and_then(|header| header.program_headers(LittleEndian, whole))
        .context("it is an ELF file that is cut or damaged")
        .and_then(|segments| elf::entry(segments, whole))?;
    ensure!(
        entry.is_some(),
        "it is an ELF file without the entry that QEMU needs (PVH): a program, or a vmlinux built \
         without CONFIG_PVH; give the bzImage"
    );
    Ok(Form::Vmlinux)
}

/// The field `Machine` of a PE header; `None` if the header is missing or cut.
fn pe_machine(head: &[u8]) -> Option<u16> {
    /// Offset of the field `e_lfanew`, which has the offset of the PE header.
    const OFFSET: usize = 0x3c;
    /// First bytes of the PE header.
    const MAGIC: &[u8] = b"PE\0\0";
    let at = u32::from_le_bytes(*head.get(OFFSET..)?.first_chunk()?);
    let machine = head.get(usize::try_from(at).ok()?..)?.strip_prefix(MAGIC)?;
    machine.first_chunk().copied().map(u16::from_le_bytes)
}

/// The end of an error about a kernel for which there is no machine.
fn no_machine() -> String {
    format!("there are machines for {} only", architecture::names())
}

/// The name of the architecture `machine` in the table `names`; `what` is the kind of file for
/// the error.
fn name(what: &str, machine: u16, names: &[(u16, &'static str)]) -> Result<&'static str> {
    match names.iter().find(|(number, _)| *number == machine) {
        Some((_, name)) if architecture::named(name).is_some() => Ok(name),
        Some((_, name)) => bail!("it is {what} for {name}; {}", no_machine()),
        None => bail!("it is {what} for machine {machine:#x}; {}", no_machine()),
    }
}

/// Whether the file that begins with `head` is text.
fn is_text(head: &[u8]) -> bool {
    let beginning = head.get(..BEGINNING).unwrap_or(head);
    let is_printed = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    beginning.iter().all(is_printed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::vmlinux::samples;
    use proptest::prelude::*;

    /// A file of zeros with `bytes` at an offset.
    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut file = vec![0; (at + bytes.len()).max(4096)];
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    }

    /// A PE file for `machine` with `head` behind its first two bytes.
    fn pe(machine: u16, head: &[u8]) -> Vec<u8> {
        let mut file = with(0x80, &[b"PE\0\0", &machine.to_le_bytes()[..]].concat());
        file[..2].copy_from_slice(MZ);
        file[2..2 + head.len()].copy_from_slice(head);
        file[0x3c] = 0x80;
        file
    }

    /// The file with one byte changed.
    fn changed(mut file: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
        file[at] = byte;
        file
    }

    #[test]
    fn every_form_of_a_kernel_is_recognised() {
        for (name, file, expected) in [
            ("bzImage", samples::bzimage(b"x"), Form::BzImage),
            ("vmlinux", samples::vmlinux(Some(0x100_0010)), Form::Vmlinux),
            ("gzip", b"\x1f\x8b\x08".to_vec(), Form::Compressed("gzip")),
            ("lz4 frame", b"\x04\x22\x4d\x18".to_vec(), Form::Compressed("lz4")),
            ("arm64", with(0x38, b"ARM\x64"), Form::Image(ARM)),
            ("RISC-V", with(0x38, b"RSC\x05"), Form::Image(RISCV)),
            ("arm64 with EFI", pe(0xaa64, &samples::image(b"")[2..]), Form::Image(ARM)),
            ("arm64 UKI", pe(0xaa64, b""), Form::Efi),
            ("arm64 zboot", pe(0xaa64, b"\0\0zimg"), Form::Zboot),
            ("UKI", pe(0x8664, b""), Form::Efi),
            ("EFI without a header", b"MZ".to_vec(), Form::Efi),
            ("zboot", pe(0x8664, b"\0\0zimg"), Form::Zboot),
            ("zboot by hand", b"MZ\0\0zimg".to_vec(), Form::Zboot),
        ] {
            assert_eq!(of_bytes(&file).unwrap(), expected, "{name}");
            let kept = tempfile::tempfile().unwrap();
            kept.write_all_at(&file, 0).unwrap();
            assert_eq!(of_file(&kept).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn an_error_names_the_kind_of_another_file() {
        let bzimage = || {
            let mut image = samples::bzimage(&[7; 5000]);
            image[0x1f4..0x1f8].copy_from_slice(&(5000_u32 / 16).to_le_bytes());
            image
        };
        assert_eq!(of_bytes(&bzimage()).unwrap(), Form::BzImage);
        let vmlinux = || samples::vmlinux(Some(0x100_0010));
        for (name, file, expected) in [
            ("empty", vec![], "it is empty"),
            ("text", b"vmlinuz is not here\n".to_vec(), "it is text"),
            ("short text", b"x".to_vec(), "it is text"),
            ("script", b"#!/bin/sh\n".to_vec(), "it is a script"),
            ("zeros", vec![0; 4096], "not a known kind of kernel"),
            ("cut in the header", bzimage()[..0x20a].to_vec(), "bzImage that is cut in its header"),
            ("cut", bzimage()[..5000].to_vec(), "bzImage that is cut: 5000 bytes of 7040"),
            ("LoongArch UKI", pe(0x6264, b""), "for loongarch64; there are machines for x86_64"),
            ("unknown PE", pe(0x1234, b""), "for machine 0x1234"),
            ("ARM", with(0x24, b"\x18\x28\x6f\x01"), "for arm; there are machines for"),
            (
                "aarch64 vmlinux",
                changed(vmlinux(), 18, 183),
                "an ELF file for aarch64: a program, or a vmlinux, which QEMU does not boot",
            ),
            ("RISC-V vmlinux", changed(vmlinux(), 18, 243), "for riscv64: a program, or"),
            ("i386 vmlinux", changed(vmlinux(), 18, 3), "for i386; there are machines for x86_64"),
            (
                "s390x",
                {
                    let mut file = vmlinux();
                    file[5] = 2;
                    file[18..20].copy_from_slice(&[0, 22]);
                    file
                },
                "s390x",
            ),
            ("module", changed(vmlinux(), 16, 1), "an object, as a kernel module is"),
            ("program", changed(vmlinux(), 16, 3), "a shared library or a program"),
            ("no PVH", samples::vmlinux(None), "without the entry that QEMU needs"),
            ("cut vmlinux", vmlinux()[..100].to_vec(), "cut or damaged"),
            ("cut ELF", b"\x7fELF\x02\x01".to_vec(), "an ELF file that is cut"),
            ("initrd", b"07070100000000".to_vec(), "a cpio archive, as an initrd is"),
            ("deb", b"!<arch>\ndebian-binary   ".to_vec(), "a Debian package"),
            ("rpm", b"\xed\xab\xee\xdb".to_vec(), "an RPM package"),
            ("tar", with(257, b"ustar"), "a tar archive"),
            ("qcow2", b"QFI\xfb".to_vec(), "a qcow2 image"),
            ("ext4", with(1080, b"\x53\xef"), "an ext4 image"),
            ("EROFS", with(1024, b"\xe2\xe1\xf5\xe0"), "an EROFS image"),
            ("squashfs", b"hsqs\0\0\0\0".to_vec(), "a squashfs image"),
            ("ISO", with(0x8001, b"CD001"), "an ISO 9660 image"),
            ("disk", with(510, b"\x55\xaa"), "a disk or a boot sector"),
        ] {
            let error = format!("{:#}", of_bytes(&file).expect_err(name));
            assert!(error.contains(expected), "{name}: {error}");
            assert_eq!(error.lines().count(), 1, "{name}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_file_panics(
            head in prop::sample::select(vec![&b"MZ"[..], b"\x7fELF", b"\x1f\x8b", b"MZ\0\0zimg", b""]),
            bytes in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let _ = of_bytes(&[head, &bytes].concat()); // any result is fine
        }
    }
}
