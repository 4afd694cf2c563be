//! Looks at `/etc/resolv.conf` in a root, for [`crate::plan::guest::name_server`].

use std::path::{Component, Path, PathBuf};

use files::lookup::Files;

use crate::plan::guest::name_server::ResolvConf;

/// File in which resolver libraries find the name server (resolv.conf(5)).
const FILE: &str = "etc/resolv.conf";

/// Directories on which the guest mounts a file system of its own, whatever the root is.
const OWN: &[&str] = &["run", "tmp"];

/// State of the file in `root`.
#[must_use]
pub fn look(root: &dyn Files) -> ResolvConf {
    let file = Path::new(FILE);
    let leads_to_own = |target: PathBuf| {
        let from = if target.is_absolute() { Path::new("") } else { Path::new("etc") };
        let path = normal(&from.join(target));
        // The first directories may be a link themselves, such as /var/run to /run.
        let first_two: PathBuf = path.components().take(2).collect();
        let path = root.link(&first_two).map_or(path, |target| normal(&target));
        OWN.iter().any(|own| path.starts_with(own))
    };
    let is_usable = root.link(file).is_some_and(leads_to_own) || root.is_file(file);
    match is_usable {
        true => ResolvConf::Usable,
        false if root.link(file).is_none() && root.resolve(file).is_ok() => ResolvConf::NoFile,
        false if root.is_dir(Path::new("etc")) => ResolvConf::Missing,
        false => ResolvConf::NoEtc,
    }
}

/// `path` relative to the root, without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use files::root_dir::RootDir;
    use std::os::unix::fs::symlink;

    /// State of the file if it is a link to `target`, an empty file (an empty `target`), or
    /// missing.
    fn look_at(target: Option<&str>, prepare: impl FnOnce(&Path)) -> ResolvConf {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        match target {
            Some("") => std::fs::write(dir.path().join(FILE), "").unwrap(),
            Some(target) => symlink(target, dir.path().join(FILE)).unwrap(),
            None => {}
        }
        prepare(dir.path());
        look(&RootDir::open(dir.path()).unwrap())
    }

    #[test]
    fn links_are_followed_within_the_root() {
        let var_run = |root: &Path| {
            std::fs::create_dir(root.join("var")).unwrap();
            symlink("/run", root.join("var/run")).unwrap();
        };
        let real_run = |root: &Path| {
            std::fs::create_dir_all(root.join("run/systemd")).unwrap();
            std::fs::write(root.join("run/systemd/x"), "").unwrap();
        };
        for (name, found, expected) in [
            ("empty", look_at(Some(""), |_| {}), ResolvConf::Usable),
            ("missing", look_at(None, |_| {}), ResolvConf::Missing),
            (
                "systemd",
                look_at(Some("../run/systemd/resolve/stub-resolv.conf"), |_| {}),
                ResolvConf::Usable,
            ),
            ("absolute", look_at(Some("/run/x"), |_| {}), ResolvConf::Usable),
            ("on the host only", look_at(Some("../run/systemd/x"), real_run), ResolvConf::Usable),
            ("SUSE", look_at(Some("/var/run/netconfig/resolv.conf"), var_run), ResolvConf::Usable),
            ("WSL", look_at(Some("/mnt/wsl/resolv.conf"), |_| {}), ResolvConf::Missing),
            ("beside", look_at(Some("resolvconf/run/resolv.conf"), |_| {}), ResolvConf::Missing),
            (
                "to a file",
                look_at(Some("hosts"), |root| std::fs::write(root.join("etc/hosts"), "").unwrap()),
                ResolvConf::Usable,
            ),
            (
                "directory",
                look_at(None, |root| std::fs::create_dir(root.join(FILE)).unwrap()),
                ResolvConf::NoFile,
            ),
            ("to itself", look_at(Some("resolv.conf"), |_| {}), ResolvConf::Missing),
            (
                "no /etc",
                look_at(None, |root| std::fs::remove_dir(root.join("etc")).unwrap()),
                ResolvConf::NoEtc,
            ),
        ] {
            assert_eq!(found, expected, "{name}");
        }
    }
}
