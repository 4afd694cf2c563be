//! A directory of the host as a root file system: no look-up leaves it.
//!
//! Interface: openat2(2) with `RESOLVE_IN_ROOT` (Linux 5.6). The directory is not trusted: an
//! absolute link in it starts at the directory, not at the host's `/`, and `..` does not
//! leave it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::lookup::Files;

/// A directory that look-ups cannot leave.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
    path: PathBuf,
}

impl RootDir {
    /// Opens the directory `path`. Links in `path` itself are resolved on the host.
    pub fn open(path: &Path) -> Result<Self> {
        let path =
            path.canonicalize().with_context(|| format!("open directory {}", path.display()))?;
        // Opening a FIFO for reading waits for a writer, and opening a device has effects.
        let flags = OFlag::O_DIRECTORY.bits();
        let file = File::options().read(true).custom_flags(flags).open(&path);
        let is_dir = !matches!(&file, Err(error) if error.kind() == io::ErrorKind::NotADirectory);
        ensure!(is_dir, "{} is not a directory", path.display());
        let file = file.with_context(|| format!("open directory {}", path.display()))?;
        Ok(Self { fd: file.into(), path })
    }

    /// Opens the directory `path` to list it.
    pub fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_at(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
    }

    /// Opens `path`, which was a regular file when the caller looked. If another kind of file
    /// has taken its place since, this is an error.
    pub fn regular_file(&self, path: &Path) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        regular(self.open_at(path, flags)?.into())
    }

    fn open_at(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let how =
            OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        loop {
            match openat2(&self.fd, path, how) {
                // A file was renamed while the kernel resolved a `..`: try again.
                Err(Errno::EAGAIN) => {}
                result => return Ok(result?),
            }
        }
    }
}

impl Files for RootDir {
    fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self, path: &Path) -> io::Result<File> {
        // Check the kind of file before opening it: opening a device has effects, and
        // opening a FIFO blocks.
        let location = regular(self.open_at(path, OFlag::O_PATH)?.into())?;
        File::open(descriptor_path(&location))
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let location = self.open_at(path, OFlag::O_PATH)?;
        std::fs::read_link(descriptor_path(&location))
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.file(path)?;
        // Reserve one byte more, so that reading the end needs no further allocation.
        let size = file.metadata()?.len().min(limit) + 1;
        let mut contents = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.take(limit + 1).read_to_end(&mut contents)?;
        match contents.len() as u64 > limit {
            true => Err(io::ErrorKind::FileTooLarge.into()),
            false => Ok(contents),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let dir = self.directory(path)?;
        let mut names = std::fs::read_dir(descriptor_path(&dir))?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn is_dir(&self, path: &Path) -> bool {
        self.open_at(path, OFlag::O_PATH | OFlag::O_DIRECTORY).is_ok()
    }

    fn is_real_dir(&self, path: &Path) -> bool {
        self.open_at(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).is_ok()
    }

    fn link(&self, path: &Path) -> Option<PathBuf> {
        let link = self.open_at(path, OFlag::O_PATH | OFlag::O_NOFOLLOW).ok()?;
        nix::fcntl::readlinkat(&link, "").ok().map(PathBuf::from)
    }

    fn is_file(&self, path: &Path) -> bool {
        let found = self.open_at(path, OFlag::O_PATH).map(File::from);
        found.and_then(|file| file.metadata()).is_ok_and(|metadata| metadata.is_file())
    }
}

/// Returns `file` if it is a regular file.
fn regular(file: File) -> io::Result<File> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// A path to the file of an open descriptor (proc_pid_fd(5)).
fn descriptor_path(fd: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_cannot_leave_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir(path("etc")).unwrap();
        std::fs::write(path("etc/hostname"), "inside").unwrap();
        symlink("/etc/hostname", path("absolute")).unwrap();
        symlink("../../../../etc/hostname", path("climbing")).unwrap();
        symlink("/etc/passwd", path("hosts-only")).unwrap();

        let root = RootDir::open(dir.path()).unwrap();
        for name in ["absolute", "climbing", "/etc/hostname", "../etc/hostname"] {
            assert_eq!(root.read(Path::new(name), 100).unwrap(), b"inside", "{name}");
        }
        assert!(root.file(Path::new("hosts-only")).is_err());
        assert!(root.regular_file(Path::new("etc/hostname")).is_ok());
        assert!(root.regular_file(Path::new("absolute")).is_err());
        let inside = dir.path().canonicalize().unwrap().join("etc/hostname");
        assert_eq!(root.resolve(Path::new("absolute")).unwrap(), inside);
        assert!(!root.is_file(Path::new("hosts-only")));
    }

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("five"), "12345").unwrap();
        nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        assert_eq!(root.read(Path::new("five"), 5).unwrap(), b"12345");
        assert!(root.read(Path::new("five"), 4).is_err());
        for name in ["fifo", "."] {
            assert!(root.file(Path::new(name)).is_err(), "{name}");
            assert!(root.regular_file(Path::new(name)).is_err(), "{name}");
        }
        assert_eq!(root.list(Path::new(".")).unwrap(), ["fifo", "five"]);
        // A FIFO without a writer must not block.
        for name in ["fifo", "five"] {
            let error = RootDir::open(&dir.path().join(name)).unwrap_err();
            assert!(error.to_string().ends_with("is not a directory"), "{error}");
        }
    }
}
