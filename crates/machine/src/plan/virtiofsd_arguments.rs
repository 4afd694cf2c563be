//! The command line of virtiofsd, in either implementation.
//!
//! Interfaces: virtiofsd(1) of QEMU up to 7.2; README.md of
//! gitlab.com/virtio-fs/virtiofsd.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use files::named::Named;

use super::shares::{Access, MountPoint, Share};
use super::virtiofsd::{DaemonSocket, Flavour, MODCAPS, NO_ANNOUNCE, Sandbox, Virtiofsd};

/// Option of the Rust daemon: keep files open instead of opening them by handle, which
/// needs [`HANDLES_CAP`] (open_by_handle_at(2)). Each daemon that knows [`MODCAPS`] knows
/// this option.
const NO_HANDLES: &str = "--inode-file-handles=never";

/// Capability for opening a file by handle (`CAP_DAC_READ_SEARCH`), in the spelling of the
/// daemon.
const HANDLES_CAP: &str = "dac_read_search";

impl Virtiofsd {
    /// Arguments of the daemon that exports `share` through `socket`.
    #[must_use]
    pub fn arguments(&self, share: &Share, socket: &DaemonSocket) -> Vec<OsString> {
        let sandbox = match self.sandbox {
            Sandbox::Namespace => "namespace",
            Sandbox::Chroot => "chroot",
            Sandbox::None => "none",
        };
        let joined =
            |key: &str, path: &Path| [OsStr::new(key), path.as_os_str()].into_iter().collect();
        let source = reachable(share.exported());
        let mut arguments: Vec<OsString> = vec![match socket {
            DaemonSocket::Fd(fd) => format!("--fd={fd}").into(),
            DaemonSocket::Path(path) => joined("--socket-path=", path),
        }];
        match self.flavour {
            Flavour::C => {
                let source = joined("source=", Path::new(&escape(source.as_os_str())));
                let sandbox = format!("sandbox={sandbox}").into();
                let cache = self.cache.map(|mode| format!("cache={}", mode.name_in_c()).into());
                let options = [source, sandbox, "xattr".into(), "log_level=err".into()];
                for option in options.into_iter().chain(cache) {
                    arguments.extend(["-o".into(), option]);
                }
            }
            Flavour::Rust { readonly } => {
                arguments.extend(["--shared-dir".into(), source.into()]);
                arguments
                    .extend(["--sandbox", sandbox, "--xattr", "--log-level=error"].map(Into::into));
                let cache = self.cache.map(|mode| format!("--cache={}", mode.name()).into());
                arguments.extend(cache);
                if readonly && share.access == Access::ReadOnly {
                    arguments.push("--readonly".into());
                }
                if !self.left_out.is_empty() {
                    let words: Vec<_> = self.left_out.iter().map(|cap| format!("-{cap}")).collect();
                    arguments.push(format!("{MODCAPS}={}", words.join(":")).into());
                    // Newer daemons open files by handle unless told otherwise.
                    if self.left_out.contains(&HANDLES_CAP) {
                        arguments.push(NO_HANDLES.into());
                    }
                }
                // The guest makes an automount of an announced mount point, and overlayfs
                // refuses automounts (EREMOTE, `ovl_dentry_weird()`).
                if self.defaults.announces_mounts
                    && self.root_is_lower
                    && share.mount_point == MountPoint::Root
                {
                    arguments.push(NO_ANNOUNCE.into());
                }
            }
        }
        arguments
    }
}

/// The path by which a daemon is given `dir`. A mount on top of `/` is reached only by the
/// path `/..` (`follow_dotdot()` of fs/namei.c). QEMU's daemon makes such a mount, and fails
/// if it is given `/`.
#[must_use]
pub fn reachable(dir: &Path) -> PathBuf {
    if dir == Path::new("/") { "/..".into() } else { dir.to_path_buf() }
}

