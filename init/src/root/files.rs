//! Making directories and files in the new root.
//!
//! Interfaces: openat2(2), open_tree(2), move_mount(2).
//!
//! Invariant: nothing is made in a file system that outlives the machine, such as a share
//! of the host. An overlay belongs to the guest, and so do `/run` and `/tmp`.

use core::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use crate::root::new_root::NewRoot;
use crate::sys::file;

/// Longest path in bytes (include/uapi/linux/limits.h).
const PATH_MAX: usize = 4096;

/// Mode of new directories.
const DIR_MODE: Mode = Mode::from_raw_mode(0o755);

/// Mode of new files.
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

impl NewRoot {
    /// Opens the directory `path`. Missing directories are made, those above it too.
    ///
    /// # Errors
    /// ENOENT: a directory is missing on a file system that does not belong to the guest.
    pub fn make_directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let mut at = self.locate(b"/", OFlags::DIRECTORY)?;
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        for end in ends.skip(1).chain([path.len()]) {
            let prefix = path.get(..end).unwrap_or_default();
            at = match self.locate(prefix, OFlags::DIRECTORY) {
                Err(Errno::NOENT) if self.owns(&at)? => {
                    let name = prefix.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
                    match rustix::fs::mkdirat(&at, &*file::c_string(&[name])?, DIR_MODE) {
                        Ok(()) | Err(Errno::EXIST) => self.locate(prefix, OFlags::DIRECTORY)?,
                        Err(errno) => return Err(errno),
                    }
                }
                found => found?,
            };
        }
        Ok(at)
    }

    /// Opens the file `path`. A missing file is made, and so are missing directories above it.
    ///
    /// # Errors
    /// ENOENT: the file is missing on a file system that does not belong to the guest.
    pub fn make_file(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        match self.locate(path, OFlags::empty()) {
            Err(Errno::NOENT) => {
                let (dir, name) = split(path)?;
                match self.create(&self.make_directory(dir)?, &file::c_string(&[name])?) {
                    Ok(_) | Err(Errno::EXIST) => self.locate(path, OFlags::empty()),
                    Err(errno) => Err(errno),
                }
            }
            found => found,
        }
    }

    /// Makes the file `name` in `dir`, and opens it for writing.
    ///
    /// # Errors
    /// ENOENT: `dir` does not belong to the guest. EEXIST: the name is taken.
    fn create(&self, dir: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
        if !self.owns(dir)? {
            return Err(Errno::NOENT);
        }
        // `EXCL`: neither follow a link nor write to an existing file.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::openat(dir, name, flags, FILE_MODE)
    }

    /// Gives the file `path` new contents. An existing file is covered by a mount of the
    /// file `name` in `/run`. A missing file, or the missing target of a link, is made. If
    /// the target of a link cannot be made, a new file replaces the link, provided that the
    /// link's directory belongs to the guest.
    ///
    /// # Errors
    /// ENOENT: the file is missing on a file system that does not belong to the guest.
    pub fn provide_file(&self, path: &[u8], name: &CStr, contents: &[u8]) -> Result<(), Errno> {
        const F_AND_T: MoveMountFlags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH.union(MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH);
        let make = |dir: &OwnedFd, name: &CStr| {
            let file = self.create(dir, name)?;
            file::write_all(&file, contents)?;
            Ok::<_, Errno>(file)
        };
        if let Ok(target) = self.locate(path, OFlags::empty()) {
            let source = make(&self.locate(b"/run", OFlags::DIRECTORY)?, name)?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH;
            let tree = rustix::mount::open_tree(&source, c"", flags)?;
            return rustix::mount::move_mount(&tree, c"", &target, c"", F_AND_T);
        }
        let mut buffer = [0; PATH_MAX];
        let link = self.locate(path, OFlags::NOFOLLOW);
        let target = link.and_then(|link| rustix::fs::readlinkat_raw(&link, c"", &mut buffer[..]));
        let is_link = target.is_ok();
        let wanted = target.map_or(path, |length| buffer.get(..length).unwrap_or_default());
        // systemd links /etc/resolv.conf to ../run/…, seen from /etc
        let wanted = wanted.strip_prefix(b"..").unwrap_or(wanted);
        let make_new = |path: &[u8], is_link: bool| {
            let (dir, name) = split(path)?;
            let (dir, name) = (self.make_directory(dir)?, file::c_string(&[name])?);
            if is_link && self.owns(&dir)? {
                rustix::fs::unlinkat(&dir, &*name, AtFlags::empty())?;
            }
            make(&dir, &name).map(drop)
        };
        match make_new(wanted, false) {
            Err(_) if is_link => make_new(path, true),
            result => result,
        }
    }
}

/// The directory of the absolute path `path`, and the last name.
fn split(path: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    let at = path.iter().rposition(|&byte| byte == b'/').ok_or(Errno::NOENT)?;
    let (dir, name) = (path.get(..at.max(1)), path.get(at + 1..));
    Ok((dir.unwrap_or_default(), name.unwrap_or_default()))
}
