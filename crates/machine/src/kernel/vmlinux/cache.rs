//! Cache of unpacked kernels.
//!
//! Interfaces: the XDG Base Directory Specification; rename(2). The directory
//! `virtinitrd/vmlinux` in the user's cache directory has one file for each kernel image.
//! The file's name is the hash of the image; the file has the unpacked kernel, then a
//! [`Trailer`].
//!
//! Invariants: a file appears whole or not at all, and never changes. A file is used only if
//! the user owns it and its directory, and nobody else can write to them. The cache keeps
//! the `MOST` files that were used last.
//!
//! Files are not synced: if a power cut loses the end of a file, its trailer is missing and
//! the kernel is unpacked again. An unusable cache is not an error either: the kernel is
//! unpacked for each run.

use std::fs::{File, Metadata};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use files::kept::{self, KeptFile, KeptFiles, Rules};

use super::image_hash::{ImageHash, Trailer};
use crate::host;

/// Number of files that the cache keeps; one has about 35 MB.
const MOST: usize = 4;
/// Version of the files' contents, part of their names: after a change all kernels are
/// unpacked again.
const FORMAT: u32 = 1;
/// Prefix of the names of unfinished files.
const UNFINISHED: &str = ".unfinished-";

/// The number of files is bound enough.
const RULES: Rules = Rules {
    directory: "vmlinux",
    unfinished: UNFINISHED,
    size: Metadata::len,
    most: MOST,
    most_bytes: u64::MAX,
};

/// A kernel after unpacking.
#[derive(Debug)]
pub enum Vmlinux {
    /// A file of the cache.
    Cached {
        /// The kernel, open for reading.
        file: File,
        /// Path of the file.
        path: PathBuf,
    },
    /// A kernel in memory, because there is no usable cache.
    InMemory(Vec<u8>),
}

/// Cache of one user's unpacked kernels.
#[derive(Clone, Debug)]
pub struct VmlinuxCache {
    files: KeptFiles,
}

/// File of the cache.
#[derive(Debug)]
pub struct CachedKernel {
    /// The file, open for reading.
    pub file: File,
    /// Path of the file, which may be removed later.
    pub path: PathBuf,
    /// Size in bytes of the unpacked kernel; 0 says that the image has no kernel that boots
    /// by PVH.
    pub size: u64,
}

impl VmlinuxCache {
    /// Opens the cache of the current user, and makes it if it is missing. `None` if it
    /// cannot be made, or another user might own it or write to it.
    #[must_use]
    pub fn of_user() -> Option<Self> {
        Self::below(&host::user_cache()?)
    }

    /// Opens the cache below the cache directory `base`, as [`VmlinuxCache::of_user`] does.
    #[must_use]
    pub fn below(base: &Path) -> Option<Self> {
        KeptFiles::below(base, &RULES).map(|files| Self { files })
    }

    /// Finds the kernel that was unpacked from the image with this hash; `None` if there is
    /// none, or its file is damaged.
    #[must_use]
    pub fn find(&self, image: ImageHash) -> Option<CachedKernel> {
        let path = self.path(image);
        let file = self.files.open(&name(image)).ok()??;
        let size = file.metadata().ok()?.len().checked_sub(Trailer::SIZE as u64)?;
        let mut trailer = Trailer([0; Trailer::SIZE]);
        file.read_exact_at(&mut trailer.0, size).ok()?;
        if trailer != Trailer::new(image, size) {
            return None;
        }
        kept::note_use(&file);
        Some(CachedKernel { file, path, size })
    }

    /// Stores `contents` as the kernel unpacked from the image with this hash, and removes
    /// the files that were not used for the longest time.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, image: ImageHash, contents: &[u8]) -> Result<CachedKernel> {
        self.files.keep(&name(image), |file| {
            file.write_all(contents)?;
            file.write_all(&Trailer::new(image, contents.len() as u64).0)
        })?;
        self.find(image).with_context(|| format!("find {} again", self.path(image).display()))
    }

    /// All files of the cache.
    #[must_use]
    pub fn list(&self) -> Vec<KeptFile> {
        self.files.list()
    }

    /// Removes the file `name`, which is in [`Self::list`]. A running machine keeps its kernel
    /// open.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.files.remove(name)
    }

    fn path(&self, image: ImageHash) -> PathBuf {
        self.files.dir().join(name(image))
    }
}