/// Escapes `value` for the comma-separated option `-o` of the C daemon.
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
    use crate::plan::virtiofsd::{CacheMode, DaemonDefaults, sample as daemon};

    fn arguments(flavour: Flavour, access: Access) -> String {
        let daemon = daemon(flavour);
        let (tag, source) = ("t".into(), "/a b,\\".into());
        let share = Share { tag, source, access, mount_point: MountPoint::Tag };
        daemon.arguments(&share, &DaemonSocket::Fd(3)).join(OsStr::new("|")).into_string().unwrap()
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
    fn the_rust_daemon_asks_for_no_capability_that_root_lacks() {
        let (tag, access) = ("t".into(), Access::ReadWrite);
        let share = Share { tag, source: "/r".into(), access, mount_point: MountPoint::Root };
        let new = Flavour::Rust { readonly: true };
        for (flavour, left_out, expected) in [
            (new, vec!["dac_read_search", "mknod"], Some("--modcaps=-dac_read_search:-mknod")),
            (new, vec![], None),
            (Flavour::C, vec!["mknod"], None),
        ] {
            let daemon = Virtiofsd { left_out, ..daemon(flavour) };
            let arguments = daemon.arguments(&share, &DaemonSocket::Fd(3));
            let mut words = arguments.iter().filter_map(|one| one.to_str());
            let found = words.find(|one| one.starts_with(MODCAPS));
            assert_eq!(found, expected, "{daemon:?}");
            let by_descriptor = arguments.iter().any(|one| one == NO_HANDLES);
            assert_eq!(by_descriptor, expected.is_some(), "{daemon:?}");
        }
    }

    #[test]
    fn mount_points_below_an_overlay_are_not_announced() {
        let new = Flavour::Rust { readonly: true };
        for (flavour, announces_mounts, root_is_lower, mount_point, expected) in [
            (new, true, true, MountPoint::Root, true),
            (new, true, true, MountPoint::Volume("/v".into()), false),
            (new, true, false, MountPoint::Root, false),
            (new, false, true, MountPoint::Root, false),
            (Flavour::C, false, true, MountPoint::Root, false),
        ] {
            let defaults = DaemonDefaults { announces_mounts, keeps_noatime: true };
            let daemon = Virtiofsd { defaults, root_is_lower, ..daemon(flavour) };
            let (tag, access) = ("t".into(), Access::ReadOnly);
            let share = Share { tag, source: "/r".into(), access, mount_point };
            let arguments = daemon.arguments(&share, &DaemonSocket::Fd(3));
            assert_eq!(arguments.iter().any(|one| one == NO_ANNOUNCE), expected, "{daemon:?}");
        }
    }

    #[test]
    fn the_root_of_the_host_is_exported_by_another_path() {
        let (tag, access, mount_point) = ("t".into(), Access::ReadWrite, MountPoint::Root);
        let share = Share { tag, source: "/".into(), access, mount_point };
        for (flavour, word) in
            [(Flavour::C, "source=/.."), (Flavour::Rust { readonly: true }, "/..")]
        {
            let arguments = daemon(flavour).arguments(&share, &DaemonSocket::Fd(3));
            assert!(arguments.iter().any(|one| one == word), "{arguments:?}");
        }
    }

    #[test]
    fn the_daemon_of_a_file_exports_a_directory_with_nothing_else() {
        let (tag, access) = ("t".into(), Access::ReadWrite);
        let mount_point = MountPoint::File("/etc/a".into());
        let share = Share { tag, source: "/home/me/a".into(), access, mount_point };
        for (flavour, word) in
            [(Flavour::C, "source=/sys"), (Flavour::Rust { readonly: true }, "/sys")]
        {
            let arguments = daemon(flavour).arguments(&share, &DaemonSocket::Fd(3));
            assert!(arguments.iter().any(|one| one == word), "{arguments:?}");
            let names_file = arguments.iter().any(|one| one.to_string_lossy().contains("/home/me"));
            assert!(!names_file, "{arguments:?}");
        }
    }

    #[test]
    fn each_flavour_has_its_own_names_of_cache_modes() {
        let (tag, source, access) = ("t".into(), "/".into(), Access::ReadWrite);
        let share = Share { tag, source, access, mount_point: MountPoint::Tag };
        let new = Flavour::Rust { readonly: true };
        for (flavour, mode, expected) in [
            (Flavour::C, CacheMode::Always, Some("cache=always")),
            (Flavour::C, CacheMode::Never, Some("cache=none")),
            (Flavour::C, CacheMode::Metadata, None),
            (new, CacheMode::Never, Some("--cache=never")),
            (new, CacheMode::Metadata, Some("--cache=metadata")),
        ] {
            let daemon = daemon(flavour).with_cache(Some(mode)).ok();
            let arguments = daemon.map(|daemon| daemon.arguments(&share, &DaemonSocket::Fd(3)));
            let last = arguments.as_ref().and_then(|arguments| arguments.last());
            assert_eq!(last.and_then(|last| last.to_str()), expected, "{flavour:?} {mode:?}");
        }
    }

    #[test]
    fn only_the_root_has_another_path() {
        assert_eq!(reachable(Path::new("/")), Path::new("/.."));
        assert_eq!(reachable(Path::new("/srv")), Path::new("/srv"));
    }
}
