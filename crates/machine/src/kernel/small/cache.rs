//! Where built guest kernels are kept, and which one is current.
//!
//! `$XDG_CACHE_HOME/virtinitrd/kernel/KEY/` has `vmlinux` and `config`, and
//! `current` is a link to the KEY that was built, or asked for, last. Both names
//! appear by rename(2): a kernel is there whole, or not at all.
//! (XDG Base Directory Specification, 0.8.)

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::source::Fingerprint;
use crate::host;

/// The link to the kernel in use.
const CURRENT: &str = "current";
/// Directory in which a kernel is built.
const BUILD: &str = ".build";
/// The kernel in its directory.
const IMAGE: &str = "vmlinux";

/// The kernels of one user.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
}

/// What is kept of a build.
#[derive(Debug)]
pub struct Build {
    /// A stripped `vmlinux`.
    pub image: Vec<u8>,
    /// Its `.config`.
    pub config: String,
}

/// A kernel that was built.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its file.
    pub image: PathBuf,
    /// Bytes of the file.
    pub size: u64,
    /// Whether `--kernel-builtin` boots it.
    pub is_current: bool,
}

/// The name of what is built from a source of `version` whose fingerprint is
/// `source`, with `fragment`.
#[must_use]
pub fn key(version: &str, source: &Fingerprint, fragment: &str) -> String {
    /// Hexadecimal digits of the hash: 64 bits.
    const DIGITS: usize = 16;
    let mut hasher = blake3::Hasher::new();
    hasher.update(source.as_bytes()).update(fragment.as_bytes());
    let hash = hasher.finalize().to_hex();
    format!("{version}-{}", &hash[..DIGITS])
}

impl Cache {
    /// That of the user who runs this.
    pub fn of_user() -> Result<Self> {
        let home = std::env::home_dir();
        let dir = dir(std::env::var_os("XDG_CACHE_HOME"), home)
            .context("no cache directory: set HOME or XDG_CACHE_HOME")?;
        Ok(Self { dir })
    }

    /// Where a kernel is built: sources that were fetched, the log, the lock.
    #[must_use]
    pub fn build_dir(&self) -> PathBuf {
        self.dir.join(BUILD)
    }

    /// The kernels that were built, by name.
    ///
    /// # Errors
    /// A directory that cannot be read; one that is missing has no kernels.
    pub fn list(&self) -> Result<Vec<Kept>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(error).with_context(|| format!("list {}", self.dir.display()));
            }
        };
        let current = fs::read_link(self.dir.join(CURRENT)).ok();
        let mut kernels = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| format!("list {}", self.dir.display()))?;
            let image = entry.path().join(IMAGE);
            let is_kernel = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if let (true, Ok(found)) = (is_kernel, image.metadata()) {
                let is_current = current.as_ref().is_some_and(|key| *key == *entry.file_name());
                kernels.push(Kept { image, size: found.len(), is_current });
            }
        }
        kernels.sort_by(|a, b| a.image.cmp(&b.image));
        Ok(kernels)
    }

    /// The kernel that `--kernel-builtin` boots.
    pub fn current(&self) -> Result<PathBuf> {
        let image = self.dir.join(CURRENT).join(IMAGE);
        if !image.is_file() {
            bail!(
                "no kernel has been built: {} is missing; build it, as this user, with \
                 `chrootvm kernel build`, or set XDG_CACHE_HOME to where it is",
                image.display()
            );
        }
        Ok(image)
    }

    /// Makes the kernel `key` the current one, where it has been built.
    pub fn choose(&self, key: &str) -> Result<Option<PathBuf>> {
        let image = self.dir.join(key).join(IMAGE);
        if !image.is_file() {
            return Ok(None);
        }
        let stage = self.stage()?;
        let link = stage.path().join(CURRENT);
        symlink(key, &link).with_context(|| format!("link {}", link.display()))?;
        let current = self.dir.join(CURRENT);
        fs::rename(&link, &current).with_context(|| format!("replace {}", current.display()))?;
        Ok(Some(image))
    }

    /// Keeps `build` as `key`, which is current from then on.
    pub fn store(&self, key: &str, build: &Build) -> Result<PathBuf> {
        let stage = self.stage()?;
        let new = stage.path().join(key);
        fs::create_dir(&new).with_context(|| format!("make {}", new.display()))?;
        for (name, bytes) in [(IMAGE, &build.image[..]), ("config", build.config.as_bytes())] {
            let file = new.join(name);
            fs::write(&file, bytes).with_context(|| format!("write {}", file.display()))?;
        }
        let dir = self.dir.join(key);
        // Another build of the same may have been quicker: then it is as good.
        if let Err(error) = fs::rename(&new, &dir)
            && !dir.join(IMAGE).is_file()
        {
            return Err(error).with_context(|| format!("make {}", dir.display()));
        }
        self.choose(key)?.with_context(|| format!("{} has gone", dir.display()))
    }

    /// A directory on the cache's file system that goes away.
    fn stage(&self) -> Result<tempfile::TempDir> {
        let make = || {
            fs::create_dir_all(&self.dir)?;
            tempfile::Builder::new().prefix(".new-").tempdir_in(&self.dir)
        };
        make().with_context(|| format!("make a directory in {}", self.dir.display()))
    }
}