/// Name of a complete file.
fn name(image: ImageHash) -> String {
    format!("{FORMAT}-{image}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use files::kept::ABANDONED;
    use std::fs::{self, Permissions};
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::{Duration, SystemTime};

    fn cache() -> (tempfile::TempDir, VmlinuxCache) {
        let base = tempfile::tempdir().unwrap();
        let cache = VmlinuxCache::below(&base.path().join("made/cache")).unwrap();
        (base, cache)
    }

    fn read(entry: Option<CachedKernel>) -> Option<Vec<u8>> {
        let entry = entry?;
        let mut contents = Vec::new();
        (&entry.file).take(entry.size).read_to_end(&mut contents).unwrap();
        Some(contents)
    }

    #[test]
    fn a_kept_kernel_is_found() {
        let (base, cache) = cache();
        let (some, none) = (ImageHash::of(b"some"), ImageHash::of(b"none"));
        assert!(cache.find(some).is_none());
        assert_eq!(read(Some(cache.keep(some, b"vmlinux").unwrap())).unwrap(), b"vmlinux");
        cache.keep(none, b"").unwrap();
        let again = VmlinuxCache::below(&base.path().join("made/cache")).unwrap();
        assert_eq!(read(again.find(some)).unwrap(), b"vmlinux");
        assert_eq!(again.find(none).unwrap().size, 0);
        assert!(again.find(ImageHash::of(b"other")).is_none());
    }

    #[test]
    fn listed_files_can_be_removed() {
        let (base, cache) = cache();
        assert_eq!(cache.list(), []);
        let path = cache.keep(ImageHash::of(b"one"), b"vmlinux").unwrap().path;
        let unfinished = format!("{UNFINISHED}x");
        fs::write(cache.files.dir().join(&unfinished), "").unwrap();
        let mut listed = cache.list();
        listed.sort_by_key(|one| one.size);
        let name = path.file_name().unwrap().to_str().unwrap();
        let found: Vec<_> = listed.iter().map(|one| (&*one.name, one.is_complete)).collect();
        assert_eq!(found, [(&*unfinished, false), (name, true)]);
        fs::write(base.path().join("made/cache/x"), "").unwrap();
        for name in [name, "none", "../../x"] {
            cache.remove(name).unwrap();
        }
        assert!(base.path().join("made/cache/x").exists());
        assert_eq!(cache.list().len(), 1);
    }

    #[test]
    fn a_damaged_file_is_replaced() {
        let (_base, cache) = cache();
        let key = ImageHash::of(b"image");
        let whole = b"0123456789";
        let other = cache.keep(ImageHash::of(b"other"), whole).unwrap().path;
        let path = cache.keep(key, whole).unwrap().path;
        let damages: [(&str, &dyn Fn()); 5] = [
            ("cut", &|| fs::File::options().write(true).open(&path).unwrap().set_len(20).unwrap()),
            ("empty", &|| fs::write(&path, "").unwrap()),
            ("longer", &|| fs::write(&path, [0; 100]).unwrap()),
            ("another's", &|| assert!(fs::copy(&other, &path).is_ok())),
            ("gone", &|| fs::remove_file(&path).unwrap()),
        ];
        for (name, damage) in damages {
            damage();
            assert!(cache.find(key).is_none(), "{name}");
            assert_eq!(read(cache.keep(key, whole).ok()).unwrap(), whole, "{name}");
        }
    }

    #[test]
    fn files_that_others_can_write_are_not_used() {
        let (base, cache) = cache();
        let key = ImageHash::of(b"image");
        let path = cache.keep(key, b"vmlinux").unwrap().path;
        let change = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        change(&path, 0o620);
        assert!(cache.find(key).is_none());
        change(&path, 0o600);
        assert!(cache.find(key).is_some());
        let moved = base.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        symlink(&moved, &path).unwrap();
        assert!(cache.find(key).is_none());

        let above = base.path().join("made/cache");
        assert!(VmlinuxCache::below(&above).is_some());
        change(cache.files.dir(), 0o770);
        assert!(VmlinuxCache::below(&above).is_none());
    }

    #[test]
    fn without_a_directory_there_is_no_cache() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("file");
        fs::write(&file, "").unwrap();
        for place in [file.as_path(), &file.join("below"), Path::new("/proc/self/fdinfo")] {
            assert!(VmlinuxCache::below(place).is_none(), "{}", place.display());
        }
    }

    #[test]
    fn a_cache_that_cannot_be_written_to_says_so() {
        let (_base, cache) = cache();
        fs::remove_dir(cache.files.dir()).unwrap();
        let error = format!("{:#}", cache.keep(ImageHash::of(b"image"), b"vmlinux").unwrap_err());
        assert!(error.contains("keep ") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn the_files_used_last_stay() {
        let (_base, cache) = cache();
        let keys: Vec<_> = (0..=u8::try_from(MOST).unwrap()).map(|n| ImageHash::of(&[n])).collect();
        let is_kept = |key: &ImageHash| fs::exists(cache.path(*key)).unwrap();
        let old = |key: ImageHash, seconds| {
            let then = SystemTime::now() - Duration::from_secs(seconds);
            File::open(cache.path(key)).unwrap().set_modified(then).unwrap();
        };
        let (last, first) = keys.split_last().unwrap();
        for (age, key) in (100..).zip(first) {
            cache.keep(*key, b"vmlinux").unwrap();
            old(*key, age);
        }
        // `find` uses the oldest file, so the second oldest one has to go.
        assert!(cache.find(first[MOST - 1]).is_some());
        let abandoned = cache.files.dir().join(format!("{UNFINISHED}1"));
        let fresh = cache.files.dir().join(format!("{UNFINISHED}2"));
        for file in [&abandoned, &fresh] {
            fs::write(file, "").unwrap();
        }
        let long_ago = SystemTime::now() - ABANDONED - Duration::from_secs(60);
        File::open(&abandoned).unwrap().set_modified(long_ago).unwrap();
        cache.keep(*last, b"vmlinux").unwrap();
        let kept: Vec<_> = keys.iter().map(is_kept).collect();
        assert_eq!(kept, [true, true, false, true, true]);
        assert!(!abandoned.exists() && fresh.exists());
    }

    #[test]
    fn concurrent_writers_do_not_disturb_each_other() {
        let (_base, cache) = cache();
        let contents = vec![b'x'; 1 << 20];
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for round in 0..8_u8 {
                        let key = ImageHash::of(&[round % 2]);
                        let entry = cache.keep(key, &contents).ok();
                        assert!(read(entry).unwrap() == contents);
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(cache.files.dir()).unwrap().count(), 2);
    }
}
