//! The source of the small kernel: a directory, or a tarball as distributions package it.
//!
//! Interfaces: tar(1); the top Makefile of the kernel, whose first lines have the version;
//! Debian's package `linux-source`.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::host::{absolute, run};

/// Source of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelSource {
    /// Directory with the unpacked source.
    Dir(PathBuf),
    /// Archive that tar(1) reads, with one directory at its top.
    Tarball(PathBuf),
}

/// Hash of a source; it changes if the source changes.
pub type Fingerprint = blake3::Hash;

/// Most files and directories that a source may have. Linux 6.12 has 90,000.
const ENTRIES_MOST: usize = 4_000_000;

/// Directory that does not belong to the source: even `git status` writes to it.
const NO_SOURCE: &str = ".git";

/// Shell script that unpacks the distribution's package into the directory given as its
/// argument.
const FETCH: &str = include_str!("../../../../../scripts/fetch-kernel-source");

/// Directory of the tarballs in Debian's package `linux-source`.
const PACKAGED: &str = "usr/src";

impl KernelSource {
    /// The source at the path that the user gave.
    ///
    /// # Errors
    /// The path does not exist.
    pub fn given(path: &Path) -> Result<Self> {
        let path = absolute(path)?;
        let kind = path.metadata().with_context(|| format!("find --source {}", path.display()))?;
        Ok(match kind.is_dir() {
            true => Self::Dir(path),
            false => Self::Tarball(path),
        })
    }

    /// The source that the distribution packages: the installed tarball, or the one in `dir`,
    /// which `scripts/fetch-kernel-source` fetches if `dir` does not exist.
    ///
    /// # Errors
    /// The package cannot be fetched, or has no tarball.
    pub fn of_distribution(dir: &Path) -> Result<Self> {
        if let Some(found) = packaged(Path::new("/")) {
            return Ok(Self::Tarball(found));
        }
        if !dir.exists() {
            log::info!("fetching the kernel's source into {}", dir.display());
            run(Command::new("sh").arg("-c").arg(FETCH).arg("fetch-kernel-source").arg(dir))?;
        }
        let found = packaged(dir).with_context(|| {
            format!("{} has no {PACKAGED}/linux-source-VERSION.tar.xz", dir.display())
        })?;
        Ok(Self::Tarball(found))
    }

    /// Path of the directory or tarball.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Dir(path) | Self::Tarball(path) => path,
        }
    }

    /// The fingerprint of the source.
    ///
    /// # Errors
    /// A file or directory cannot be read.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        match self {
            Self::Dir(path) => of_directory(path),
            Self::Tarball(path) => {
                let mut hasher = blake3::Hasher::new();
                let outcome =
                    fs::File::open(path).and_then(|mut file| io::copy(&mut file, &mut hasher));
                outcome.with_context(|| format!("read {}", path.display()))?;
                Ok(hasher.finalize())
            }
        }
    }

    /// The version of the kernel, such as `6.1.192`.
    ///
    /// # Errors
    /// This is not the source of a kernel.
    pub fn version(&self) -> Result<String> {
        let path = self.path();
        let text = match self {
            Self::Dir(path) => {
                let makefile = path.join("Makefile");
                fs::read(&makefile).with_context(|| format!("read {}", makefile.display()))?
            }
            Self::Tarball(path) => {
                let mut tar = Command::new("tar");
                tar.arg("-xOf").arg(path).args(["--occurrence=1", "--wildcards"]);
                tar.args(["--no-wildcards-match-slash", "*/Makefile"]);
                let output = tar.output().context("run tar")?;
                let message = String::from_utf8_lossy(&output.stderr);
                ensure!(output.status.success(), "tar -x {}: {message}", path.display());
                output.stdout
            }
        };
        version_of(&String::from_utf8_lossy(&text)).with_context(|| {
            format!("{} is not a kernel source: its Makefile has no version", path.display())
        })
    }

    /// Unpacks a tarball below `dir`, and returns the directory of the source.
    ///
    /// # Errors
    /// tar(1) fails.
    pub fn unpack(&self, dir: &Path) -> Result<PathBuf> {
        let Self::Tarball(path) = self else {
            return Ok(self.path().to_path_buf());
        };
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        run(Command::new("tar")
            .arg("-xf")
            .arg(path)
            .arg("-C")
            .arg(dir)
            .args(["--strip-components=1", "--no-same-owner"]))?;
        Ok(dir.to_path_buf())
    }
}

/// The fingerprint of a directory: names, types, sizes and times of all files in it; links
/// are not followed. Reading the times takes a second, but reading a gigabyte of source takes
/// many seconds. Programs cannot set the change time (inode(7)), so every edit is noticed.
fn of_directory(top: &Path) -> Result<Fingerprint> {
    let mut hasher = blake3::Hasher::new();
    let mut pending = vec![top.to_path_buf()];
    let mut count = 0_usize;
    while let Some(dir) = pending.pop() {
        let listed = fs::read_dir(&dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = listed.with_context(|| format!("list {}", dir.display()))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        count += entries.len();
        ensure!(count <= ENTRIES_MOST, "{}: more than {ENTRIES_MOST} files", top.display());
        for entry in entries.iter().filter(|entry| entry.file_name() != NO_SOURCE) {
            let path = entry.path();
            let found = entry.metadata().with_context(|| format!("find {}", path.display()))?;
            let name = path.as_os_str().as_bytes();
            hasher.update(&(name.len() as u64).to_le_bytes()).update(name);
            hasher.update(&found.mode().to_le_bytes());
            // The names in a directory tell of new and removed files, so its times are not
            // needed.
            if found.is_dir() {
                pending.push(path);
                continue;
            }
            hasher.update(&found.len().to_le_bytes());
            let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()];
            hasher.update(times.map(i64::to_le_bytes).as_flattened());
        }
    }
    Ok(hasher.finalize())
}

