//! Mount points of volumes, looked up on the host as `/init` will look them up in the guest.
//!
//! `/init` follows links within the root, and makes a missing directory only on a file system
//! that the guest owns (`init/src/root/files.rs`). A path is refused here only if it will
//! certainly be missing in the guest; below a file system that only the guest knows, every path
//! passes.

use std::ffi::OsString;
use std::io::ErrorKind::NotFound;
use std::path::{Component, Path, PathBuf};

use files::lookup::Files;

/// Directories on which the guest mounts a file system of its own.
const OWN: &[&str] = &["/run", "/tmp", "/dev", "/proc", "/sys"];

/// Most links that one look-up follows (`MAXSYMLINKS`, include/linux/namei.h).
const LINKS_MAX: u32 = 40;

/// File system that is mounted in the guest.
#[derive(Debug)]
pub struct GuestMount<'a> {
    /// Path of the mount in the guest, without links.
    pub at: PathBuf,
    /// Its contents.
    pub files: &'a dyn Files,
    /// Whether the guest owns it, so that `/init` makes missing directories.
    pub owned: Ownership,
}

/// Owner of a file system in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The host: the file system outlives the guest, and nothing is made in it.
    Host,
    /// The guest: it is in memory, or below an overlay.
    Guest,
}

/// Kind of a mount point: a directory is mounted on a directory, and a file on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// Anything but a directory.
    File,
}

/// Result of looking for a mount point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountPoint {
    /// The mount point exists, or `/init` makes it. This is its path without links, as far as
    /// the host knows.
    Usable(PathBuf),
    /// The mount point, or a directory above it, does not exist.
    Missing {
        /// The first missing path in the guest.
        path: PathBuf,
        /// Number of the mount that lacks it.
        mount: usize,
        /// Path of the whole mount point in that mount.
        inside: PathBuf,
    },
    /// This path is no directory.
    NoDirectory(PathBuf),
    /// This path is a directory, and the mount point has to be a file.
    NoFile(PathBuf),
    /// The path has too many links.
    Loop,
}

/// Looks for the mount point `path`, which has to be of this `kind`, in a guest with these
/// `mounts`. The first of them is the root.
#[must_use]
pub fn find(mounts: &[GuestMount<'_>], path: &Path, kind: Kind) -> MountPoint {
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    let mut pending = reversed(path);
    while let Some(name) = pending.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let (number, inside) = contents(mounts, &next);
        let GuestMount { files, owned, .. } = mounts[number];
        let may_be_file = kind == Kind::File && pending.is_empty();
        let is_own = OWN.iter().any(|own| next == Path::new(own)) && files.link(&inside).is_none();
        if is_own && !may_be_file {
            return MountPoint::Usable(with_rest(next, pending));
        }
        if is_own || inside == Path::new("/") || files.is_real_dir(&inside) {
            at = next;
        } else if let Some(target) = files.link(&inside) {
            links += 1;
            if links > LINKS_MAX {
                return MountPoint::Loop;
            }
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            pending.extend(reversed(&target));
        } else {
            return match files.resolve(&inside) {
                Ok(_) if may_be_file => MountPoint::Usable(next),
                Ok(_) => MountPoint::NoDirectory(next),
                Err(error) if owned == Ownership::Host && error.kind() == NotFound => {
                    let inside = with_rest(inside, pending);
                    MountPoint::Missing { path: next, mount: number, inside }
                }
                // Another user may be able to look into the directory.
                Err(_) => MountPoint::Usable(with_rest(next, pending)),
            };
        }
    }
    match kind {
        Kind::Directory => MountPoint::Usable(at),
        Kind::File => MountPoint::NoFile(at),
    }
}

