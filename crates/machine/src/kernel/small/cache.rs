//! The small kernels of one user, which of them is current, and the one that a package has installed.
//!
//! Layout of `$XDG_CACHE_HOME/virtinitrd/kernel` (XDG Base Directory Specification, 0.8):
//!
//! | Path | Contents |
//! |---|---|
//! | `KEY/vmlinux`, `KEY/config` | one kernel and its configuration |
//! | `current` | link to the KEY of the kernel that `--kernel-builtin` boots |
//! | `.build` | files of builds: sources, log, lock |
//!
//! Invariant: `KEY` and `current` appear by rename(2), so that a kernel is whole or does not
//! exist.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Result};

use super::source::Fingerprint;
use crate::host;

/// Name of the link to the current kernel.
const CURRENT: &str = "current";
/// Name of the directory for builds.
const BUILD: &str = ".build";
/// Name of a kernel in its directory.
const IMAGE: &str = "vmlinux";

/// Paths of an installed kernel, relative to the directory of this program: below the same prefix,
/// and in `/usr`.
const INSTALLED: [&str; 2] =
    ["../lib/virtinitrd/kernel/vmlinux", "/usr/lib/virtinitrd/kernel/vmlinux"];

/// The small kernels of one user.
#[derive(Debug)]
pub struct SmallKernels {
    dir: PathBuf,
    /// Possible paths of an installed kernel; the first that exists counts.
    places: Vec<PathBuf>,
}

/// Result of a build, ready to be kept.
#[derive(Debug)]
pub struct NewKernel {
    /// Contents of the stripped `vmlinux`.
    pub image: Vec<u8>,
    /// Text of its `.config`.
    pub config: String,
}

/// A small kernel that was built.
#[derive(Debug, PartialEq, Eq)]
pub struct SmallKernel {
    /// Its key.
    pub key: OsString,
    /// When it was built.
    pub used: SystemTime,
    /// Path of its `vmlinux`.
    pub image: PathBuf,
    /// Size of the file in bytes.
    pub size: u64,
    /// Whether `--kernel-builtin` boots it.
    pub is_current: bool,
}

/// Key of the kernel built from a source with this version and fingerprint, and with the
/// configuration `fragment`.
#[must_use]
pub fn key(version: &str, source: &Fingerprint, fragment: &str) -> String {
    /// Hexadecimal digits of the hash in a key; 16 digits are 64 bits.
    const DIGITS: usize = 16;
    let mut hasher = blake3::Hasher::new();
    hasher.update(source.as_bytes()).update(fragment.as_bytes());
    let hash = hasher.finalize().to_hex();
    format!("{version}-{}", &hash[..DIGITS])
}

impl SmallKernels {
    /// The small kernels of the current user.
    ///
    /// # Errors
    /// The environment does not tell a cache directory.
    pub fn of_user() -> Result<Self> {
        let home = std::env::home_dir();
        let dir = dir(std::env::var_os("XDG_CACHE_HOME"), home)
            .context("no cache directory: set HOME or XDG_CACHE_HOME")?;
        let program = std::env::current_exe().context("find this program")?;
        let places = INSTALLED.map(|place| program.with_file_name(place));
        Ok(Self { dir, places: places.to_vec() })
    }

    /// The directory for builds: fetched sources, the log, the lock.
    #[must_use]
    pub fn build_dir(&self) -> PathBuf {
        self.dir.join(BUILD)
    }

