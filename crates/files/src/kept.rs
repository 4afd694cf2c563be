//! Files that a cache keeps in one directory, until others were used later.
//!
//! Interfaces: the XDG Base Directory Specification; open(2), stat(2). The directory is one of
//! [`private_dir`]. The time of a file's last change is the time of its last use: nobody
//! changes the contents of a file that has its name.
//!
//! Several processes may use a directory at the same time. A file that is removed stays usable
//! for a process that has opened it.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use nix::fcntl::OFlag;

use crate::output;
use crate::private_dir::{self, Writers};

/// Age at which an unfinished file is removed: its writer must have been killed.
pub const ABANDONED: Duration = Duration::from_secs(3600);

/// Unit of `st_blocks` (stat(3type)).
const BLOCK: u64 = 512;

/// Properties of a directory of kept files.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Its name below `virtinitrd` in the cache directory.
    pub directory: &'static str,
    /// Prefix of the names of unfinished files.
    pub unfinished: &'static str,
    /// Size of a file: its length, or [`size_on_disk`].
    pub size: fn(&Metadata) -> u64,
    /// Number of complete files that are kept.
    pub most: usize,
    /// Bytes that complete files have together.
    pub most_bytes: u64,
}

/// A directory of kept files.
#[derive(Clone, Debug)]
pub struct KeptFiles {
    dir: PathBuf,
    rules: &'static Rules,
}

/// A file of the directory, for a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFile {
    /// Its name.
    pub name: String,
    /// Its size in bytes, as the rules measure it.
    pub size: u64,
    /// When it was last used.
    pub used: SystemTime,
    /// Whether it is complete; otherwise it is being written, or its writer was killed.
    pub is_complete: bool,
}

/// Bytes that a file takes on the disk.
#[must_use]
pub fn size_on_disk(metadata: &Metadata) -> u64 {
    metadata.blocks() * BLOCK
}

/// Notes that a file is used now.
pub fn note_use(file: &File) {
    let _ = file.set_modified(SystemTime::now()); // fails on a read-only disk, where nothing is removed
}

impl KeptFiles {
    /// Opens the directory below the cache directory `home`, and makes it if it is missing.
    /// `None` if it cannot be made, or another user might own it or write to it.
    #[must_use]
    pub fn below(home: &Path, rules: &'static Rules) -> Option<Self> {
        private_dir::below(home, rules.directory).map(|dir| Self { dir, rules })
    }

    /// Path of the directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Opens the file `name`; `None` if it is missing.
    ///
    /// # Errors
    /// It is not a file, it cannot be read, or other users can write to it.
    pub fn open(&self, name: &str) -> Result<Option<File>> {
        let path = self.dir.join(name);
        let flags = OFlag::O_NOFOLLOW.bits();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let metadata = file.metadata()?;
        ensure!(metadata.is_file(), "it is not a file");
        let is_own = private_dir::writers_of(&metadata) == Writers::Own;
        ensure!(is_own, "other users can write to it");
        Ok(Some(file))
    }

    /// All files.
    #[must_use]
    pub fn list(&self) -> Vec<KeptFile> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let listed = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let metadata = entry.metadata().ok().filter(Metadata::is_file)?;
            let is_complete = !name.starts_with(self.rules.unfinished);
            let (size, used) = ((self.rules.size)(&metadata), metadata.modified().ok()?);
            Some(KeptFile { name, size, used, is_complete })
        });
        listed.collect()
    }

    /// Keeps a file with this name, whose contents `write` writes, and removes what is too much.
    ///
    /// # Errors
    /// The file cannot be written. Then there is none, or the one that was there.
    pub fn keep(&self, name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
        let path = self.dir.join(name);
        output::without_signals(|| {
            let mut builder = tempfile::Builder::new();
            let mut unfinished = builder.prefix(self.rules.unfinished).tempfile_in(&self.dir)?;
            write(unfinished.as_file_mut())?;
            unfinished.persist(&path)?;
            Ok(())
        })
        .with_context(|| format!("keep {}", path.display()))?;
        self.clean(name);
        Ok(())
    }

    /// Removes the file `name` if it is in [`Self::list`].
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        if !self.list().iter().any(|listed| listed.name == name) {
            return Ok(());
        }
        let path = self.dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Removes what is too much, but not the file `new`. Other processes may do the same at the
    /// same time.
    pub fn clean(&self, new: &str) {
        for name in self.rules.surplus(self.list(), new, SystemTime::now()) {
            let _ = fs::remove_file(self.dir.join(name)); // it is gone already, or the next run removes it
        }
    }
}

