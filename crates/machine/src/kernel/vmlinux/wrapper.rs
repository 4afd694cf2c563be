//! Unpacking a kernel from a compressed file, a UKI or an EFI zboot image.
//!
//! Interfaces: the containers of [`decompress`]; PE sections, of which a unified
//! kernel image has the kernel in `.linux` (UAPI.5); EFI zboot (kernel:
//! drivers/firmware/efi/libstub/zboot-header.S): behind `MZ\0\0zimg` the offset and
//! the size of the compressed kernel (4 bytes each, little endian), 8 bytes of
//! zeros, and the name of the tool that compressed it, ended by NUL. The initrd and
//! the command line of a UKI are left out: chrootvm has its own.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSection};

use super::cache::{Cache, Entry};
use super::decompress;
use super::form::{self, Form};
use super::key::Key;
use super::{Vmlinux, elf};

/// Most bytes of a file that has a kernel in it; a UKI brings an initrd along.
const MOST: u64 = 1 << 30;
/// Most wrappers around each other. A compressed UKI with a zboot image has three.
const LAYERS_MOST: usize = 4;
/// The section of a UKI that holds the kernel.
const SECTION: &str = ".linux";

/// Offsets of fields in the header of a zboot image.
const ZBOOT_PAYLOAD: usize = 0x08;
const ZBOOT_SIZE: usize = 0x0c;
const ZBOOT_TOOL: usize = 0x18;
/// Most bytes of the tool's name.
const ZBOOT_TOOL_MOST: usize = 32;

/// The kernel in `file`, which is in the form `form`: a bzImage or a vmlinux, from
/// the cache where it was unpacked before.
///
/// # Errors
/// There is no kernel for this machine in it, or it is damaged.
pub fn find(file: &File, form: Form, cache: Option<&Cache>) -> Result<Vmlinux> {
    let size = file.metadata().context("look at it")?.len();
    ensure!(size <= MOST, "a file of {} MiB; the most is {} MiB", size >> 20, MOST >> 20);
    if let Some(cache) = cache {
        let key = Key::of_file(file).context("read it")?;
        if let Some(Entry { file, path, .. }) = cache.find(key) {
            return Ok(Vmlinux::Kept { file, path });
        }
    }
    let mut bytes = vec![0; usize::try_from(size)?];
    file.read_exact_at(&mut bytes, 0).context("read it")?;
    let key = cache.map(|_| Key::of(&bytes));
    let kernel = unwrap(bytes, form)?;
    // A kernel that cannot be cached can be booted all the same.
    let kept = cache.zip(key).and_then(|(cache, key)| cache.keep(key, &kernel).ok());
    Ok(match kept {
        Some(Entry { file, path, .. }) => Vmlinux::Kept { file, path },
        None => Vmlinux::Unpacked(kernel),
    })
}

/// The bzImage or vmlinux in `bytes`.
fn unwrap(mut bytes: Vec<u8>, mut form: Form) -> Result<Vec<u8>> {
    for _ in 0..LAYERS_MOST {
        let name = match form {
            Form::BzImage | Form::Vmlinux => return Ok(bytes),
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
        format!("its kernel, compressed by \"{tool}\", is damaged, or that tool is not known here")
    })
}

fn of_efi(bytes: &[u8]) -> Result<Vec<u8>> {
    let file = object::File::parse(bytes).context("its headers are damaged or cut")?;
    let section = file.section_by_name(SECTION);
    let section = section.with_context(|| {
        format!("there is no kernel in it: it has no section {SECTION}, as a UKI has")
    })?;
    let data = section.data().with_context(|| format!("its section {SECTION} is cut"))?;
    Ok(data.to_vec())
}

/// The version in a vmlinux, such as `6.1.0-56-cloud-amd64`; `None` where `kernel` is
/// another file, or does not tell.
#[must_use]
pub fn version(kernel: &[u8]) -> Option<String> {
    /// How `/proc/version` begins (kernel: `linux_banner`).
    const BEFORE: &[u8] = b"Linux version ";
    elf::header_of(kernel)?;
    let mut places = kernel.windows(BEFORE.len()).enumerate();
    // The same text is a format in other places: `Linux version %s`.
    let after = places.find_map(|(at, part)| {
        let after = kernel.get(at + BEFORE.len()..)?;
        (part == BEFORE && after.first()?.is_ascii_digit()).then_some(after)
    })?;
    let version = after.split(u8::is_ascii_whitespace).next()?;
    let is_name = |byte: &u8| byte.is_ascii_graphic() && *byte != b'/';
    // It becomes part of a path.
    version.iter().all(is_name).then(|| String::from_utf8_lossy(version).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::vmlinux::bzimage;
    use crate::kernel::vmlinux::samples::{self, uki, zboot};
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
            Vmlinux::Unpacked(bytes) => Ok(bytes),
            Vmlinux::Kept { .. } => bail!("kept"),
        }
    }

    #[test]
    fn a_kernel_is_found_in_all_that_it_is_packed_in() {
        let bz = bzimage::wrap(b"kernel");
        let vmlinux = samples::vmlinux(Some(0x100_0010));
        let packed = |compression| compress(bz.clone(), compression).unwrap();
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
        ] {
            let found = unwrapped(&wrapped).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert!(found.starts_with(expected), "{name}");
        }
    }

    #[test]
    fn what_is_no_kernel_inside_is_called_by_its_name() {
        let bz = bzimage::wrap(b"kernel");
        let cut = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
        let deep = (0..5).fold(bz.clone(), |bytes, _| gzip(&bytes));
        for (name, wrapped, expected) in [
            (
                "initrd.gz",
                gzip(b"07070100000000"),
                "what is in it (gzip): it is a cpio archive, as an initrd is",
            ),
            (
                "arm64 Image.gz",
                gzip(&[&[0; 0x38][..], b"ARM\x64"].concat()),
                "arm64 Image for aarch64, and this machine is x86_64",
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
    fn it_is_unpacked_once() {
        let base = tempfile::tempdir().unwrap();
        let cache = Cache::below(base.path()).unwrap();
        let bz = bzimage::wrap(b"kernel");
        for name in ["made", "found"] {
            let found = find(&file(&gzip(&bz)), Form::Compressed("gzip"), Some(&cache)).unwrap();
            let Vmlinux::Kept { file, path } = found else { panic!("{name}") };
            assert_eq!(form::of_file(&file).unwrap(), Form::BzImage, "{name}");
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
    }
}
