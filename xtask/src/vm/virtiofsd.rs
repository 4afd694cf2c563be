//! The daemon that exports a directory, in its two implementations.
//!
//! The Rust one (gitlab.com/virtio-fs/virtiofsd) and the C one that came with
//! QEMU up to 7.2 take different options; neither reads the other's.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{geteuid, getgroups};

use super::plan::{Access, Share};
use super::sandbox;
pub use super::sandbox::Sandbox;
use super::userns::UserNamespace;
use crate::{host, pack};

/// Where distributions put it; `PATH` comes after these.
const DIRS: &[&str] = &["/usr/libexec", "/usr/lib", "/usr/lib/qemu"];

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CacheMode {
    /// Data and metadata for a second.
    #[value(help = None::<&str>)]
    Auto,
    /// Everything for ever; the host must not change it.
    #[value(help = None::<&str>)]
    Always,
    /// Nothing.
    #[value(help = None::<&str>)]
    Never,
    /// Metadata only, for a day (Rust virtiofsd only).
    #[value(help = None::<&str>)]
    Metadata,
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
            pack::absolute(file)?
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
    let flavour = flavour(&String::from_utf8_lossy(&help))
        .with_context(|| format!("{}: its --help is of no known virtiofsd", program.display()))?;
    let is_root = geteuid().is_root();
    Ok(Virtiofsd { program, flavour, sandbox: sandbox::of_host(is_root), is_root, cache: None })
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

    /// The daemon's arguments.
    #[must_use]
    pub fn arguments(&self, share: &Share, socket: &Socket) -> Vec<OsString> {
        let sandbox = match self.sandbox {
            Sandbox::Namespace => "namespace",
            Sandbox::Chroot => "chroot",
            Sandbox::None => "none",
        };
        let joined =
            |key: &str, path: &Path| [OsStr::new(key), path.as_os_str()].into_iter().collect();
        let mut arguments: Vec<OsString> = vec![match socket {
            Socket::Fd(fd) => format!("--fd={fd}").into(),
            Socket::Path(path) => joined("--socket-path=", path),
        }];
        match self.flavour {
            Flavour::C => {
                let source = joined("source=", Path::new(&escape(share.source.as_os_str())));
                let sandbox = format!("sandbox={sandbox}").into();
                let cache = self.cache.map(|mode| format!("cache={}", mode.word_of_c()).into());
                let options = [source, sandbox, "xattr".into(), "log_level=err".into()];
                for option in options.into_iter().chain(cache) {
                    arguments.extend(["-o".into(), option]);
                }
            }
            Flavour::Rust { readonly } => {
                arguments.extend(["--shared-dir".into(), share.source.clone().into()]);
                arguments
                    .extend(["--sandbox", sandbox, "--xattr", "--log-level=error"].map(Into::into));
                let cache = self.cache.map(|mode| format!("--cache={}", mode.word()).into());
                arguments.extend(cache);
                if readonly && share.access == Access::ReadOnly {
                    arguments.push("--readonly".into());
                }
            }
        }
        arguments
    }
}

impl CacheMode {
    /// As our option and the Rust daemon have it.
    fn word(self) -> &'static str {
        match self {
            CacheMode::Auto => "auto",
            CacheMode::Always => "always",
            CacheMode::Never => "never",
            CacheMode::Metadata => "metadata",
        }
    }

    fn word_of_c(self) -> &'static str {
        match self {
            CacheMode::Never => "none",
            other => other.word(),
        }
    }
}

/// A value inside the C daemon's comma-separated `-o`.
fn escape(value: &OsStr) -> OsString {
    let special = |byte: &u8| matches!(byte, b',' | b'\\');
    let bytes = value.as_bytes().iter().flat_map(|byte| {
        let escape = special(byte).then_some(b'\\');
        escape.into_iter().chain([*byte])
    });
    OsString::from_vec(bytes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::plan::Place;

    fn daemon(flavour: Flavour) -> Virtiofsd {
        let (sandbox, is_root) = (Sandbox::Chroot, true);
        Virtiofsd { program: "v".into(), flavour, sandbox, is_root, cache: None }
    }

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

    fn arguments(flavour: Flavour, access: Access) -> String {
        let daemon = daemon(flavour);
        let (tag, source) = ("t".into(), "/a b,\\".into());
        let share = Share { tag, source, access, place: Place::Tag };
        daemon.arguments(&share, &Socket::Fd(3)).join(OsStr::new("|")).into_string().unwrap()
    }

    #[test]
    fn each_flavour_gets_its_own_options() {
        assert_eq!(
            arguments(Flavour::C, Access::ReadOnly),
            "--fd=3|-o|source=/a b\\,\\\\|-o|sandbox=chroot|-o|xattr|-o|log_level=err"
        );
        let rust = "--fd=3|--shared-dir|/a b,\\|--sandbox|chroot|--xattr|--log-level=error";
        let new = Flavour::Rust { readonly: true };
        assert_eq!(arguments(new, Access::ReadWrite), rust);
        assert_eq!(arguments(new, Access::ReadOnly), format!("{rust}|--readonly"));
        assert_eq!(arguments(Flavour::Rust { readonly: false }, Access::ReadOnly), rust);
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

    #[test]
    fn each_flavour_has_its_own_words_for_caching() {
        let (tag, source, access) = ("t".into(), "/".into(), Access::ReadWrite);
        let share = Share { tag, source, access, place: Place::Tag };
        let new = Flavour::Rust { readonly: true };
        for (flavour, mode, expected) in [
            (Flavour::C, CacheMode::Always, Some("cache=always")),
            (Flavour::C, CacheMode::Never, Some("cache=none")),
            (Flavour::C, CacheMode::Metadata, None),
            (new, CacheMode::Never, Some("--cache=never")),
            (new, CacheMode::Metadata, Some("--cache=metadata")),
        ] {
            let daemon = daemon(flavour).with_cache(Some(mode)).ok();
            let arguments = daemon.map(|daemon| daemon.arguments(&share, &Socket::Fd(3)));
            let last = arguments.as_ref().and_then(|arguments| arguments.last());
            assert_eq!(last.and_then(|last| last.to_str()), expected, "{flavour:?} {mode:?}");
        }
    }
}