/// The number of the mount that has `path`, which is the last one among the deepest, and the path
/// in it.
fn contents(mounts: &[GuestMount<'_>], path: &Path) -> (usize, PathBuf) {
    let depth = |(_, mount): &(usize, &GuestMount<'_>)| mount.at.components().count();
    let above = mounts.iter().enumerate().filter(|(_, mount)| path.starts_with(&mount.at));
    // Of several with the same depth, `max_by_key` returns the last one.
    let number = above.max_by_key(depth).map_or(0, |(number, _)| number);
    let inside = mounts.get(number).and_then(|mount| path.strip_prefix(&mount.at).ok());
    (number, Path::new("/").join(inside.unwrap_or(path)))
}

/// The names of `path`, the last one first.
fn reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

/// `path`, and below it the names that are `pending`.
fn with_rest(path: PathBuf, pending: Vec<OsString>) -> PathBuf {
    pending.into_iter().rev().fold(path, |path, name| path.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use files::root_dir::RootDir;
    use std::os::unix::fs::symlink;

    #[test]
    fn mount_points_are_found_as_the_guest_finds_them() {
        let (root, volume) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in ["srv/data", "usr/lib", "var", "tmp"] {
            std::fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        std::fs::write(root.path().join("etc"), "").unwrap();
        std::fs::create_dir(volume.path().join("inner")).unwrap();
        for (link, target) in [
            ("lib", "usr/lib"),
            ("var/run", "/run"),
            ("up", "../../srv"),
            ("loop", "loop"),
            ("gone", "/no"),
        ] {
            symlink(target, root.path().join(link)).unwrap();
        }
        let (files, shared) =
            (RootDir::open(root.path()).unwrap(), RootDir::open(volume.path()).unwrap());
        let usable = |path: &str| MountPoint::Usable(path.into());
        let missing = |path: &str, mount, inside: &str| {
            let (path, inside) = (path.into(), inside.into());
            MountPoint::Missing { path, mount, inside }
        };
        for (path, of_host, of_guest) in [
            ("/srv/data", usable("/srv/data"), usable("/srv/data")),
            ("/lib", usable("/usr/lib"), usable("/usr/lib")),
            ("/up/data", usable("/srv/data"), usable("/srv/data")),
            ("/run/a/b", usable("/run/a/b"), usable("/run/a/b")),
            ("/tmp", usable("/tmp"), usable("/tmp")),
            ("/var/run/x", usable("/run/x"), usable("/run/x")),
            ("/src", missing("/src", 0, "/src"), usable("/src")),
            ("/srv/a/b", missing("/srv/a", 0, "/srv/a/b"), usable("/srv/a/b")),
            ("/gone/x", missing("/no", 0, "/no/x"), usable("/no/x")),
            (
                "/etc",
                MountPoint::NoDirectory("/etc".into()),
                MountPoint::NoDirectory("/etc".into()),
            ),
            ("/loop", MountPoint::Loop, MountPoint::Loop),
            // Below a volume nothing is made, whoever owns the root.
            ("/srv/data/v", usable("/srv/data/v"), usable("/srv/data/v")),
            ("/srv/data/v/inner", usable("/srv/data/v/inner"), usable("/srv/data/v/inner")),
            (
                "/srv/data/v/other",
                missing("/srv/data/v/other", 1, "/other"),
                missing("/srv/data/v/other", 1, "/other"),
            ),
        ] {
            for (owned, expected) in [(Ownership::Host, of_host), (Ownership::Guest, of_guest)] {
                let volume = Path::new("/srv/data/v").into();
                let mounts = [
                    GuestMount { at: "/".into(), files: &files, owned },
                    GuestMount { at: volume, files: &shared, owned: Ownership::Host },
                ];
                let found = find(&mounts, Path::new(path), Kind::Directory);
                assert_eq!(found, expected, "{path} {owned:?}");
            }
        }
    }

    #[test]
    fn a_file_is_mounted_on_a_file() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc/dir")).unwrap();
        std::fs::write(root.path().join("etc/file"), "").unwrap();
        symlink("/etc/file", root.path().join("link")).unwrap();
        symlink("/etc/dir", root.path().join("dir")).unwrap();
        let files = RootDir::open(root.path()).unwrap();
        let usable = |path: &str| MountPoint::Usable(path.into());
        let no_file = |path: &str| MountPoint::NoFile(path.into());
        let missing = |path: &str, inside: &str| {
            let (path, inside) = (path.into(), inside.into());
            MountPoint::Missing { path, mount: 0, inside }
        };
        let no_dir = MountPoint::NoDirectory("/etc/file".into());
        for (path, of_host, of_guest) in [
            ("/etc/file", usable("/etc/file"), usable("/etc/file")),
            ("/link", usable("/etc/file"), usable("/etc/file")),
            ("/etc/dir", no_file("/etc/dir"), no_file("/etc/dir")),
            ("/dir", no_file("/etc/dir"), no_file("/etc/dir")),
            ("/etc/new", missing("/etc/new", "/etc/new"), usable("/etc/new")),
            ("/a/b", missing("/a", "/a/b"), usable("/a/b")),
            ("/etc/file/x", no_dir.clone(), no_dir),
            ("/run/a/b", usable("/run/a/b"), usable("/run/a/b")),
            ("/run", no_file("/run"), no_file("/run")),
        ] {
            for (owned, expected) in [(Ownership::Host, of_host), (Ownership::Guest, of_guest)] {
                let mounts = [GuestMount { at: "/".into(), files: &files, owned }];
                let found = find(&mounts, Path::new(path), Kind::File);
                assert_eq!(found, expected, "{path} {owned:?}");
            }
        }
    }
}
