//! What was made of kernels, kept for the next run.
//!
//! Interface: the XDG base directory specification; rename(2). The directory
//! `virtinitrd/vmlinux` of the user's cache has a file for each kernel, named by
//! what the kernel's image contains, with what was made of it and a
//! [`Trailer`] behind that. A file appears whole or not at all, is never
//! changed, and is believed only where directory and file are the user's own and
//! nobody else can write to them. Four are kept, those used last.
//!
//! Nothing is forced out to the disk: a file whose end got lost in a power cut
//! lacks its trailer, and is made again. Nothing here has to work, either:
//! without a cache a kernel is just unpacked each time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use files::output;
use nix::libc::O_NOFOLLOW;
use nix::unistd::geteuid;

use super::key::{Key, Trailer};
use crate::host;

/// Files kept; each has some 35 MB.
const MOST: usize = 4;
/// What is made of kernels, and how it is kept; another number makes all anew.
const FORMAT: u32 = 1;
/// How names of unfinished files start.
const UNFINISHED: &str = ".unfinished-";
/// After this long whoever made an unfinished file was killed.
const ABANDONED: Duration = Duration::from_secs(3600);
/// Bits of a mode that let others write.
const OTHERS_WRITE: u32 = 0o022;

/// The cache of one user.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
}

/// A file of the cache.
#[derive(Debug)]
pub struct Entry {
    /// Opened for reading.
    pub file: File,
    /// Its name, for as long as it is kept.
    pub path: PathBuf,
    /// Bytes that were kept; 0 where the kernel is none that boots by PVH.
    pub size: u64,
}

impl Cache {
    /// That of whoever runs this, made where it is missing; `None` where it
    /// cannot be, or might be somebody else's.
    #[must_use]
    pub fn of_user() -> Option<Self> {
        // Root with the HOME of a user (sudo -E) is to leave nothing there.
        let home = || {
            let home = std::env::var_os("HOME").map(PathBuf::from);
            home.filter(|home| access(home) != Access::Foreign)
        };
        Self::below(&host::cache_home(std::env::var_os("XDG_CACHE_HOME"), home)?)
    }

    /// The cache in the directory `base`.
    #[must_use]
    pub fn below(base: &Path) -> Option<Self> {
        let virtinitrd = base.join("virtinitrd");
        let dir = virtinitrd.join("vmlinux");
        for dir in [base, &virtinitrd, &dir] {
            // Where it is there already, or cannot be made, that is seen below.
            let _ = DirBuilder::new().mode(0o700).recursive(dir == base).create(dir);
        }
        // The group of `base` can only take the whole cache away.
        let is_safe = access(base) != Access::Foreign
            && [&virtinitrd, &dir].into_iter().all(|dir| access(dir) == Access::Own);
        is_safe.then_some(Self { dir })
    }

    /// What is kept of the image `key`; `None` also where it is damaged.
    #[must_use]
    pub fn find(&self, key: Key) -> Option<Entry> {
        let path = self.path(key);
        let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(&path).ok()?;
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || access_to(&metadata) != Access::Own {
            return None;
        }
        let size = metadata.len().checked_sub(Trailer::SIZE as u64)?;
        let mut trailer = Trailer([0; Trailer::SIZE]);
        file.read_exact_at(&mut trailer.0, size).ok()?;
        if trailer != Trailer::new(key, size) {
            return None;
        }
        let _ = file.set_modified(SystemTime::now()); // of a cache on a read-only disk none is old
        Some(Entry { file, path, size })
    }

    /// Keeps `contents` as what was made of the image `key`, and lets go of what
    /// was not used for long.
    pub fn keep(&self, key: Key, contents: &[u8]) -> Result<Entry> {
        let path = self.path(key);
        output::without_signals(|| {
            let mut unfinished =
                tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.dir)?;
            unfinished.write_all(contents)?;
            unfinished.write_all(&Trailer::new(key, contents.len() as u64).0)?;
            unfinished.persist(&path)?;
            Ok(())
        })
        .with_context(|| format!("keep {}", path.display()))?;
        self.clean(SystemTime::now());
        self.find(key).with_context(|| format!("find {} again", path.display()))
    }

    fn path(&self, key: Key) -> PathBuf {
        self.dir.join(format!("{FORMAT}-{key}"))
    }

    /// Removes what was not used for long, and what nobody finishes. Others may
    /// be at it, too; a machine that runs has its kernel open.
    fn clean(&self, now: SystemTime) {
        let mut files: Vec<_> = fs::read_dir(&self.dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort_by(|a, b| b.cmp(a));
        let (unfinished, kept): (Vec<_>, Vec<_>) = files.into_iter().partition(|(_, path)| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED))
        });
        let is_abandoned =
            |used: &SystemTime| now.duration_since(*used).is_ok_and(|age| age > ABANDONED);
        let abandoned = unfinished.into_iter().filter(|(used, _)| is_abandoned(used));
        for (_, path) in kept.into_iter().skip(MOST).chain(abandoned) {
            let _ = fs::remove_file(path); // gone already, or to be tried the next time
        }
    }
}

