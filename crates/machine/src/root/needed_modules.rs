//! Kernel modules that the contents of a root ask for, beside those that mount the root.
//!
//! `/init` uses overlayfs for volumes of an image, for an `/etc/hosts` that a read-only root
//! lacks, and for missing mount points. A workload ends when somebody presses the power button
//! of its machine, for which the kernel needs two drivers.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use files::lookup::Files;
use proto::settings::{Command, IMAGE_FILE, MAX};

use crate::plan::shares::Access;

/// Module of overlayfs.
const OVERLAY: &str = "overlay";

/// Modules of the power button: the driver of ACPI, and the one through which a program reads it.
pub const POWER_BUTTON: [&str; 2] = ["button", "evdev"];

/// Directories on which the guest mounts file systems of its own.
const MOUNT_POINTS: [&str; 5] = ["run", "dev", "proc", "sys", "tmp"];

/// Program that the machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A command of the host, or INIT.
    Named,
    /// The workload that the root configures, if it configures one.
    OfRoot,
}

/// Origin of the contents of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A directory of the host. It may not be a whole system, so what it lacks counts only if it
    /// configures a workload.
    Directory,
    /// An image.
    Image,
}

/// Names of the modules for `root`, which the machine mounts with `access` and without an
/// overlay. The kernel may lack some of them: then the guest goes on without what they do.
#[must_use]
pub fn modules(
    root: &dyn Files,
    origin: Origin,
    access: Access,
    program: Program,
) -> Vec<&'static str> {
    let path = Path::new(OsStr::from_bytes(IMAGE_FILE.as_bytes()));
    let path = path.strip_prefix("/").unwrap_or(path);
    let text = match program {
        Program::OfRoot => root.read(path, MAX as u64).ok(),
        Program::Named => None,
    };
    let has_volumes = text.as_deref().is_some_and(|text| {
        Command::parse(text).is_ok_and(|command| !command.image_volumes.is_empty())
    });
    let lacks_hosts = root.is_dir(Path::new("etc")) && !root.is_file(Path::new("etc/hosts"));
    let lacks_mount_points = MOUNT_POINTS.iter().any(|name| {
        let name = Path::new(name);
        !root.is_dir(name) && root.link(name).is_none()
    });
    let is_whole = origin == Origin::Image || text.is_some();
    let lacks_any = is_whole && (lacks_hosts || lacks_mount_points);
    let needs_overlay = access == Access::ReadOnly && (has_volumes || lacks_any);
    let button = text.map(|_| POWER_BUTTON).into_iter().flatten();
    needs_overlay.then_some(OVERLAY).into_iter().chain(button).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use files::root_dir::RootDir;
    use proto::settings::{Record, encode};

    /// A root that has everything, then changed by `change`, as `modules` sees it.
    fn of(change: impl FnOnce(&Path), access: Access, program: Program) -> Vec<&'static str> {
        let dir = tempfile::tempdir().unwrap();
        for name in MOUNT_POINTS.iter().chain(&["etc/virtinit"]) {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("etc/hosts"), "").unwrap();
        change(dir.path());
        modules(&RootDir::open(dir.path()).unwrap(), Origin::Image, access, program)
    }

    fn workload(records: &'static [Record<'_>]) -> impl Fn(&Path) {
        |root| std::fs::write(root.join("etc/virtinit/run"), encode(records)).unwrap()
    }

    #[test]
    fn contents_decide_about_modules() {
        use Access::{ReadOnly, ReadWrite};
        use Program::{Named, OfRoot};
        const PLAIN: &[Record<'_>] = &[Record::Arg(b"app")];
        const VOLUMES: &[Record<'_>] = &[Record::Arg(b"app"), Record::ImageVolume(b"/data")];
        let none: &[&str] = &[];
        for (name, found, expected) in [
            ("nothing missing", of(|_| {}, ReadOnly, OfRoot), none),
            ("a workload", of(workload(PLAIN), ReadOnly, OfRoot), &["button", "evdev"]),
            ("volumes", of(workload(VOLUMES), ReadOnly, OfRoot), &["overlay", "button", "evdev"]),
            ("a writable root", of(workload(VOLUMES), ReadWrite, OfRoot), &["button", "evdev"]),
            ("another program", of(workload(VOLUMES), ReadOnly, Named), none),
            (
                "no hosts",
                of(|root| std::fs::remove_file(root.join("etc/hosts")).unwrap(), ReadOnly, Named),
                &["overlay"],
            ),
            (
                "no mount point",
                of(|root| std::fs::remove_dir(root.join("proc")).unwrap(), ReadOnly, Named),
                &["overlay"],
            ),
            (
                "no /etc",
                of(|root| std::fs::remove_dir_all(root.join("etc")).unwrap(), ReadOnly, Named),
                none,
            ),
        ] {
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn a_directory_need_not_be_a_system() {
        let dir = tempfile::tempdir().unwrap();
        let of = || {
            let root = RootDir::open(dir.path()).unwrap();
            modules(&root, Origin::Directory, Access::ReadOnly, Program::OfRoot)
        };
        assert!(of().is_empty());
        std::fs::create_dir_all(dir.path().join("etc/virtinit")).unwrap();
        workload(&[Record::Arg(b"app")])(dir.path());
        assert_eq!(of(), ["overlay", "button", "evdev"]);
    }
}