/// By the environment.
fn dir(xdg: Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    Some(host::cache_home(xdg, || home)?.join("virtinitrd/kernel"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_kernel_is_made_of_names_it() {
        let [source, changed] = [blake3::hash(b"5"), blake3::hash(b"6")];
        let one = key("6.1.1", &source, "CONFIG_A=y\n");
        assert_eq!(one, key("6.1.1", &source, "CONFIG_A=y\n"));
        assert!(one.starts_with("6.1.1-"), "{one}");
        for other in [key("6.1.2", &source, "CONFIG_A=y\n"), key("6.1.1", &changed, "CONFIG_A=y\n")]
        {
            assert_ne!(one, other);
        }
        assert_ne!(one, key("6.1.1", &source, "CONFIG_B=y\n"));
    }

    #[test]
    fn the_last_one_asked_for_is_current() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache { dir: home.path().join("a/b") };
        let error = cache.current().unwrap_err().to_string();
        assert!(
            error.contains("a/b/current") && error.contains("chrootvm kernel build"),
            "{error}"
        );
        assert_eq!(cache.choose("one").unwrap(), None);
        let build = |text: &str| Build { image: text.into(), config: "CONFIG_A=y\n".into() };
        let read = |cache: &Cache| fs::read_to_string(cache.current().unwrap()).unwrap();
        cache.store("one", &build("1")).unwrap();
        assert_eq!(read(&cache), "1");
        cache.store("two", &build("2")).unwrap();
        assert_eq!(read(&cache), "2");
        assert!(cache.choose("one").unwrap().unwrap().ends_with("one/vmlinux"));
        assert_eq!(read(&cache), "1");
        assert_eq!(names(&cache.dir), ["current", "one", "two"]);
        let listed = |cache: &Cache| -> Vec<_> {
            let kernels = cache.list().unwrap();
            kernels.into_iter().map(|one| (one.image, one.size, one.is_current)).collect()
        };
        let image = |key| cache.dir.join(key).join("vmlinux");
        assert_eq!(listed(&cache), [(image("one"), 1, true), (image("two"), 1, false)]);
        assert!(Cache { dir: cache.dir.join("none") }.list().unwrap().is_empty());
        assert_eq!(names(&cache.dir.join("one")), ["config", "vmlinux"]);
    }

    /// A kernel that is there is never taken apart, not even to replace it.
    #[test]
    fn a_kernel_that_is_there_stays() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache { dir: home.path().into() };
        let build = |text: &str| Build { image: text.into(), config: String::new() };
        cache.store("one", &build("1")).unwrap();
        cache.store("one", &build("2")).unwrap();
        assert_eq!(fs::read_to_string(cache.current().unwrap()).unwrap(), "1");
        assert_eq!(names(&cache.dir), ["current", "one"]);
    }

    #[test]
    fn the_environment_says_where() {
        let path = |text: &str| Some(PathBuf::from(text));
        let text = |text: &str| Some(OsString::from(text));
        for (xdg, home, expected) in [
            (text("/c"), path("/h"), path("/c/virtinitrd/kernel")),
            (None, path("/h"), path("/h/.cache/virtinitrd/kernel")),
            (text(""), path("/h"), path("/h/.cache/virtinitrd/kernel")),
            (text("c"), path("/h"), path("/h/.cache/virtinitrd/kernel")),
            (None, path(""), None),
            (None, None, None),
        ] {
            assert_eq!(dir(xdg, home), expected);
        }
    }
}
