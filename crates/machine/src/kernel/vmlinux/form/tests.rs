//! Forms of kernels, and other files.

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

/// An ELF file of POWER of this type, at the addresses of a kernel.
fn power(kind: u8) -> Vec<u8> {
    let file = changed(samples::vmlinux(None), 18, 21);
    changed(changed(file, 16, kind), 24 + 7, 0xc0)
}

/// The head of an executable in big-endian ELF for `machine`.
fn big_endian(machine: u8) -> Vec<u8> {
    let mut file = changed(samples::vmlinux(None), 5, 2);
    file[16..20].copy_from_slice(&[0, 2, 0, machine]);
    file
}

#[test]
fn every_form_of_a_kernel_is_recognised() {
    for (name, file, expected) in [
        ("bzImage", samples::bzimage(b"x"), Form::BzImage(X86)),
        ("vmlinux", samples::vmlinux(Some(0x100_0010)), Form::Vmlinux(X86)),
        ("gzip", b"\x1f\x8b\x08".to_vec(), Form::Compressed("gzip")),
        ("lz4 frame", b"\x04\x22\x4d\x18".to_vec(), Form::Compressed("lz4")),
        ("arm64", with(0x38, b"ARM\x64"), Form::Image(ARM)),
        ("RISC-V", with(0x38, b"RSC\x05"), Form::Image(RISCV)),
        ("s390", with(0x10008, b"S390EP\0\x01"), Form::BzImage(S390)),
        ("POWER", power(2), Form::Vmlinux(POWER)),
        ("POWER that can be moved", power(3), Form::Vmlinux(POWER)),
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
    assert_eq!(of_bytes(&bzimage()).unwrap(), Form::BzImage(X86));
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
        (
            "i386 vmlinux",
            changed(changed(vmlinux(), 18, 3), 4, 1),
            "for 32-bit x86; there are machines for x86_64",
        ),
        ("MIPS vmlinux", changed(vmlinux(), 18, 8), "for ELF machine 8 (64 bits, little endian)"),
        ("s390x vmlinux", big_endian(22), "for s390x: a program, or a vmlinux; give the bzImage"),
        ("POWER program", changed(vmlinux(), 18, 21), "for ppc64le, but a program, not a kernel"),
        ("big POWER", big_endian(21), "for POWER, big endian; there are machines"),
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
