//! How the guest gets the name server of QEMU's user network, which `/init` writes to
//! `/etc/resolv.conf` (`init::network`).
//!
//! `/init` covers an existing file; if the file is a link into `/run`, as with systemd,
//! `/init` makes the target of the link. A read-only root that lacks the file, or has a
//! link elsewhere, gets an `/etc` in memory (`virtinit.etc=overlay`) if the kernel has
//! overlayfs. Otherwise a warning tells what helps.

use std::path::{Component, Path, PathBuf};

use files::lookup::Files;

use super::cmdline;
use crate::plan::Access;

/// Where resolver libraries read the name server (resolv.conf(5)).
const FILE: &str = "etc/resolv.conf";

/// Directories that are file systems of the guest's own, whatever the root is.
const OWN: &[&str] = &["run", "tmp"];

/// State of the file in a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A file that can be covered, or a link to what `/init` can make.
    Usable,
    /// `/etc`, but not the file.
    Missing,
    /// Something that is no file, such as a directory.
    NoFile,
    /// Not even `/etc`.
    NoEtc,
}

/// How a run provides the name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing has to be done: `/init` can write the file.
    Nothing,
    /// An overlay over `/etc`.
    Overlay,
    /// The guest has no name resolution; the text of the warning.
    Warn(&'static str),
}

/// Options of a run that decide.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// `--rw`
    pub access: Access,
    /// `--overlay`
    pub has_overlay: bool,
    /// The user's words for the command line.
    pub append: &'a [u8],
}

/// Looks into a root.
#[must_use]
pub fn look(root: &dyn Files) -> Found {
    let file = Path::new(FILE);
    let leads_to_own = |target: PathBuf| {
        let from = if target.is_absolute() { Path::new("") } else { Path::new("etc") };
        let path = normal(&from.join(target));
        // Such as /var/run, a link to /run.
        let first_two: PathBuf = path.components().take(2).collect();
        let path = root.link(&first_two).map_or(path, |target| normal(&target));
        OWN.iter().any(|own| path.starts_with(own))
    };
    let is_usable = root.link(file).is_some_and(leads_to_own) || root.is_file(file);
    match is_usable {
        true => Found::Usable,
        false if root.link(file).is_none() && root.resolve(file).is_ok() => Found::NoFile,
        false if root.is_dir(Path::new("etc")) => Found::Missing,
        false => Found::NoEtc,
    }
}

/// `path` from the root, without `.` and `..`.
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

/// Decides how to provide the name server for a root in the state `found`;
/// `can_overlay` tells whether the guest has overlayfs.
pub fn decide(found: Found, run: Run<'_>, can_overlay: impl FnOnce() -> bool) -> Decision {
    // The user's own words for `/etc` or an overlay decide.
    let is_decided = cmdline::has_layers(run.append);
    match (found, run.access) {
        (Found::Usable, _) => Decision::Nothing,
        (Found::NoFile, _) => {
            Decision::Warn("its /etc/resolv.conf is no file; make an empty file of it")
        }
        _ if run.has_overlay || is_decided => Decision::Nothing,
        (Found::Missing, Access::ReadOnly) if can_overlay() => Decision::Overlay,
        (Found::NoEtc, Access::ReadOnly) => {
            Decision::Warn("it has no /etc; use --overlay, or make an empty /etc/resolv.conf in it")
        }
        (Found::Missing, Access::ReadOnly) => Decision::Warn(
            "it has no /etc/resolv.conf, and the kernel no overlayfs for one in memory; make an \
             empty one in it",
        ),
        (_, Access::ReadWrite) => Decision::Warn(
            "it has no /etc/resolv.conf, and with --rw nothing is made in it unasked; make an \
             empty one in it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use files::root_dir::RootDir;
    use std::os::unix::fs::symlink;

    /// State of a root whose `/etc/resolv.conf` is a link to `target`, an empty file,
    /// or missing.
    fn look_at(target: Option<&str>, prepare: impl FnOnce(&Path)) -> Found {
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
    fn a_root_is_looked_into() {
        let var_run = |root: &Path| {
            std::fs::create_dir(root.join("var")).unwrap();
            symlink("/run", root.join("var/run")).unwrap();
        };
        let real_run = |root: &Path| {
            std::fs::create_dir_all(root.join("run/systemd")).unwrap();
            std::fs::write(root.join("run/systemd/x"), "").unwrap();
        };
        for (name, found, expected) in [
            ("empty", look_at(Some(""), |_| {}), Found::Usable),
            ("missing", look_at(None, |_| {}), Found::Missing),
            (
                "systemd",
                look_at(Some("../run/systemd/resolve/stub-resolv.conf"), |_| {}),
                Found::Usable,
            ),
            ("absolute", look_at(Some("/run/x"), |_| {}), Found::Usable),
            ("on the host only", look_at(Some("../run/systemd/x"), real_run), Found::Usable),
            ("SUSE", look_at(Some("/var/run/netconfig/resolv.conf"), var_run), Found::Usable),
            ("WSL", look_at(Some("/mnt/wsl/resolv.conf"), |_| {}), Found::Missing),
            ("beside", look_at(Some("resolvconf/run/resolv.conf"), |_| {}), Found::Missing),
            (
                "to a file",
                look_at(Some("hosts"), |root| std::fs::write(root.join("etc/hosts"), "").unwrap()),
                Found::Usable,
            ),
            (
                "directory",
                look_at(None, |root| std::fs::create_dir(root.join(FILE)).unwrap()),
                Found::NoFile,
            ),
            ("to itself", look_at(Some("resolv.conf"), |_| {}), Found::Missing),
            (
                "no /etc",
                look_at(None, |root| std::fs::remove_dir(root.join("etc")).unwrap()),
                Found::NoEtc,
            ),
        ] {
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn the_file_is_provided_where_that_can_be() {
        use Access::{ReadOnly, ReadWrite};
        use Found::{Missing, NoEtc, NoFile, Usable};
        #[rustfmt::skip]
        let cases = [
            ("usable",      Usable,  ReadOnly,  false, "", false, Ok(Decision::Nothing)),
            ("usable, --rw", Usable, ReadWrite, false, "", false, Ok(Decision::Nothing)),
            ("missing",     Missing, ReadOnly,  false, "", true,  Ok(Decision::Overlay)),
            ("--overlay",   Missing, ReadOnly,  true,  "", true,  Ok(Decision::Nothing)),
            ("no /etc, --overlay", NoEtc, ReadOnly, true, "", true, Ok(Decision::Nothing)),
            ("asked for",   Missing, ReadOnly,  false, "quiet virtinit.etc=tmpfs", true, Ok(Decision::Nothing)),
            ("no overlayfs", Missing, ReadOnly, false, "xvirtinit.etc", false, Err("no overlayfs")),
            ("--rw",        Missing, ReadWrite, false, "", true,  Err("--rw")),
            ("directory",   NoFile,  ReadOnly,  true,  "", true,  Err("is no file")),
            ("no /etc",     NoEtc,   ReadOnly,  false, "", true,  Err("use --overlay")),
            ("no /etc, --rw", NoEtc, ReadWrite, false, "", true,  Err("--rw")),
        ];
        for (name, found, access, has_overlay, append, can_overlay, expected) in cases {
            let run = Run { access, has_overlay, append: append.as_bytes() };
            match (decide(found, run, || can_overlay), expected) {
                (Decision::Warn(text), Err(part)) => assert!(text.contains(part), "{name}: {text}"),
                (decision, Ok(expected)) => assert_eq!(decision, expected, "{name}"),
                (decision, _) => panic!("{name}: {decision:?}"),
            }
        }
    }
}
