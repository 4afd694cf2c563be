//! The payload: INIT on the command line as a path in the guest.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Result, bail, ensure};
use files::lookup::Files;

/// Directories of the root in which a bare name is searched, in this order.
const BIN_DIRS: &[&str] =
    &["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin"];

/// Path in the guest of the payload that the user calls `payload`. `root` opens the root file
/// system, and is called only for a bare name.
///
/// # Errors
/// The name is neither absolute nor bare, or no directory of `root` has it.
pub fn find(root: impl FnOnce() -> Result<Rc<dyn Files>>, payload: &OsStr) -> Result<OsString> {
    let shown = payload.display();
    if payload.as_bytes().starts_with(b"/") {
        return Ok(payload.to_owned());
    }
    ensure!(!payload.is_empty(), "INIT is empty");
    ensure!(
        !payload.as_bytes().contains(&b'/'),
        "INIT \"{shown}\": give an absolute path in the guest, or a bare name to search"
    );
    let root = root()?;
    let mut paths = BIN_DIRS.iter().map(|dir| Path::new(dir).join(payload));
    match paths.find(|path| root.is_file(path)) {
        Some(path) => Ok(path.into()),
        None => {
            let (root, dirs) = (root.path().display(), BIN_DIRS.join(", "));
            bail!("INIT \"{shown}\" not found in {root}: searched {dirs}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use files::root_dir::RootDir;

    #[test]
    fn bare_names_are_searched_in_the_root() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("bin")).unwrap();
        std::fs::create_dir_all(dir.path().join("sbin")).unwrap();
        std::fs::write(dir.path().join("bin/busybox"), "").unwrap();
        std::os::unix::fs::symlink("/bin/busybox", dir.path().join("sbin/init")).unwrap();
        let root: Rc<dyn Files> = Rc::new(RootDir::open(dir.path()).unwrap());
        let find = |name: &str| find(|| Ok(Rc::clone(&root)), OsStr::new(name));
        assert_eq!(find("init").unwrap(), "/sbin/init");
        assert_eq!(find("busybox").unwrap(), "/bin/busybox");
        assert_eq!(find("/run/mnt/x/y").unwrap(), "/run/mnt/x/y");
        for bad in ["", "systemd", "bin/busybox", "./busybox"] {
            assert!(find(bad).is_err(), "{bad}");
        }
    }
}
