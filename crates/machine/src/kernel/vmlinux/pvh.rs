//! The vmlinux in a bzImage, for a boot by PVH.
//!
//! A bzImage unpacks itself in the guest; without KVM that is a tenth of the boot time. QEMU
//! enters an unpacked kernel directly, if the kernel has the note of Xen's PVH
//! (`CONFIG_PVH`, which distributions set). The unpacked kernel is kept in a
//! [`VmlinuxCache`].
//!
//! A kernel that is entered this way runs at the address for which it was linked, without
//! KASLR: the unpacking code, which is skipped, would move it to a random address.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use files::named::Named;

use super::cache::{CachedKernel, Vmlinux, VmlinuxCache};
use super::image_hash::ImageHash;
use super::{bzimage, decompress, elf};

/// Value of `--pvh`: whether to boot by PVH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pvh {
    /// If the kernel has a PVH entry.
    #[default]
    Auto,
    /// Never; QEMU loads the image unchanged.
    Never,
}

#[rustfmt::skip]
impl Named for Pvh {
    const NAMES: &'static [(&'static str, Self, &'static str)] = &[
        ("auto", Self::Auto, "if the kernel has such an entry"),
        ("never", Self::Never, "boot the image unchanged"),
    ];
}

/// Size in bytes of the largest bzImage that is read.
const IMAGE_MOST: u64 = 256 << 20;

/// Finds the vmlinux of the kernel `image`: in the cache, or by unpacking the image. `None`
/// if the image has no vmlinux that boots by PVH.
///
/// The image is unpacked even without a cache: the guest would unpack it with slower code,
/// and under TCG ten times as slowly.
///
/// # Errors
/// The image is damaged.
pub fn find(image: &File, cache: Option<&VmlinuxCache>) -> Result<Option<Vmlinux>> {
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
        let hash = ImageHash::of_file(image).context("read it")?;
        if let Some(entry) = cache.find(hash) {
            return Ok(cached(entry));
        }
    }
    let mut bytes = vec![0; usize::try_from(size)?];
    image.read_exact_at(&mut bytes, 0).context("read it")?;
    let vmlinux = unpack(&bytes)?;
    if let Some(cache) = cache {
        let contents = vmlinux.as_deref().unwrap_or_default();
        // A kernel that cannot be kept can still be booted.
        if let Ok(entry) = cache.keep(ImageHash::of(&bytes), contents) {
            return Ok(cached(entry));
        }
    }
    Ok(vmlinux.map(Vmlinux::InMemory))
}

/// The vmlinux in a file of the cache; an empty file says that the image has none.
fn cached(CachedKernel { file, path, size }: CachedKernel) -> Option<Vmlinux> {
    (size > 0).then_some(Vmlinux::Cached { file, path })
}

/// Unpacks the vmlinux in a bzImage and cuts it down; `None` if there is no vmlinux that
/// boots by PVH.
///
/// # Errors
/// The image is damaged.
pub fn unpack(image: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(payload) = bzimage::payload(image)? else { return Ok(None) };
    let Some(kernel) = decompress::decompress(payload)? else { return Ok(None) };
    elf::cut_down(&kernel)
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;
    use archive::compress::{Compression, compress};

    /// A bzImage around a kernel with the PVH entry `entry`.
    fn image(entry: Option<u32>) -> Vec<u8> {
        let kernel = samples::vmlinux(entry);
        let size = u32::try_from(kernel.len()).unwrap().to_le_bytes();
        let packed = compress(kernel, Compression::Zstd).unwrap();
        samples::bzimage(&[&packed[..], &size].concat())
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
        let cache = VmlinuxCache::below(base.path()).unwrap();
        let image = image(Some(0x100_0010));
        let expected = unpack(&image).unwrap().unwrap();
        for name in ["made", "found"] {
            let found = find(&file(&image), Some(&cache)).unwrap();
            let Some(Vmlinux::Cached { file, path }) = found else { panic!("{name}: {found:?}") };
            let mut start = vec![0; expected.len()];
            file.read_exact_at(&mut start, 0).unwrap();
            assert!(start == expected && path.exists(), "{name}");
            assert_eq!(count(&base), 1, "{name}");
        }
        let found = find(&file(&image), None).unwrap();
        assert!(matches!(found, Some(Vmlinux::InMemory(bytes)) if bytes == expected));
    }

    #[test]
    fn a_failing_cache_is_no_error() {
        let base = tempfile::tempdir().unwrap();
        let cache = VmlinuxCache::below(base.path()).unwrap();
        std::fs::remove_dir_all(base.path().join("virtinitrd")).unwrap();
        let found = find(&file(&image(Some(0x100_0010))), Some(&cache)).unwrap();
        assert!(matches!(found, Some(Vmlinux::InMemory(_))), "{found:?}");
    }

    #[test]
    fn the_cache_remembers_a_kernel_without_entry() {
        let base = tempfile::tempdir().unwrap();
        let cache = VmlinuxCache::below(base.path()).unwrap();
        for name in ["looked at", "known"] {
            assert!(find(&file(&image(None)), Some(&cache)).unwrap().is_none(), "{name}");
            assert_eq!(count(&base), 1, "{name}");
        }
    }

    #[test]
    fn only_damaged_images_are_errors() {
        let base = tempfile::tempdir().unwrap();
        let cache = VmlinuxCache::below(base.path()).unwrap();
        let whole = image(Some(0x100_0010));
        let unknown = samples::bzimage(b"compressed by a tool of tomorrow");
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
