//! Paths of the image: where they lead if the image is the root.
//!
//! Links are followed as the kernel does it after chroot(2) (path_resolution(7)), so none
//! leads out of the image. Nothing changes the image meanwhile: its program does not run yet.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use anyhow::{Result, ensure};

use crate::fault::Describe;

/// Most links of one path (`MAXSYMLINKS`, `include/linux/namei.h`).
const LINKS_MAX: usize = 40;

/// Most bytes that are read of a file of the image.
const FILE_MAX: u64 = 16 << 20;

/// Follows all links of `path` in the image at `root`. The result is absolute in the image, and
/// has no links; its last parts may be missing.
///
/// # Errors
/// The path has too many links, or one cannot be read.
pub(crate) fn locate(root: &Path, path: &Path) -> Result<PathBuf> {
    let mut found = PathBuf::from("/");
    let mut pending: VecDeque<OsString> = names(path);
    let mut links = 0;
    while let Some(name) = pending.pop_front() {
        if name == ".." {
            found.pop();
            continue;
        }
        found.push(name);
        let here = within(root, &found);
        let is_link = here.symlink_metadata().is_ok_and(|meta| meta.file_type().is_symlink());
        if !is_link {
            continue;
        }
        links += 1;
        ensure!(
            links <= LINKS_MAX,
            "follow {} in the image: ELOOP: too many links",
            path.display()
        );
        let target = here.read_link().describe(|| format!("read link {}", here.display()))?;
        found.pop();
        if target.is_absolute() {
            found = PathBuf::from("/");
        }
        for name in names(&target).into_iter().rev() {
            pending.push_front(name);
        }
    }
    Ok(found)
}

/// The absolute path `path` of the image at `root`, as a path of the machine.
pub(crate) fn within(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The contents of a file of the image; empty if it is missing or no regular file.
pub(crate) fn read(root: &Path, path: &str) -> Result<Vec<u8>> {
    let file = within(root, &locate(root, Path::new(path))?);
    let mut bytes = Vec::new();
    if file.is_file() {
        let opened = File::open(&file).map(|file| file.take(FILE_MAX));
        let read = opened.and_then(|mut file| file.read_to_end(&mut bytes));
        read.describe(|| format!("read {path} of the image"))?;
    }
    Ok(bytes)
}

/// Names of a path, and `..`.
fn names(path: &Path) -> VecDeque<OsString> {
    let name = |part: Component| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_in_the_image() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        std::fs::create_dir_all(root.join("usr/lib")).unwrap();
        std::fs::create_dir_all(root.join("run")).unwrap();
        for (target, link) in [
            ("usr/lib", "lib"),
            ("/run", "usr/run"),
            ("../run/resolve/conf", "usr/conf"),
            ("/../../../etc/passwd", "out"),
            ("loop", "loop"),
            ("/usr/conf", "chain"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        for (path, expected) in [
            ("/", "/"),
            ("/usr/lib", "/usr/lib"),
            ("/lib/x/y", "/usr/lib/x/y"),
            ("/usr/run/a", "/run/a"),
            ("/usr/conf", "/run/resolve/conf"),
            ("/chain", "/run/resolve/conf"),
            ("/out", "/etc/passwd"),
            ("/lib/../x", "/usr/x"),
            ("/missing/../x", "/x"),
            ("/../..", "/"),
            ("//usr/./lib/", "/usr/lib"),
        ] {
            assert_eq!(locate(root, path.as_ref()).unwrap(), Path::new(expected), "{path}");
        }
        assert!(locate(root, "/loop/x".as_ref()).is_err());
        assert_eq!(within(root, "/a/b".as_ref()), root.join("a/b"));
    }
}