    /// Lists the kernels that were built, sorted by key.
    ///
    /// # Errors
    /// The directory cannot be read. A missing directory is not an error.
    pub fn list(&self) -> Result<Vec<SmallKernel>> {
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
                let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let (key, size) = (entry.file_name(), found.len());
                kernels.push(SmallKernel { key, used, image, size, is_current });
            }
        }
        kernels.sort_by(|a, b| a.image.cmp(&b.image));
        Ok(kernels)
    }

    /// Removes the kernel `key`, which is in [`Self::list`], unless it is current.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn remove(&self, key: &str) -> Result<()> {
        let is_it = |kernel: &SmallKernel| kernel.key == key && !kernel.is_current;
        if !self.list()?.iter().any(is_it) {
            return Ok(());
        }
        let dir = self.dir.join(key);
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))
    }

    /// Path of the kernel that is installed for all users.
    #[must_use]
    pub fn installed(&self) -> Option<PathBuf> {
        self.places.iter().find_map(|place| place.canonicalize().ok())
    }

    /// Path of the kernel that `--kernel-builtin` boots: the current one, or else the installed one.
    ///
    /// # Errors
    /// No kernel has been built, and none is installed.
    pub fn current(&self) -> Result<PathBuf> {
        let image = self.dir.join(CURRENT).join(IMAGE);
        let found = if image.is_file() { Some(image.clone()) } else { self.installed() };
        found.with_context(|| {
            format!(
                "no kernel has been built: {} is missing; build it, as this user, with \
                 `chrootvm kernel build`, or install the package virtinitrd-kernel, or set \
                 XDG_CACHE_HOME to the directory that has it",
                image.display()
            )
        })
    }

    /// Makes the kernel `key` current and returns its path; `None` if it has not been built.
    ///
    /// # Errors
    /// The link cannot be made.
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

    /// Keeps `kernel` under `key`, and makes it current. If there is already a kernel with
    /// this key, that one stays.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn store(&self, key: &str, kernel: &NewKernel) -> Result<PathBuf> {
        let stage = self.stage()?;
        let new = stage.path().join(key);
        fs::create_dir(&new).with_context(|| format!("make {}", new.display()))?;
        for (name, bytes) in [(IMAGE, &kernel.image[..]), ("config", kernel.config.as_bytes())] {
            let file = new.join(name);
            fs::write(&file, bytes).with_context(|| format!("write {}", file.display()))?;
        }
        let dir = self.dir.join(key);
        // A directory that exists has the same kernel from another build.
        if let Err(error) = fs::rename(&new, &dir)
            && !dir.join(IMAGE).is_file()
        {
            return Err(error).with_context(|| format!("make {}", dir.display()));
        }
        self.choose(key)?.with_context(|| format!("{} was removed meanwhile", dir.display()))
    }

    /// Makes a temporary directory beside the kernels.
    fn stage(&self) -> Result<tempfile::TempDir> {
        let make = || {
            fs::create_dir_all(&self.dir)?;
            tempfile::Builder::new().prefix(".new-").tempdir_in(&self.dir)
        };
        make().with_context(|| format!("make a directory in {}", self.dir.display()))
    }
}

/// The directory of the small kernels, from `$XDG_CACHE_HOME` and the home directory.
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
    fn source_and_configuration_make_the_key() {
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
    fn the_kernel_chosen_last_is_current() {
        let home = tempfile::tempdir().unwrap();
        let installed = home.path().join("vmlinux");
        let places = vec![home.path().join("none"), installed.clone()];
        let cache = SmallKernels { dir: home.path().join("a/b"), places };
        let error = cache.current().unwrap_err().to_string();
        assert!(
            error.contains("a/b/current") && error.contains("chrootvm kernel build"),
            "{error}"
        );
        assert_eq!(cache.choose("one").unwrap(), None);
        fs::write(&installed, "installed").unwrap();
        assert_eq!(cache.current().unwrap(), installed.canonicalize().unwrap());
        let build = |text: &str| NewKernel { image: text.into(), config: "CONFIG_A=y\n".into() };
        let read = |cache: &SmallKernels| fs::read_to_string(cache.current().unwrap()).unwrap();
        cache.store("one", &build("1")).unwrap();
        assert_eq!(read(&cache), "1");
        cache.store("two", &build("2")).unwrap();
        assert_eq!(read(&cache), "2");
        assert!(cache.choose("one").unwrap().unwrap().ends_with("one/vmlinux"));
        assert_eq!(read(&cache), "1");
        assert_eq!(names(&cache.dir), ["current", "one", "two"]);
        let listed = |cache: &SmallKernels| -> Vec<_> {
            let kernels = cache.list().unwrap();
            kernels.into_iter().map(|one| (one.image, one.size, one.is_current)).collect()
        };
        let image = |key| cache.dir.join(key).join("vmlinux");
        assert_eq!(listed(&cache), [(image("one"), 1, true), (image("two"), 1, false)]);
        let none = SmallKernels { dir: cache.dir.join("none"), places: Vec::new() };
        assert!(none.list().unwrap().is_empty());
        assert_eq!(names(&cache.dir.join("one")), ["config", "vmlinux"]);
        for key in ["one", "two", "none", "..", "current"] {
            cache.remove(key).unwrap();
        }
        assert_eq!(names(&cache.dir), ["current", "one"]);
    }

    #[test]
    fn an_existing_kernel_is_never_replaced() {
        let home = tempfile::tempdir().unwrap();
        let cache = SmallKernels { dir: home.path().into(), places: Vec::new() };
        let build = |text: &str| NewKernel { image: text.into(), config: String::new() };
        cache.store("one", &build("1")).unwrap();
        cache.store("one", &build("2")).unwrap();
        assert_eq!(fs::read_to_string(cache.current().unwrap()).unwrap(), "1");
        assert_eq!(names(&cache.dir), ["current", "one"]);
    }

    #[test]
    fn the_environment_tells_the_directory() {
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
