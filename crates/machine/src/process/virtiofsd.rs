//! The daemon that exports a directory, in its two implementations.
//!
//! The Rust one (gitlab.com/virtio-fs/virtiofsd) and the C one that came with
//! QEMU up to 7.2 take different options; neither reads the other's.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use files::named::Named;
use nix::unistd::{geteuid, getgroups};

use crate::host;
use crate::isolation::sandbox;
pub use crate::isolation::sandbox::Sandbox;
use crate::isolation::userns::UserNamespace;
use crate::plan::{Access, Share};

/// Where distributions put it; `PATH` comes after these.
const DIRS: &[&str] = &["/usr/libexec", "/usr/lib", "/usr/lib/qemu"];

/// Option of the Rust daemon: the guest sees a share as one file system, whatever is
/// mounted in it. Then two of its files can have the same inode number.
pub const NO_ANNOUNCE: &str = "--no-announce-submounts";

/// Option of the Rust daemon: capabilities to ask for besides the usual ones, or not.
pub const MODCAPS: &str = "--modcaps";

/// Which implementation, and what it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// QEMU's: insists on being root, cannot export read-only.
    C,
    /// The Rust one; `readonly` tells whether it has `--readonly` (1.11).
    Rust {
        /// Can export read-only.
        readonly: bool,
    },
}

/// What keeps a guest from writing to a read-only share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// It may write.
    NotNeeded,
    /// The daemon refuses (`--readonly`).
    Daemon,
    /// The daemon runs on a read-only mount of the directory.
    Mount,
    /// Nothing does but the guest's own mount flag.
    GuestOnly,
}

/// An installed virtiofsd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Virtiofsd {
    /// The program.
    pub program: PathBuf,
    /// Its kind.
    pub flavour: Flavour,
    /// What it may do here.
    pub sandbox: Sandbox,
    /// Whether it is started by root; other users are root of a user namespace.
    pub is_root: bool,
    /// What the guest's kernel may keep, where it is not the daemon's own choice.
    pub cache: Option<CacheMode>,
    /// What the daemon does unless it is told otherwise.
    pub defaults: Defaults,
    /// Whether the guest puts an overlay over the root, or over a part of it.
    pub root_is_lower: bool,
    /// Capabilities that it must not ask for: this host's root lacks them.
    pub left_out: Vec<&'static str>,
}

/// Default behaviour of a daemon, found in its --help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// It tells the guest which directories are mount points
    /// (`--no-announce-submounts` of the Rust one).
    pub announces_mounts: bool,
    /// It opens a file with O_NOATIME where the guest does, which only the file's
    /// owner may; newer ones leave it out (`--preserve-noatime`).
    pub keeps_noatime: bool,
}

/// A daemon as it can run here.
#[derive(Debug)]
pub struct Housed {
    /// The daemon.
    pub daemon: Virtiofsd,
    /// The user namespace that a user's daemon needs; it lives as long as this.
    pub namespace: Option<UserNamespace>,
    /// What a user has to put up with.
    pub warning: Option<String>,
}

/// What the guest's kernel may keep of what the host has. In `--help` the values
/// are but listed: their own help would spread every option over lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// Data and metadata for a second.
    Auto,
    /// Everything for ever; the host must not change it.
    Always,
    /// Nothing.
    Never,
    /// Metadata only, for a day (Rust virtiofsd only).
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

/// How the daemon gets its listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Socket {
    /// An inherited descriptor.
    Fd(i32),
    /// A path at which it listens itself.
    Path(PathBuf),
}

/// Finds a virtiofsd, or takes the given one, and asks it what it is.
pub fn find(explicit: Option<&Path>) -> Result<Virtiofsd> {
    let program = match explicit {
        Some(file) => {
            ensure!(host::is_executable(file), "{} is no executable file", file.display());
            // A bare name would be searched in PATH.
            host::absolute(file)?
        }
        None => installed().context(
            "virtiofsd not found in /usr/libexec, /usr/lib, /usr/lib/qemu or PATH; install the \
             package virtiofsd (Debian 12: qemu-system-common)",
        )?,
    };
    probe(program)
}

