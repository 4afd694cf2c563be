//! Unpacking of a kernel from a compressed file, a UKI or an EFI zboot image.
//!
//! Interfaces: the containers of [`decompress`]; PE, whose section `.linux` has the kernel in
//! a unified kernel image (UKI; UAPI.5); EFI zboot (kernel:
//! drivers/firmware/efi/libstub/zboot-header.S), with these fields, little endian:
//!
//! | Offset | Bytes | Contents |
//! |---|---|---|
//! | 0x00 | 8 | `MZ\0\0zimg` |
//! | 0x08 | 4 | offset of the compressed kernel |
//! | 0x0c | 4 | size of the compressed kernel |
//! | 0x18 | 32 | name of the tool that compressed it, ended by NUL |
//!
//! The initrd and the command line in a UKI are ignored: chrootvm has its own.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSection};

use super::cache::{CachedKernel, Vmlinux, VmlinuxCache};
use super::form::{self, Form};
use super::image_hash::ImageHash;
use super::{decompress, elf};

/// Size in bytes of the largest file that is unpacked; a UKI contains an initrd, too.
const MOST: u64 = 1 << 30;
/// Most wrappers around each other. A compressed UKI with an EFI zboot image in it has three.
const LAYERS_MOST: usize = 4;
/// Section of a UKI that holds the kernel.
const SECTION: &str = ".linux";

/// Offset of the offset of the compressed kernel in an EFI zboot image.
const ZBOOT_PAYLOAD: usize = 0x08;
/// Offset of the size of the compressed kernel in an EFI zboot image.
const ZBOOT_SIZE: usize = 0x0c;
/// Offset of the tool's name in an EFI zboot image.
const ZBOOT_TOOL: usize = 0x18;
/// Most bytes of the tool's name.
const ZBOOT_TOOL_MOST: usize = 32;

/// Finds the bzImage, vmlinux or Image in `file`, whose form is `form`: in the cache, or by
/// unpacking the file.
///
/// # Errors
/// The file has no kernel that a machine here boots, or is damaged.
pub fn find(file: &File, form: Form, cache: Option<&VmlinuxCache>) -> Result<Vmlinux> {
    let size = file.metadata().context("look at it")?.len();
    ensure!(size <= MOST, "a file of {} MiB; the most is {} MiB", size >> 20, MOST >> 20);
    if let Some(cache) = cache {
        let hash = ImageHash::of_file(file).context("read it")?;
        if let Some(CachedKernel { file, path, .. }) = cache.find(hash) {
            return Ok(Vmlinux::Cached { file, path });
        }
    }
    let mut bytes = vec![0; usize::try_from(size)?];
    file.read_exact_at(&mut bytes, 0).context("read it")?;
    let hash = cache.map(|_| ImageHash::of(&bytes));
    let kernel = unwrap(bytes, form)?;
    // A kernel that cannot be kept can still be booted.
    let kept = cache.zip(hash).and_then(|(cache, hash)| cache.keep(hash, &kernel).ok());
    Ok(match kept {
        Some(CachedKernel { file, path, .. }) => Vmlinux::Cached { file, path },
        None => Vmlinux::InMemory(kernel),
    })
}

/// Removes the wrappers around the bzImage, vmlinux or Image in `bytes`.
fn unwrap(mut bytes: Vec<u8>, mut form: Form) -> Result<Vec<u8>> {
    for _ in 0..LAYERS_MOST {
        let name = match form {
            Form::BzImage(_) | Form::Vmlinux(_) | Form::Image(_) => return Ok(bytes),
            Form::Compressed(tool) => {
                bytes = decompress::whole(&bytes)?.context("not compressed")?;
                tool
            }
            Form::Zboot => {
                bytes = of_zboot(&bytes).context("it is an EFI zboot image")?;
                "EFI zboot"
            }
            Form::Efi => {
                bytes = of_efi(&bytes).context("it is an EFI program")?;
                "EFI program"
            }
        };
        form = form::of_bytes(&bytes).with_context(|| format!("what is in it ({name})"))?;
    }
    bail!("more than {LAYERS_MOST} wrappers around each other")
}

