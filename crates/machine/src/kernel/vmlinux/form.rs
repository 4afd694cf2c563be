//! Recognition of a file that was given as a kernel.
//!
//! QEMU says "linux kernel too old to load a ram disk", or nothing, about most files that
//! are not a kernel. So the errors here name the kind of file before QEMU runs.
//!
//! Interfaces: the setup header of x86 (kernel doc: arch/x86/boot.rst); the headers of arm64 and
//! RISC-V images (kernel docs: arch/arm64/booting.rst, arch/riscv/boot-image-header.rst); the mark
//! of a bzImage of s390 (kernel: arch/s390/boot/head.S); PE, whose header lies at the offset that
//! is stored at 0x3c and has the magic `PE\0\0` and the machine (2 bytes); EFI zboot (kernel:
//! drivers/firmware/efi/libstub/zboot-header.S); elf(5).

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use image::elf::{Machine, machine};
use object::elf as elf_format;
use object::read::elf::FileHeader;
use object::{Endianness, LittleEndian, ReadCache, ReadRef};

use super::{bzimage, decompress, elf};
use crate::plan::architecture::{self, ARCHITECTURES, Architecture};

/// Form of a kernel that can be loaded or unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A kernel of this architecture, x86 or s390, that unpacks itself (bzImage).
    BzImage(&'static str),
    /// An uncompressed kernel in ELF (vmlinux) of this architecture: x86 with a PVH entry, or
    /// POWER.
    Vmlinux(&'static str),
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
            Self::BzImage(arch) | Self::Vmlinux(arch) | Self::Image(arch) => Some(arch),
            Self::Compressed(_) | Self::Zboot | Self::Efi => None,
        }
    }
}

/// Names of the architectures whose kernels have a form here.
const X86: &str = "x86_64";
const ARM: &str = "aarch64";
const RISCV: &str = "riscv64";
const POWER: &str = "ppc64le";
const S390: &str = "s390x";

/// Bytes at the start of a file that are read to recognise it. Only the notes of a vmlinux
/// may lie behind them.
const HEAD: usize = 68 << 10;

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

/// Offset and magic of a bzImage of s390.
const S390_BZIMAGE: (usize, &[u8]) = (0x10008, b"S390EP");

/// Lowest address at which a kernel of POWER runs (`PAGE_OFFSET`); that of a program is lower.
const POWER_LOWEST: u64 = 0xc000_0000_0000_0000;

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
        return Ok(Form::BzImage(X86));
    }
    if has(S390_BZIMAGE.0, S390_BZIMAGE.1) {
        return Ok(Form::BzImage(S390));
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
            check_pe(what, machine)?;
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
    const CUT: &str = "it is an ELF file that is cut";
    let machine = machine(head).context(CUT)?;
    let is_for = |row: &&Architecture| Machine::of_platform(row.platform) == Some(machine);
    let Some(Architecture { arch, .. }) = ARCHITECTURES.iter().find(is_for) else {
        bail!("it is an ELF file for {machine}; {}", no_machine());
    };
    let header = elf_format::FileHeader64::<Endianness>::parse(head).context(CUT)?;
    let endian = header.endian().context(CUT)?;
    let kind = header.e_type(endian);
    // One that can be moved has the type of a library.
    if *arch == POWER && header.e_entry(endian) >= POWER_LOWEST {
        return Ok(Form::Vmlinux(POWER));
    }
    ensure!(
        kind == elf_format::ET_EXEC,
        "it is an ELF file, but not a kernel: {}",
        match kind {
            elf_format::ET_REL => "an object, as a kernel module is",
            elf_format::ET_DYN => "a shared library or a program",
            _ => "not an executable",
        }
    );
    match *arch {
        X86 => {}
        POWER => bail!("it is an ELF file for {arch}, but a program, not a kernel"),
        S390 => bail!("it is an ELF file for {arch}: a program, or a vmlinux; give the bzImage"),
        _ => bail!(
            "it is an ELF file for {arch}: a program, or a vmlinux, which QEMU does not boot; give \
             the Image"
        ),
    }
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
    Ok(Form::Vmlinux(X86))
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

/// Checks that there are machines for the PE file `what` for `machine`.
fn check_pe(what: &str, machine: u16) -> Result<()> {
    match PE_MACHINES.iter().find(|(number, _)| *number == machine) {
        Some((_, name)) if architecture::named(name).is_some() => Ok(()),
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
mod tests;