/// Asks a virtiofsd what it is.
pub fn probe(program: PathBuf) -> Result<Virtiofsd> {
    let help = Command::new(&program).arg("--help").output();
    let help = help.with_context(|| format!("run {} --help", program.display()))?;
    let help = [&help.stdout[..], &help.stderr].concat();
    let help = String::from_utf8_lossy(&help);
    let flavour = flavour(&help)
        .with_context(|| format!("{}: its --help is of no known virtiofsd", program.display()))?;
    let is_root = geteuid().is_root();
    Ok(Virtiofsd {
        program,
        flavour,
        sandbox: sandbox::of_host(is_root),
        is_root,
        cache: None,
        defaults: Defaults {
            announces_mounts: help.contains(NO_ANNOUNCE),
            keeps_noatime: !help.contains("--preserve-noatime"),
        },
        root_is_lower: false,
        left_out: match is_root && help.contains(MODCAPS) {
            true => sandbox::missing_capabilities(),
            false => Vec::new(),
        },
    })
}

/// The virtiofsd of this host, whatever it is.
#[must_use]
pub fn installed() -> Option<PathBuf> {
    DIRS.iter()
        .map(|dir| Path::new(dir).join("virtiofsd"))
        .find(|path| host::is_executable(path))
        .or_else(|| host::find_program(OsStr::new("virtiofsd")))
}

fn flavour(help: &str) -> Result<Flavour> {
    // QEMU's drops its groups before it reads its options, which users may not.
    let is_c = help.contains("-o source=") || help.starts_with("setgroups() failed");
    match (help.contains("--shared-dir"), is_c) {
        (true, _) => Ok(Flavour::Rust { readonly: help.contains("--readonly") }),
        (false, true) => Ok(Flavour::C),
        (false, false) => bail!("neither --shared-dir nor -o source="),
    }
}

impl Virtiofsd {
    /// With another cache mode than its own.
    pub fn with_cache(self, cache: Option<CacheMode>) -> Result<Self> {
        ensure!(
            cache != Some(CacheMode::Metadata) || self.flavour != Flavour::C,
            "--cache metadata: {} is the C virtiofsd of QEMU, which knows only auto, always and \
             never; use the Rust one",
            self.program.display()
        );
        Ok(Self { cache, ..self })
    }

    /// The same daemon, with [`Virtiofsd::root_is_lower`] set.
    #[must_use]
    pub fn with_root_as_lower(self, root_is_lower: bool) -> Self {
        Self { root_is_lower, ..self }
    }

    /// Refuses a root whose files the guest could not open; `owner` is the user id of
    /// the root directory's owner.
    ///
    /// # Errors
    /// A user other than root asks for an overlay over a directory of root's: overlayfs
    /// opens all files with O_NOATIME (`ovl_open_realfile()` of fs/overlayfs/file.c).
    pub fn check_root(&self, share: &Share, owner: u32) -> Result<()> {
        /// User id of the host's root, which is not mapped into a user's namespace.
        const ROOT: u32 = 0;
        ensure!(
            self.is_root || !self.defaults.keeps_noatime || !self.root_is_lower || owner != ROOT,
            "--overlay over {}, which is root's: {} could not open its files for you (EPERM, \
             O_NOATIME); use the Rust virtiofsd, one that knows --preserve-noatime, or \
             run chrootvm as root",
            share.source.display(),
            self.program.display()
        );
        Ok(())
    }

