//! Decision on how the guest gets the name server of QEMU's user network.
//!
//! `/init` writes the name server to `/etc/resolv.conf` (resolv.conf(5)). If the file
//! exists, `/init` mounts its own over it. If the file is a link into `/run`, as with
//! systemd, `/init` creates the target of the link. If a read-only root lacks the file, or
//! the link leads elsewhere, the guest gets an `/etc` in memory (`virtinit.etc=overlay`),
//! provided that its kernel has overlayfs. Otherwise the user gets a warning with a remedy.

use super::cmdline;
use crate::plan::shares::Access;

/// State of `/etc/resolv.conf` in a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolvConf {
    /// A file, over which `/init` can mount, or a link whose target `/init` can create.
    Usable,
    /// The root has `/etc`, but no such file in it.
    Missing,
    /// Something other than a file, such as a directory.
    NoFile,
    /// The root has no `/etc`.
    NoEtc,
}

/// Decision on how a machine gets its name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameServerDecision {
    /// `/init` can write the file; nothing has to be done.
    Nothing,
    /// The guest gets an overlay over `/etc`.
    Overlay,
    /// The guest has no name resolution; the text of the warning.
    Warn(&'static str),
}

/// Options of the user on which the decision depends.
#[derive(Clone, Copy, Debug)]
pub struct NameServerOptions<'a> {
    /// Access to the root (`--rw`).
    pub access: Access,
    /// Whether the guest has an overlay over the root (`--overlay`).
    pub has_overlay: bool,
    /// The user's kernel parameters (`--append`).
    pub append: &'a [u8],
}

/// Decides how to provide the name server for a root with `/etc/resolv.conf` in the state
/// `found`. `can_overlay` tells whether the guest has overlayfs.
pub fn decide(
    found: ResolvConf,
    options: NameServerOptions<'_>,
    can_overlay: impl FnOnce() -> bool,
) -> NameServerDecision {
    // The user's own parameters for `/etc` or an overlay take precedence.
    let is_decided = cmdline::has_layers(options.append);
    match (found, options.access) {
        (ResolvConf::Usable, _) => NameServerDecision::Nothing,
        (ResolvConf::NoFile, _) => {
            NameServerDecision::Warn("its /etc/resolv.conf is no file; replace it by an empty file")
        }
        _ if options.has_overlay || is_decided => NameServerDecision::Nothing,
        (ResolvConf::Missing, Access::ReadOnly) if can_overlay() => NameServerDecision::Overlay,
        (ResolvConf::NoEtc, Access::ReadOnly) => NameServerDecision::Warn(
            "it has no /etc; use --overlay, or make an empty /etc/resolv.conf in it",
        ),
        (ResolvConf::Missing, Access::ReadOnly) => NameServerDecision::Warn(
            "it has no /etc/resolv.conf, and the kernel no overlayfs for one in memory; make an \
             empty one in it",
        ),
        (_, Access::ReadWrite) => NameServerDecision::Warn(
            "it has no /etc/resolv.conf, and with --rw nothing is made in it unasked; make an \
             empty one in it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn the_name_server_is_provided_or_a_remedy_is_told() {
        use Access::{ReadOnly, ReadWrite};
        use ResolvConf::{Missing, NoEtc, NoFile, Usable};
        #[rustfmt::skip]
        let cases = [
            ("usable",      Usable,  ReadOnly,  false, "", false, Ok(NameServerDecision::Nothing)),
            ("usable, --rw", Usable, ReadWrite, false, "", false, Ok(NameServerDecision::Nothing)),
            ("missing",     Missing, ReadOnly,  false, "", true,  Ok(NameServerDecision::Overlay)),
            ("--overlay",   Missing, ReadOnly,  true,  "", true,  Ok(NameServerDecision::Nothing)),
            ("no /etc, --overlay", NoEtc, ReadOnly, true, "", true, Ok(NameServerDecision::Nothing)),
            ("asked for",   Missing, ReadOnly,  false, "quiet virtinit.etc=tmpfs", true, Ok(NameServerDecision::Nothing)),
            ("no overlayfs", Missing, ReadOnly, false, "xvirtinit.etc", false, Err("no overlayfs")),
            ("--rw",        Missing, ReadWrite, false, "", true,  Err("--rw")),
            ("directory",   NoFile,  ReadOnly,  true,  "", true,  Err("is no file")),
            ("no /etc",     NoEtc,   ReadOnly,  false, "", true,  Err("use --overlay")),
            ("no /etc, --rw", NoEtc, ReadWrite, false, "", true,  Err("--rw")),
        ];
        for (name, found, access, has_overlay, append, can_overlay, expected) in cases {
            let options = NameServerOptions { access, has_overlay, append: append.as_bytes() };
            match (decide(found, options, || can_overlay), expected) {
                (NameServerDecision::Warn(text), Err(part)) => {
                    assert!(text.contains(part), "{name}: {text}");
                }
                (decision, Ok(expected)) => assert_eq!(decision, expected, "{name}"),
                (decision, _) => panic!("{name}: {decision:?}"),
            }
        }
    }
}