/// The newest tarball of the package `linux-source` below `root`; `None` if there is none.
fn packaged(root: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(root.join(PACKAGED)).ok()?.flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    let is_source = |name: &String| {
        name.strip_prefix("linux-source-")
            .and_then(|rest| rest.split_once(".tar."))
            .is_some_and(|(version, _)| version.starts_with(|c: char| c.is_ascii_digit()))
    };
    let numbers = |name: &String| -> Vec<u64> {
        name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
    };
    let newest = names.filter(is_source).max_by_key(numbers)?;
    Some(root.join(PACKAGED).join(newest))
}

/// The version in the first lines of the top Makefile; `None` if they have no usable version.
fn version_of(makefile: &str) -> Option<String> {
    let value = |name: &str| {
        let line =
            makefile.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_prefix('='));
        line.map(str::trim)
    };
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let [version, patchlevel, sublevel] =
        [value("VERSION")?, value("PATCHLEVEL")?, value("SUBLEVEL")?];
    let extra = value("EXTRAVERSION").unwrap_or_default();
    let text = format!("{version}.{patchlevel}.{sublevel}{extra}");
    // The version becomes the name of a directory.
    (version.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(is_fine)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_makefile() {
        let head =
            "# SPDX\nVERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 192\nEXTRAVERSION =\nNAME = x\n";
        assert_eq!(version_of(head).unwrap(), "6.1.192");
        assert_eq!(
            version_of(&head.replace("EXTRAVERSION =", "EXTRAVERSION = -rc1")).unwrap(),
            "6.1.192-rc1"
        );
        for bad in ["", "VERSION = 6\n", &head.replace("= 6", "= ../6"), &head.replace("192", "/x")]
        {
            assert_eq!(version_of(bad), None, "{bad}");
        }
    }

    /// The tarball is made by the system's tar(1).
    #[test]
    fn directories_and_tarballs_are_sources() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("linux-6.1");
        fs::create_dir_all(tree.join("Documentation")).unwrap();
        fs::write(tree.join("Documentation/Makefile"), "VERSION = 9\n").unwrap();
        fs::write(tree.join("Makefile"), "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 2\n").unwrap();
        let tarball = dir.path().join("linux.tar");
        let mut tar = Command::new("tar");
        tar.arg("-cf").arg(&tarball).arg("-C").arg(dir.path());
        run(tar.args(["linux-6.1/Documentation", "linux-6.1/Makefile"])).unwrap();
        let to = dir.path().join("to");
        for path in [&tree, &tarball] {
            let source = KernelSource::given(path).unwrap();
            assert_eq!(source.version().unwrap(), "6.1.2", "{}", path.display());
            assert!(source.unpack(&to).unwrap().join("Documentation/Makefile").is_file());
        }
        let error = KernelSource::given(&dir.path().join("x")).unwrap_err().to_string();
        assert!(error.contains("--source"), "{error}");
        assert!(KernelSource::given(dir.path()).unwrap().version().is_err());
    }

    /// An edit is noticed even if it keeps the length and the modification time.
    #[test]
    fn an_edit_changes_the_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("linux");
        fs::create_dir_all(tree.join("kernel")).unwrap();
        fs::create_dir_all(tree.join(".git")).unwrap();
        let file = tree.join("kernel/fork.c");
        fs::write(&file, "int one;\n").unwrap();
        let of_tree = || KernelSource::given(&tree).unwrap().fingerprint().unwrap();
        let first = of_tree();
        fs::write(tree.join(".git/index"), "by git status").unwrap();
        assert_eq!(of_tree(), first, "nothing was edited");
        let time = file.metadata().unwrap().modified().unwrap();
        let mut seen = vec![first];
        let steps: [(&str, &dyn Fn()); 4] = [
            ("same length and time", &|| {
                // A file system's clock may tick only every 10 ms (CONFIG_HZ), so write until
                // the change time differs.
                let changed = |old: i64| file.metadata().unwrap().ctime_nsec() != old;
                let old = file.metadata().unwrap().ctime_nsec();
                while !changed(old) {
                    fs::write(&file, "int two;\n").unwrap();
                    fs::File::options()
                        .write(true)
                        .open(&file)
                        .unwrap()
                        .set_modified(time)
                        .unwrap();
                }
            }),
            ("a new file", &|| fs::write(tree.join("kernel/new.c"), "").unwrap()),
            ("a new name", &|| fs::rename(tree.join("kernel/new.c"), tree.join("n.c")).unwrap()),
            ("an empty directory", &|| fs::create_dir(tree.join("mm")).unwrap()),
        ];
        for (name, step) in steps {
            step();
            let found = of_tree();
            assert!(!seen.contains(&found), "{name}");
            seen.push(found);
        }
        let tarball = dir.path().join("linux.tar");
        let of_tarball = |contents: &str| {
            fs::write(&tarball, contents).unwrap();
            KernelSource::given(&tarball).unwrap().fingerprint().unwrap()
        };
        assert_ne!(of_tarball("one"), of_tarball("two"), "two tarballs of one length");
        assert_eq!(of_tarball("one"), of_tarball("one"));
    }

    #[test]
    fn the_newest_tarball_is_taken() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(packaged(root.path()), None);
        let dir = root.path().join(PACKAGED);
        fs::create_dir_all(&dir).unwrap();
        for name in [
            "linux-source-6.9.tar.xz",
            "linux-source-6.12.tar.xz",
            "linux-patch-7.1.tar.xz",
            "linux-source-x",
        ] {
            fs::write(dir.join(name), "").unwrap();
        }
        assert_eq!(packaged(root.path()), Some(dir.join("linux-source-6.12.tar.xz")));
    }
}
