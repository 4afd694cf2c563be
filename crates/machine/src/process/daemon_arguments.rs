//! The command line of either virtiofsd.
//!
//! Interfaces: virtiofsd(1) of QEMU up to 7.2; README.md of
//! gitlab.com/virtio-fs/virtiofsd.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::virtiofsd::{Flavour, MODCAPS, NO_ANNOUNCE, Sandbox, Socket, Virtiofsd};
use crate::isolation::read_only;
use crate::plan::{Access, Place, Share};

/// Option of the Rust daemon, as old as [`MODCAPS`]: keep files open instead of
/// opening them by handle, which takes [`HANDLES_CAP`] (open_by_handle_at(2)).
const NO_HANDLES: &str = "--inode-file-handles=never";

/// What opening a file by handle takes, in the daemon's words.
const HANDLES_CAP: &str = "dac_read_search";

impl Virtiofsd {
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
        let source = read_only::reachable(&share.source);
        let mut arguments: Vec<OsString> = vec![match socket {
            Socket::Fd(fd) => format!("--fd={fd}").into(),
            Socket::Path(path) => joined("--socket-path=", path),
        }];
        match self.flavour {
            Flavour::C => {
                let source = joined("source=", Path::new(&escape(source.as_os_str())));
                let sandbox = format!("sandbox={sandbox}").into();
                let cache = self.cache.map(|mode| format!("cache={}", mode.word_of_c()).into());
                let options = [source, sandbox, "xattr".into(), "log_level=err".into()];
                for option in options.into_iter().chain(cache) {
                    arguments.extend(["-o".into(), option]);
                }
            }
            Flavour::Rust { readonly } => {
                arguments.extend(["--shared-dir".into(), source.into()]);
                arguments
                    .extend(["--sandbox", sandbox, "--xattr", "--log-level=error"].map(Into::into));
                let cache = self.cache.map(|mode| format!("--cache={}", mode.word()).into());
                arguments.extend(cache);
                if readonly && share.access == Access::ReadOnly {
                    arguments.push("--readonly".into());
                }
                if !self.left_out.is_empty() {
                    let words: Vec<_> = self.left_out.iter().map(|cap| format!("-{cap}")).collect();
                    arguments.push(format!("{MODCAPS}={}", words.join(":")).into());
                    // Newer daemons use file handles by default, which takes CAP_DAC_READ_SEARCH.
                    if self.left_out.contains(&HANDLES_CAP) {
                        arguments.push(NO_HANDLES.into());
                    }
                }
                // For an announced mount the guest makes an automount, which overlayfs
                // refuses (EREMOTE, `ovl_dentry_weird()`).
                if self.defaults.announces_mounts
                    && self.root_is_lower
                    && share.place == Place::Root
                {
                    arguments.push(NO_ANNOUNCE.into());
                }
            }
        }
        arguments
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
    use crate::process::virtiofsd::{CacheMode, Defaults, sample as daemon};

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
    fn the_rust_daemon_does_without_what_root_lacks() {
        let (tag, access) = ("t".into(), Access::ReadWrite);
        let share = Share { tag, source: "/r".into(), access, place: Place::Root };
        let new = Flavour::Rust { readonly: true };
        for (flavour, left_out, expected) in [
            (new, vec!["dac_read_search", "mknod"], Some("--modcaps=-dac_read_search:-mknod")),
            (new, vec![], None),
            (Flavour::C, vec!["mknod"], None),
        ] {
            let daemon = Virtiofsd { left_out, ..daemon(flavour) };
            let arguments = daemon.arguments(&share, &Socket::Fd(3));
            let mut words = arguments.iter().filter_map(|one| one.to_str());
            let found = words.find(|one| one.starts_with(MODCAPS));
            assert_eq!(found, expected, "{daemon:?}");
            let by_descriptor = arguments.iter().any(|one| one == NO_HANDLES);
            assert_eq!(by_descriptor, expected.is_some(), "{daemon:?}");
        }
    }

    #[test]
    fn mounts_in_a_lower_layer_are_not_announced() {
        let new = Flavour::Rust { readonly: true };
        for (flavour, announces_mounts, root_is_lower, place, expected) in [
            (new, true, true, Place::Root, true),
            (new, true, true, Place::Volume, false),
            (new, true, false, Place::Root, false),
            (new, false, true, Place::Root, false),
            (Flavour::C, false, true, Place::Root, false),
        ] {
            let defaults = Defaults { announces_mounts, keeps_noatime: true };
            let daemon = Virtiofsd { defaults, root_is_lower, ..daemon(flavour) };
            let (tag, access) = ("t".into(), Access::ReadOnly);
            let share = Share { tag, source: "/r".into(), access, place };
            let arguments = daemon.arguments(&share, &Socket::Fd(3));
            assert_eq!(arguments.iter().any(|one| one == NO_ANNOUNCE), expected, "{daemon:?}");
        }
    }

    #[test]
    fn the_root_of_the_host_has_another_name() {
        let (tag, access, place) = ("t".into(), Access::ReadWrite, Place::Root);
        let share = Share { tag, source: "/".into(), access, place };
        for (flavour, word) in
            [(Flavour::C, "source=/.."), (Flavour::Rust { readonly: true }, "/..")]
        {
            let arguments = daemon(flavour).arguments(&share, &Socket::Fd(3));
            assert!(arguments.iter().any(|one| one == word), "{arguments:?}");
        }
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
