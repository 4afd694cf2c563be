//! The kernel inside of a bzImage, for a boot by PVH.
//!
//! A bzImage unpacks itself in the guest, which without KVM is a tenth of a boot.
//! QEMU enters an unpacked kernel directly, where that has the note of Xen's PVH
//! (`CONFIG_PVH`, as distributions have it). What is unpacked is kept in a
//! [`Cache`]. Such a kernel is where it was linked to be: it is the unpacking
//! code that would move it to a random address.
//!
//! A kernel may be packed once more, compressed or in an EFI program: [`form`] tells
//! what a file is, and [`wrapper`] takes the kernel out.

pub mod bzimage;
pub mod cache;
pub mod decompress;
pub mod elf;
pub mod form;
pub mod key;
pub mod lzop;
pub mod samples;
pub mod wrapper;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use files::named::Named;

use self::cache::{Cache, Entry};
use self::key::Key;

/// Whether to boot by PVH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pvh {
    /// Where the kernel can
    #[default]
    Auto,
    /// The image is booted as it is
    Never,
}

#[rustfmt::skip]
impl Named for Pvh {
    const NAMES: &'static [(&'static str, Self, &'static str)] = &[
        ("auto", Self::Auto, "Where the kernel can"),
        ("never", Self::Never, "The image is booted as it is"),
    ];
}

/// Most bytes of an image.
const IMAGE_MOST: u64 = 256 << 20;

/// A kernel that boots by PVH.
#[derive(Debug)]
pub enum Vmlinux {
    /// As it is kept.
    Kept {
        /// Opened for reading.
        file: File,
        /// Its name.
        path: PathBuf,
    },
    /// In memory, where there is no cache.
    Unpacked(Vec<u8>),
}

/// The vmlinux of the kernel `image`; `None` where it has none that boots by
/// PVH.
///
/// Without a cache it is unpacked here nevertheless: the guest would do the same
/// with slower code, under TCG ten times as slow.
///
/// # Errors
/// A damaged image.
pub fn find(image: &File, cache: Option<&Cache>) -> Result<Option<Vmlinux>> {
    let mut head = [0; bzimage::HEADER_END];
    if image.read_exact_at(&mut head, 0).is_err() || !bzimage::has_payload(&head) {
        return Ok(None);
    }
    let size = image.metadata().context("look at it")?.len();
    ensure!(
        size <= IMAGE_MOST,
        "an image of {} MiB; the most is {} MiB",
        size >> 20,
        IMAGE_MOST >> 20
    );
    if let Some(cache) = cache {
        let key = Key::of_file(image).context("read it")?;
        if let Some(entry) = cache.find(key) {
            return Ok(kept(entry));
        }
    }
    let mut bytes = vec![0; usize::try_from(size)?];
    image.read_exact_at(&mut bytes, 0).context("read it")?;
    let vmlinux = unpack(&bytes)?;
    if let Some(cache) = cache {
        let contents = vmlinux.as_deref().unwrap_or_default();
        // What cannot be kept can be booted.
        if let Ok(entry) = cache.keep(Key::of(&bytes), contents) {
            return Ok(kept(entry));
        }
    }
    Ok(vmlinux.map(Vmlinux::Unpacked))
}

fn kept(Entry { file, path, size }: Entry) -> Option<Vmlinux> {
    (size > 0).then_some(Vmlinux::Kept { file, path })
}

/// The vmlinux in a bzImage, cut down; `None` where there is none that boots by
/// PVH.
///
/// # Errors
/// A damaged image.
pub fn unpack(image: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(payload) = bzimage::payload(image)? else { return Ok(None) };
    let Some(kernel) = decompress::decompress(payload)? else { return Ok(None) };
    elf::cut_down(&kernel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use archive::compress::{Compression, compress};

    /// A bzImage around a kernel that is entered at `entry`.
    fn image(entry: Option<u32>) -> Vec<u8> {
        let kernel = samples::vmlinux(entry);
        let size = u32::try_from(kernel.len()).unwrap().to_le_bytes();
        let packed = compress(kernel, Compression::Zstd).unwrap();
        bzimage::wrap(&[&packed[..], &size].concat())
    }

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    fn count(base: &tempfile::TempDir) -> usize {
        std::fs::read_dir(base.path().join("virtinitrd/vmlinux")).unwrap().count()
    }

    #[test]
    fn a_kernel_is_unpacked_once() {
        let base = tempfile::tempdir().unwrap();
        let cache = Cache::below(base.path()).unwrap();
        let image = image(Some(0x100_0010));
        let expected = unpack(&image).unwrap().unwrap();
        for name in ["made", "found"] {
            let found = find(&file(&image), Some(&cache)).unwrap();
            let Some(Vmlinux::Kept { file, path }) = found else { panic!("{name}: {found:?}") };
            let mut start = vec![0; expected.len()];
            file.read_exact_at(&mut start, 0).unwrap();
            assert!(start == expected && path.exists(), "{name}");
            assert_eq!(count(&base), 1, "{name}");
        }
        let found = find(&file(&image), None).unwrap();
        assert!(matches!(found, Some(Vmlinux::Unpacked(bytes)) if bytes == expected));
    }

    #[test]
    fn a_cache_that_fails_is_done_without() {
        let base = tempfile::tempdir().unwrap();
        let cache = Cache::below(base.path()).unwrap();
        std::fs::remove_dir_all(base.path().join("virtinitrd")).unwrap();
        let found = find(&file(&image(Some(0x100_0010))), Some(&cache)).unwrap();
        assert!(matches!(found, Some(Vmlinux::Unpacked(_))), "{found:?}");
    }

    #[test]
    fn that_a_kernel_has_no_entry_is_kept_too() {
        let base = tempfile::tempdir().unwrap();
        let cache = Cache::below(base.path()).unwrap();
        for name in ["looked at", "known"] {
            assert!(find(&file(&image(None)), Some(&cache)).unwrap().is_none(), "{name}");
            assert_eq!(count(&base), 1, "{name}");
        }
    }

    #[test]
    fn only_damaged_images_are_errors() {
        let base = tempfile::tempdir().unwrap();
        let cache = Cache::below(base.path()).unwrap();
        let whole = image(Some(0x100_0010));
        let unknown = bzimage::wrap(b"compressed by a tool of tomorrow");
        for (name, bytes) in
            [("ELF", &samples::vmlinux(None)[..]), ("empty", b""), ("other", &unknown)]
        {
            assert!(find(&file(bytes), Some(&cache)).unwrap().is_none(), "{name}");
        }
        let kept = count(&base);
        for (name, end) in [("cut", whole.len() - 100), ("cut behind the header", 0x260)] {
            let error = format!("{:#}", find(&file(&whole[..end]), Some(&cache)).unwrap_err());
            assert!(error.contains("is cut"), "{name}: {error}");
        }
        let mut damaged = whole;
        let middle = damaged.len() - 60;
        damaged[middle..middle + 8].fill(0xff);
        let error = format!("{:#}", find(&file(&damaged), Some(&cache)).unwrap_err());
        assert!(error.starts_with("zstd: "), "{error}");
        assert_eq!(count(&base), kept);
    }
}