impl Rules {
    /// Names of the files to remove: those that were not used for the longest time, if there
    /// are too many besides `new`, and unfinished files whose writers were killed.
    fn surplus(&self, mut all: Vec<KeptFile>, new: &str, now: SystemTime) -> Vec<String> {
        // The new one first, then the others, the one used last first.
        all.sort_by(|a, b| (b.name == new, b.used, &b.name).cmp(&(a.name == new, a.used, &a.name)));
        let (mut count, mut bytes) = (0, 0_u64);
        let mut is_surplus = |file: &KeptFile| {
            if !file.is_complete {
                return now.duration_since(file.used).is_ok_and(|age| age > ABANDONED);
            }
            count += 1;
            bytes = bytes.saturating_add(file.size);
            file.name != new && (count > self.most || bytes > self.most_bytes)
        };
        all.into_iter().filter(|file| is_surplus(file)).map(|file| file.name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const GIB: u64 = 1 << 30;
    const RULES: Rules = Rules {
        directory: "x",
        unfinished: ".virtinitrd-",
        size: Metadata::len,
        most: 8,
        most_bytes: 2 * GIB,
    };

    #[test]
    fn what_is_too_much_is_removed_but_never_the_new_file() {
        let now = SystemTime::now();
        let file = |name: &str, size, age| KeptFile {
            name: name.into(),
            size,
            used: now - Duration::from_secs(age),
            is_complete: !name.starts_with(RULES.unfinished),
        };
        let surplus = |all: &[(&str, u64, u64)]| {
            let all = all.iter().map(|(name, size, age)| file(name, *size, *age)).collect();
            RULES.surplus(all, "new", now)
        };
        let many: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| (name, 1, 9)).into();
        assert_eq!(surplus(&many), [""; 0]);
        assert_eq!(surplus(&[&many[..], &[("new", 1, 99)]].concat()), ["a"]);
        assert_eq!(surplus(&[("a", GIB, 3), ("b", GIB / 2, 1), ("new", GIB / 2, 0)]), [""; 0]);
        assert_eq!(surplus(&[("a", GIB, 3), ("b", GIB, 1), ("new", 1, 0)]), ["a"]);
        assert_eq!(surplus(&[("a", 1, 3), ("new", 3 * GIB, 0)]), ["a"]);
        let unfinished =
            [(".virtinitrd-1", 3 * GIB, 60), (".virtinitrd-2", 0, 3601), ("new", 1, 0)];
        assert_eq!(surplus(&unfinished), [".virtinitrd-2"]);
    }

    #[test]
    fn only_a_file_of_this_user_alone_is_opened() {
        let home = tempfile::tempdir().unwrap();
        let kept = KeptFiles::below(home.path(), &RULES).unwrap();
        let path = |name| kept.dir().join(name);
        for (name, mode) in [("own", 0o600), ("shared", 0o620)] {
            fs::write(path(name), "x").unwrap();
            fs::set_permissions(path(name), Permissions::from_mode(mode)).unwrap();
        }
        symlink("own", path("link")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        assert!(kept.open("own").unwrap().is_some());
        assert!(kept.open("missing").unwrap().is_none());
        for name in ["shared", "link", "directory"] {
            assert!(kept.open(name).is_err(), "{name}");
        }
    }
}