/// The kernel in an EFI zboot image.
fn of_zboot(bytes: &[u8]) -> Result<Vec<u8>> {
    let number = |at: usize| {
        let bytes = bytes.get(at..)?.first_chunk().copied()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let payload = || {
        let (start, size) = (number(ZBOOT_PAYLOAD)?, number(ZBOOT_SIZE)?);
        bytes.get(start..start.checked_add(size)?)
    };
    let payload = payload().context("its compressed kernel ends behind it: it is cut")?;
    decompress::whole(payload)?.with_context(|| {
        let tool = bytes.get(ZBOOT_TOOL..).unwrap_or_default();
        let tool = tool.split(|byte| *byte == 0).next().unwrap_or_default();
        let tool = tool.get(..ZBOOT_TOOL_MOST).unwrap_or(tool);
        let tool = tool.escape_ascii();
        format!("its kernel, compressed by \"{tool}\", is damaged, or that tool is unknown")
    })
}

/// The kernel in a UKI.
fn of_efi(bytes: &[u8]) -> Result<Vec<u8>> {
    let file = object::File::parse(bytes).context("its headers are damaged or cut")?;
    let section = file.section_by_name(SECTION);
    let section = section.with_context(|| {
        format!("there is no kernel in it: it has no section {SECTION}, as a UKI has")
    })?;
    let data = section.data().with_context(|| format!("its section {SECTION} is cut"))?;
    Ok(data.to_vec())
}

/// The version of a vmlinux or an Image, such as `6.1.0-56-cloud-amd64`; `None` if `kernel`
/// is another file, or does not contain its version.
#[must_use]
pub fn version(kernel: &[u8]) -> Option<String> {
    /// First words of the banner that /proc/version shows (kernel: `linux_banner`).
    const BEFORE: &[u8] = b"Linux version ";
    let is_image = form::image_architecture(kernel).is_some();
    if !is_image && elf::header_of(kernel).is_none() {
        return None;
    }
    let mut places = kernel.windows(BEFORE.len()).enumerate();
    // The same words are also in format strings: `Linux version %s`.
    let after = places.find_map(|(at, part)| {
        let after = kernel.get(at + BEFORE.len()..)?;
        (part == BEFORE && after.first()?.is_ascii_digit()).then_some(after)
    })?;
    let version = after.split(u8::is_ascii_whitespace).next()?;
    let is_name = |byte: &u8| byte.is_ascii_graphic() && *byte != b'/';
    // The version becomes part of a path.
    version.iter().all(is_name).then(|| String::from_utf8_lossy(version).into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, uki, zboot};
    use super::*;
    use archive::compress::{Compression, compress};

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        compress(bytes.to_vec(), Compression::Gzip).unwrap()
    }

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    fn unwrapped(bytes: &[u8]) -> Result<Vec<u8>> {
        let file = file(bytes);
        match find(&file, form::of_file(&file)?, None)? {
            Vmlinux::InMemory(bytes) => Ok(bytes),
            Vmlinux::Cached { .. } => bail!("kept"),
        }
    }

    #[test]
    fn a_kernel_is_found_in_every_wrapper() {
        let bz = samples::bzimage(b"kernel");
        let vmlinux = samples::vmlinux(Some(0x100_0010));
        let image = samples::image(b"kernel");
        let packed = |compression| compress(bz.clone(), compression).unwrap();
        let packed_image = compress(image.clone(), Compression::Zstd).unwrap();
        let mut frame = lz4_flex::frame::FrameEncoder::new(Vec::new());
        std::io::Write::write_all(&mut frame, &bz).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        std::io::Write::write_all(&mut bzip2, &bz).unwrap();
        for (name, wrapped, expected) in [
            ("gzip", gzip(&bz), &bz),
            ("xz", packed(Compression::Xz), &bz),
            ("zstd", packed(Compression::Zstd), &bz),
            ("lz4", packed(Compression::Lz4), &bz),
            ("lz4 frame", frame.finish().unwrap(), &bz),
            ("bzip2", bzip2.finish().unwrap(), &bz),
            ("vmlinux.gz", gzip(&vmlinux), &vmlinux),
            ("UKI", uki(SECTION, &bz), &bz),
            ("UKI of a vmlinux", uki(SECTION, &vmlinux), &vmlinux),
            ("UKI of a zboot", uki(SECTION, &zboot(&gzip(&bz), "gzip")), &bz),
            ("compressed UKI", gzip(&uki(SECTION, &bz)), &bz),
            ("zboot", zboot(&gzip(&bz), "gzip"), &bz),
            ("zboot by zstd", zboot(&packed(Compression::Zstd), "zstd22"), &bz),
            (
                "zboot with the size",
                zboot(&[&packed(Compression::Zstd)[..], b"\0\x10\0\0"].concat(), "zstd22"),
                &bz,
            ),
            ("zboot of a vmlinux", zboot(&gzip(&vmlinux), "gzip"), &vmlinux),
            ("Image.gz of arm64", gzip(&image), &image),
            ("zboot of arm64", zboot(&packed_image, "zstd22"), &image),
        ] {
            let found = unwrapped(&wrapped).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert!(found.starts_with(expected), "{name}");
        }
    }

    #[test]
    fn an_error_names_what_is_inside() {
        let bz = samples::bzimage(b"kernel");
        let cut = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
        let deep = (0..5).fold(bz.clone(), |bytes, _| gzip(&bytes));
        for (name, wrapped, expected) in [
            (
                "initrd.gz",
                gzip(b"07070100000000"),
                "what is in it (gzip): it is a cpio archive, as an initrd is",
            ),
            (
                "zImage.gz",
                gzip(&[&[0; 0x24][..], b"\x18\x28\x6f\x01"].concat()),
                "what is in it (gzip): it is an ARM zImage for arm; there are machines for",
            ),
            ("empty.gz", gzip(b""), "it is empty"),
            ("cut", cut(gzip(&bz)), "gzip"),
            ("boot loader", uki(".text", &bz), "no kernel in it: it has no section .linux"),
            (
                "UKI with text",
                uki(SECTION, b"hello, this is not a kernel at all"),
                "what is in it (EFI program): it is text",
            ),
            ("cut UKI", uki(SECTION, &bz)[..0x700].to_vec(), ".linux is cut"),
            ("EFI, cut", b"MZ".to_vec(), "headers are damaged or cut"),
            ("zboot, cut", cut(zboot(&gzip(&bz), "gzip")), "it is cut"),
            ("zboot, header only", b"MZ\0\0zimg".to_vec(), "it is cut"),
            (
                "zboot by another tool",
                zboot(b"????????", "brotli\x1b"),
                "compressed by \"brotli\\x1b\"",
            ),
            ("deep", deep, "more than 4 wrappers"),
        ] {
            let error = format!("{:#}", unwrapped(&wrapped).expect_err(name));
            assert!(error.contains(expected), "{name}: {error}");
            assert_eq!(error.lines().count(), 1, "{name}: {error}");
        }
    }

    #[test]
    fn a_kernel_is_unpacked_once() {
        let base = tempfile::tempdir().unwrap();
        let cache = VmlinuxCache::below(base.path()).unwrap();
        let bz = samples::bzimage(b"kernel");
        for name in ["made", "found"] {
            let found = find(&file(&gzip(&bz)), Form::Compressed("gzip"), Some(&cache)).unwrap();
            let Vmlinux::Cached { file, path } = found else { panic!("{name}") };
            assert_eq!(form::of_file(&file).unwrap(), Form::BzImage("x86_64"), "{name}");
            assert!(path.exists(), "{name}");
        }
        assert_eq!(std::fs::read_dir(base.path().join("virtinitrd/vmlinux")).unwrap().count(), 1);
    }

    #[test]
    fn a_vmlinux_tells_its_version() {
        let with = |text: &[u8]| [&samples::vmlinux(None)[..], text].concat();
        for (text, expected) in [
            (
                &b"Linux version %s\nLinux version 6.1.0-56-cloud-amd64 (me) #1"[..],
                Some("6.1.0-56-cloud-amd64"),
            ),
            (b"Linux version 6/../../x y", None),
            (b"Linux version ", None),
        ] {
            assert_eq!(version(&with(text)).as_deref(), expected);
        }
        assert_eq!(version(b"Linux version 6.1 "), None);
        let image = samples::image(b"Linux version 6.1.0-56-cloud-arm64 (me)");
        assert_eq!(version(&image).as_deref(), Some("6.1.0-56-cloud-arm64"));
    }
}
