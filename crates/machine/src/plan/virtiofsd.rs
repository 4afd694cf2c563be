//! An installed virtiofsd, and what it can do on this host.
//!
//! There are two implementations: the Rust one (gitlab.com/virtio-fs/virtiofsd) and the C
//! one that came with QEMU up to 7.2. They take different options, and each refuses the
//! options of the other.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use files::named::Named;

use super::shares::{Access, Share};

/// Option of the Rust daemon: show a share to the guest as one file system, although
/// others are mounted in it. Two files of the share can then have the same inode number.
pub const NO_ANNOUNCE: &str = "--no-announce-submounts";

/// Option of the Rust daemon that adds capabilities to its default set or removes some.
pub const MODCAPS: &str = "--modcaps";

/// Implementation of a virtiofsd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// The daemon of QEMU: it must be root, and cannot export read-only.
    C,
    /// The Rust daemon.
    Rust {
        /// Whether the daemon has `--readonly` (since 1.11).
        readonly: bool,
    },
}

/// Restriction of a daemon to the directory that it exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// Mount, PID and network namespaces, and pivot_root(2).
    Namespace,
    /// chroot(2), for hosts (such as containers) that forbid namespaces.
    Chroot,
    /// No restriction, for hosts that forbid even user namespaces. Only the Rust daemon
    /// runs like this.
    None,
}

/// Mechanism that keeps a guest from writing to a read-only share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The guest may write.
    NotNeeded,
    /// The daemon refuses writes (`--readonly`).
    Daemon,
    /// The daemon runs on a read-only mount of the directory.
    Mount,
    /// Nothing on the host; the guest mounts the share read-only.
    GuestOnly,
}

/// An installed virtiofsd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Virtiofsd {
    /// Path of the program.
    pub program: PathBuf,
    /// Implementation.
    pub flavour: Flavour,
    /// Restriction that this host allows.
    pub sandbox: Sandbox,
    /// Whether root starts the daemon. For another user the daemon is root of a user
    /// namespace.
    pub is_root: bool,
    /// Caching in the guest; `None` for the daemon's default.
    pub cache: Option<CacheMode>,
    /// Default behaviour of the daemon.
    pub defaults: DaemonDefaults,
    /// Whether the guest puts an overlay over the root, or over a directory of it.
    pub root_is_lower: bool,
    /// Capabilities of the daemon's default set that root lacks on this host.
    pub left_out: Vec<&'static str>,
}

/// Default behaviour of a daemon, detected in its `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DaemonDefaults {
    /// The daemon tells the guest which directories are mount points
    /// (`--no-announce-submounts` of the Rust daemon stops that).
    pub announces_mounts: bool,
    /// The daemon opens a file with O_NOATIME if the guest does, which only the file's
    /// owner may. Newer daemons drop the flag (unless `--preserve-noatime` is given).
    pub keeps_noatime: bool,
}

/// Cache mode of a share (`--cache`): the data that the guest's kernel may keep. A mode has no
/// help text of its own, so that `--help` lists all modes on one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// Data and metadata, for one second.
    Auto,
    /// Everything, without a limit of time; nobody may change the files on the host.
    Always,
    /// Nothing.
    Never,
    /// Only metadata, for one day (only the Rust daemon).
    Metadata,
}

#[rustfmt::skip]
impl Named for CacheMode {
    const NAMES: &'static [(&'static str, Self, &'static str)] = &[
        ("auto", Self::Auto, ""),
        ("always", Self::Always, ""),
        ("never", Self::Never, ""),
        ("metadata", Self::Metadata, ""),
    ];
}

impl CacheMode {
    /// The mode's name in QEMU's daemon.
    #[must_use]
    pub fn name_in_c(self) -> &'static str {
        match self {
            CacheMode::Never => "none",
            other => other.name(),
        }
    }
}

/// The socket between a daemon and QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DaemonSocket {
    /// A descriptor that the program inherits under this number.
    Fd(i32),
    /// A path: the daemon listens there, and QEMU connects to it.
    Path(PathBuf),
}

impl Virtiofsd {
    /// The same daemon with the cache mode `cache`.
    ///
    /// # Errors
    /// The daemon does not know this mode.
    pub fn with_cache(self, cache: Option<CacheMode>) -> Result<Self> {
        ensure!(
            cache != Some(CacheMode::Metadata) || self.flavour != Flavour::C,
            "--cache metadata: {} is the C virtiofsd of QEMU, which knows only auto, always and \
             never; use the Rust one",
            self.program.display()
        );
        Ok(Self { cache, ..self })
    }

    /// The same daemon with [`Virtiofsd::root_is_lower`] set to `root_is_lower`.
    #[must_use]
    pub fn with_root_as_lower(self, root_is_lower: bool) -> Self {
        Self { root_is_lower, ..self }
    }

    /// Refuses a root whose files the guest could not open; `owner` is the user id of
    /// the root directory's owner.
    ///
    /// # Errors
    /// A user other than root asks for an overlay over a directory that root owns: overlayfs
    /// opens all files with O_NOATIME (`ovl_open_realfile()` of fs/overlayfs/file.c).
    pub fn check_root(&self, share: &Share, owner: u32) -> Result<()> {
        /// User id of the host's root, which has no id in the namespace of a user.
        const ROOT: u32 = 0;
        ensure!(
            self.is_root || !self.defaults.keeps_noatime || !self.root_is_lower || owner != ROOT,
            "--overlay over {}, which is root's: {} could not open its files for you (EPERM, \
             O_NOATIME); use the Rust virtiofsd, one that knows --preserve-noatime, an \
             image of the root, which root makes with `chrootvm image build`, or run chrootvm as root",
            share.source.display(),
            self.program.display()
        );
        Ok(())
    }