    /// The daemon as it can run here.
    pub fn housed(&self) -> Result<Housed> {
        let program = self.program.display();
        let daemon = self.clone();
        if self.is_root {
            return Ok(Housed { daemon, namespace: None, warning: None });
        }
        let namespace = match (UserNamespace::new(), self.flavour) {
            (Ok(namespace), _) => namespace,
            (Err(error), Flavour::C) => {
                return Err(error).with_context(|| {
                    format!(
                        "{program} is the C virtiofsd of QEMU, which must be root, if only of a \
                         user namespace; run chrootvm as root or install the Rust virtiofsd"
                    )
                });
            }
            (Err(error), Flavour::Rust { .. }) => {
                let warning = format!(
                    "{program} runs without a sandbox, with all your rights, and owners are \
                     those of the host: {error:#}"
                );
                let daemon = Self { sandbox: Sandbox::None, ..daemon };
                return Ok(Housed { daemon, namespace: None, warning: Some(warning) });
            }
        };
        let mut warnings = namespace.left_out.clone();
        if let Some(lack) = namespace.lack() {
            ensure!(
                self.flavour != Flavour::C || namespace.has_groups || getgroups()?.is_empty(),
                "{program} is the C virtiofsd of QEMU, which drops your supplementary groups and \
                 needs subordinate ids for that: {lack}; or install the Rust virtiofsd"
            );
            warnings.push(format!(
                "the guest sees only your own files as root's, all others as nobody's, \
                 and can make none for another user than root: {lack}"
            ));
        }
        let warning = (!warnings.is_empty()).then(|| warnings.join("; "));
        Ok(Housed { daemon, namespace: Some(namespace), warning })
    }

    /// Who sees to it that a share is read-only, guest or no guest.
    #[must_use]
    pub fn guard(&self, share: &Share) -> Guard {
        // A user mounts as root of a user namespace, whatever the daemon does there.
        let may_mount = match self.sandbox {
            Sandbox::Namespace => true,
            Sandbox::Chroot => !self.is_root,
            Sandbox::None => false,
        };
        match (share.access, self.flavour) {
            (Access::ReadWrite, _) => Guard::NotNeeded,
            (_, Flavour::Rust { readonly: true }) => Guard::Daemon,
            _ if may_mount => Guard::Mount,
            _ => Guard::GuestOnly,
        }
    }
}

impl CacheMode {
    /// As our option and the Rust daemon have it.
    pub(super) fn word(self) -> &'static str {
        match self {
            CacheMode::Auto => "auto",
            CacheMode::Always => "always",
            CacheMode::Never => "never",
            CacheMode::Metadata => "metadata",
        }
    }

    /// As QEMU's daemon has it.
    pub(super) fn word_of_c(self) -> &'static str {
        match self {
            CacheMode::Never => "none",
            other => other.word(),
        }
    }
}

/// A daemon of root's, for tests.
#[cfg(test)]
#[must_use]
pub fn sample(flavour: Flavour) -> Virtiofsd {
    Virtiofsd {
        program: "v".into(),
        flavour,
        sandbox: Sandbox::Chroot,
        is_root: true,
        cache: None,
        defaults: Defaults { announces_mounts: false, keeps_noatime: true },
        root_is_lower: false,
        left_out: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::sample as daemon;
    use super::*;
    use crate::plan::Place;

    #[test]
    fn somebody_guards_a_read_only_share() {
        let place = Place::Tag;
        let share = |access| Share { tag: "t".into(), source: "/".into(), access, place };
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
    fn a_users_overlay_needs_files_that_can_be_opened() {
        let (tag, access) = ("t".into(), Access::ReadOnly);
        let share = Share { tag, source: "/".into(), access, place: Place::Root };
        for (is_root, keeps_noatime, root_is_lower, owner, expected) in [
            (false, true, true, 0, false),
            (true, true, true, 0, true),
            (false, false, true, 0, true),
            (false, true, false, 0, true),
            (false, true, true, 1000, true),
        ] {
            let defaults = Defaults { announces_mounts: false, keeps_noatime };
            let daemon = Virtiofsd { is_root, defaults, root_is_lower, ..daemon(Flavour::C) };
            assert_eq!(daemon.check_root(&share, owner).is_ok(), expected, "{daemon:?}");
        }
    }

    #[test]
    fn flavours_are_told_by_their_help() {
        assert_eq!(flavour("    -o source=PATH   shared directory tree").unwrap(), Flavour::C);
        assert_eq!(
            flavour("--shared-dir <SHARED_DIR>\n--readonly").unwrap(),
            Flavour::Rust { readonly: true }
        );
        let of_user = "setgroups() failed with error=1:Operation not permitted";
        assert_eq!(flavour(of_user).unwrap(), Flavour::C);
        assert!(flavour("usage: ls").is_err());
    }
}