/// Who can write to something.
#[derive(Debug, PartialEq, Eq)]
enum Access {
    /// Only we can.
    Own,
    /// It is ours, but others can, too.
    Shared,
    /// It is somebody else's, or missing.
    Foreign,
}

fn access(path: &Path) -> Access {
    path.metadata().map_or(Access::Foreign, |metadata| access_to(&metadata))
}

fn access_to(metadata: &fs::Metadata) -> Access {
    match (metadata.uid() == geteuid().as_raw(), metadata.mode() & OTHERS_WRITE) {
        (false, _) => Access::Foreign,
        (true, 0) => Access::Own,
        (true, _) => Access::Shared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn cache() -> (tempfile::TempDir, Cache) {
        let base = tempfile::tempdir().unwrap();
        let cache = Cache::below(&base.path().join("made/cache")).unwrap();
        (base, cache)
    }

    fn read(entry: Option<Entry>) -> Option<Vec<u8>> {
        let entry = entry?;
        let mut contents = Vec::new();
        (&entry.file).take(entry.size).read_to_end(&mut contents).unwrap();
        Some(contents)
    }

    #[test]
    fn what_is_kept_is_found() {
        let (base, cache) = cache();
        let (some, none) = (Key::of(b"some"), Key::of(b"none"));
        assert!(cache.find(some).is_none());
        assert_eq!(read(Some(cache.keep(some, b"vmlinux").unwrap())).unwrap(), b"vmlinux");
        cache.keep(none, b"").unwrap();
        let again = Cache::below(&base.path().join("made/cache")).unwrap();
        assert_eq!(read(again.find(some)).unwrap(), b"vmlinux");
        assert_eq!(again.find(none).unwrap().size, 0);
        assert!(again.find(Key::of(b"other")).is_none());
    }

    #[test]
    fn a_damaged_file_is_not_found_and_made_again() {
        let (_base, cache) = cache();
        let key = Key::of(b"image");
        let whole = b"0123456789";
        let other = cache.keep(Key::of(b"other"), whole).unwrap().path;
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
    fn what_others_can_write_to_is_not_believed() {
        let (base, cache) = cache();
        let key = Key::of(b"image");
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
        assert!(Cache::below(&above).is_some());
        change(&cache.dir, 0o770);
        assert!(Cache::below(&above).is_none());
    }

    #[test]
    fn without_a_directory_there_is_no_cache() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("file");
        fs::write(&file, "").unwrap();
        for place in [file.as_path(), &file.join("below"), Path::new("/proc/self/fdinfo")] {
            assert!(Cache::below(place).is_none(), "{}", place.display());
        }
    }

    #[test]
    fn a_cache_that_cannot_be_written_to_says_so() {
        let (_base, cache) = cache();
        fs::remove_dir(&cache.dir).unwrap();
        let error = format!("{:#}", cache.keep(Key::of(b"image"), b"vmlinux").unwrap_err());
        assert!(error.contains("keep ") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn those_used_last_stay() {
        let (_base, cache) = cache();
        let keys: Vec<_> = (0..=u8::try_from(MOST).unwrap()).map(|n| Key::of(&[n])).collect();
        let is_kept = |key: &Key| fs::exists(cache.path(*key)).unwrap();
        let old = |key: Key, seconds| {
            let then = SystemTime::now() - Duration::from_secs(seconds);
            File::open(cache.path(key)).unwrap().set_modified(then).unwrap();
        };
        let (last, first) = keys.split_last().unwrap();
        for (age, key) in (100..).zip(first) {
            cache.keep(*key, b"vmlinux").unwrap();
            old(*key, age);
        }
        // The oldest is used; that leaves the second oldest as the one to go.
        assert!(cache.find(first[MOST - 1]).is_some());
        let abandoned = cache.dir.join(format!("{UNFINISHED}1"));
        let fresh = cache.dir.join(format!("{UNFINISHED}2"));
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
    fn many_writers_do_not_disturb_each_other() {
        let (_base, cache) = cache();
        let contents = vec![b'x'; 1 << 20];
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for round in 0..8_u8 {
                        let key = Key::of(&[round % 2]);
                        let entry = cache.keep(key, &contents).ok();
                        assert!(read(entry).unwrap() == contents);
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), 2);
    }
}