    /// Whether chrootvm may mount for the daemon, in a mount namespace of its own.
    fn may_mount(&self) -> bool {
        // An ordinary user may always mount: chrootvm is then root of a user namespace,
        // whatever sandbox the daemon uses.
        match self.sandbox {
            Sandbox::Namespace => true,
            Sandbox::Chroot => !self.is_root,
            Sandbox::None => false,
        }
    }

    /// Refuses a share of a single file if chrootvm cannot make a directory that has only the
    /// file.
    ///
    /// # Errors
    /// Mounting is not allowed; the error says what to share instead.
    pub fn check_file(&self, share: &Share) -> Result<()> {
        let Some(file) = share.file() else { return Ok(()) };
        ensure!(
            self.may_mount(),
            "share the file {}: mounting is not allowed here, and virtiofs shares directories only; \
             share {} with all that is in it, or a directory that has nothing but the file",
            file.display(),
            file.parent().unwrap_or(file).display()
        );
        Ok(())
    }

    /// The mechanism that keeps a guest from writing to `share`.
    #[must_use]
    pub fn guard(&self, share: &Share) -> Guard {
        match (share.access, self.flavour) {
            (Access::ReadWrite, _) => Guard::NotNeeded,
            (_, Flavour::Rust { readonly: true }) => Guard::Daemon,
            _ if self.may_mount() => Guard::Mount,
            _ => Guard::GuestOnly,
        }
    }
}

/// A daemon that root starts, for tests.
#[cfg(test)]
#[must_use]
pub fn sample(flavour: Flavour) -> Virtiofsd {
    Virtiofsd {
        program: "v".into(),
        flavour,
        sandbox: Sandbox::Chroot,
        is_root: true,
        cache: None,
        defaults: DaemonDefaults { announces_mounts: false, keeps_noatime: true },
        root_is_lower: false,
        left_out: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::sample as daemon;
    use super::*;
    use crate::plan::shares::MountPoint;

    #[test]
    fn the_guard_of_a_read_only_share_depends_on_daemon_and_host() {
        let share = |access| {
            let (tag, source) = ("t".into(), "/".into());
            Share { tag, source, access, mount_point: MountPoint::Tag }
        };
        let new = Flavour::Rust { readonly: true };
        let old = Flavour::Rust { readonly: false };
        for (is_root, flavour, sandbox, access, expected) in [
            (true, Flavour::C, Sandbox::Namespace, Access::ReadWrite, Guard::NotNeeded),
            (true, Flavour::C, Sandbox::Namespace, Access::ReadOnly, Guard::Mount),
            (true, Flavour::C, Sandbox::Chroot, Access::ReadOnly, Guard::GuestOnly),
            (false, Flavour::C, Sandbox::Namespace, Access::ReadOnly, Guard::Mount),
            (false, Flavour::C, Sandbox::Chroot, Access::ReadOnly, Guard::Mount),
            (true, new, Sandbox::Chroot, Access::ReadOnly, Guard::Daemon),
            (false, new, Sandbox::None, Access::ReadOnly, Guard::Daemon),
            (true, old, Sandbox::Namespace, Access::ReadOnly, Guard::Mount),
            (false, old, Sandbox::Namespace, Access::ReadOnly, Guard::Mount),
            (false, old, Sandbox::None, Access::ReadOnly, Guard::GuestOnly),
        ] {
            let daemon = Virtiofsd { sandbox, is_root, ..daemon(flavour) };
            assert_eq!(daemon.guard(&share(access)), expected, "{daemon:?}");
        }
    }

    #[test]
    fn a_file_is_shared_where_mounting_is_allowed() {
        let share = |mount_point| {
            let (tag, source, access) = ("t".into(), "/d/f".into(), Access::ReadWrite);
            Share { tag, source, access, mount_point }
        };
        for (is_root, sandbox, expected) in [
            (true, Sandbox::Namespace, true),
            (true, Sandbox::Chroot, false),
            (false, Sandbox::Namespace, true),
            (false, Sandbox::Chroot, true),
            (false, Sandbox::None, false),
        ] {
            let daemon = Virtiofsd { sandbox, is_root, ..daemon(Flavour::C) };
            let found = daemon.check_file(&share(MountPoint::File("/a".into())));
            assert_eq!(found.is_ok(), expected, "{daemon:?}");
            if let Err(error) = found {
                assert!(error.to_string().contains("share /d with all that is in it"), "{error}");
            }
            daemon.check_file(&share(MountPoint::Volume("/a".into()))).unwrap();
        }
    }

    #[test]
    fn an_ordinary_user_gets_no_overlay_over_a_directory_of_root() {
        let (tag, access) = ("t".into(), Access::ReadOnly);
        let share = Share { tag, source: "/".into(), access, mount_point: MountPoint::Root };
        for (is_root, keeps_noatime, root_is_lower, owner, expected) in [
            (false, true, true, 0, false),
            (true, true, true, 0, true),
            (false, false, true, 0, true),
            (false, true, false, 0, true),
            (false, true, true, 1000, true),
        ] {
            let defaults = DaemonDefaults { announces_mounts: false, keeps_noatime };
            let daemon = Virtiofsd { is_root, defaults, root_is_lower, ..daemon(Flavour::C) };
            assert_eq!(daemon.check_root(&share, owner).is_ok(), expected, "{daemon:?}");
        }
    }
}
