//! The kernel command line of a machine.
//!
//! The kernel and `/init` read it (kernel doc: admin-guide/kernel-parameters.rst). If a
//! parameter is given twice, the last one wins, so the user's parameters come last.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Result, ensure};
use proto::words::{Word, Words};

use crate::plan::architecture::Architecture;
use crate::plan::shares::{Access, MountPoint, Share};

/// Parameters of `/init` that put an overlay over the root or over its `/etc`, or replace
/// `/etc`.
const LAYER_PARAMETERS: &[&str] = &["virtinit.overlay", "virtinit.etc"];

/// Whether the command line `line` asks for an overlay over the root or for an `/etc` in
/// memory.
#[must_use]
pub fn has_layers(line: &[u8]) -> bool {
    Words::new(line).any(|word| LAYER_PARAMETERS.iter().any(|known| word.param == known.as_bytes()))
}

/// Parts of a kernel command line.
#[derive(Debug)]
pub struct CommandLine<'a> {
    /// Gives the console, the fixed parameters and the maximum length.
    pub architecture: &'a Architecture,
    /// Parameters of [`super::clock`]; `None` with KVM.
    pub clock: Option<String>,
    /// Value of `init=`; `None` for a command, or for the default payload.
    pub init: Option<&'a OsStr>,
    /// Parameters that describe the root (`Root::parameters` of `crate::root::kinds`).
    pub root: &'a [String],
    /// All shares. The share of the root needs no parameter.
    pub shares: &'a [Share],
    /// Whether to add `virtinit.debug`.
    pub debug: bool,
    /// The user's parameters (`--append`).
    pub append: &'a [OsString],
}

impl CommandLine<'_> {
    /// The whole command line.
    ///
    /// # Errors
    /// A value cannot be quoted for the kernel, or the line is too long for the kernel.
    pub fn build(&self) -> Result<OsString> {
        let mut words = vec![
            format!("console={}", self.architecture.console).into_bytes(),
            self.architecture.parameters.as_bytes().to_vec(),
            b"quiet".to_vec(),
            // A panic or a failed boot resets the machine, and a reset ends QEMU (-no-reboot).
            b"panic=-1".to_vec(),
            b"virtinit.fail=reboot".to_vec(),
        ];
        words.extend(self.clock.iter().map(|words| words.clone().into_bytes()));
        words.extend(self.init.map(|init| word("init", init)).transpose()?);
        words.extend(self.root.iter().map(|word| word.clone().into_bytes()));
        for share in self.shares.iter().filter(|share| share.mount_point == MountPoint::Tag) {
            let key = match share.access {
                Access::ReadWrite => "mount",
                Access::ReadOnly => "mount-ro",
            };
            words.push(word(key, OsStr::new(&share.tag))?);
        }
        if self.debug {
            words.push(b"virtinit.debug".to_vec());
        }
        words.extend(self.append.iter().map(|text| text.as_bytes().to_vec()));
        let line = words.join(&b' ');
        let most = self.architecture.command_line_max - 1;
        ensure!(
            line.len() <= most,
            "the kernel command line has {} bytes; {} kernels read {most}: shorten --append or \
             the tags",
            line.len(),
            self.architecture.arch
        );
        ensure!(!line.contains(&0), "the kernel command line contains NUL");
        Ok(OsString::from_vec(line))
    }
}

/// `key=value`, with quotes if the value has white space.
fn word(key: &str, value: &OsStr) -> Result<Vec<u8>> {
    let bytes = value.as_bytes();
    ensure!(
        !bytes.contains(&b'"'),
        "{key}={}: a double quote cannot be written on the kernel command line",
        value.display()
    );
    let mut line = Vec::new();
    Word { param: key.as_bytes(), value: Some(bytes) }.append_to(&mut line);
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::architecture;
    use crate::plan::shares::ROOT_TAG;
    use virtinitrd_init::cmdline::Config;
    use virtinitrd_init::cmdline::root::Root;

    fn build(init: &str, tags: &[(&str, Access)], append: &[&str]) -> Result<OsString> {
        let shares: Vec<_> = tags
            .iter()
            .map(|(tag, access)| Share {
                tag: (*tag).into(),
                source: "/x".into(),
                access: *access,
                mount_point: if *tag == ROOT_TAG { MountPoint::Root } else { MountPoint::Tag },
            })
            .collect();
        let append: Vec<_> = append.iter().map(OsString::from).collect();
        let architecture = architecture::of_host()?;
        let init = Some(OsStr::new(init));
        let root = &["virtinit.overlay=1g".into()][..];
        let (clock, shares, append) = (Some("lpj=1".into()), &shares[..], &append[..]);
        CommandLine { architecture, clock, init, root, shares, debug: true, append }.build()
    }

    /// The guest's own parser reads the values back.
    #[test]
    fn the_guests_parser_reads_every_value_back() {
        let shares =
            [("rootfs", Access::ReadOnly), ("src", Access::ReadWrite), ("a b", Access::ReadOnly)];
        let line = build("/opt/my init", &shares, &["x=1", "-- -c \"echo hi\""]).unwrap();
        let config = Config::parse(line.as_bytes()).unwrap();
        assert_eq!(config.init, b"/opt/my init");
        assert!(matches!(config.root, Root::Virtiofs(tag) if tag.as_bytes() == b"rootfs"));
        let shares: Vec<_> =
            config.shares.iter().map(|share| (share.tag.as_bytes(), share.access)).collect();
        assert_eq!(shares, [(&b"src"[..], Access::ReadWrite), (b"a b", Access::ReadOnly)]);
        assert_eq!(config.args, [&b"-c"[..], b"echo hi"]);
        assert!(config.debug && config.warnings.is_empty());
        assert_eq!(config.overlay, Some(&b"1g"[..]));
        assert_eq!(config.root_access, Access::ReadOnly);
    }

    #[test]
    fn the_users_parameters_win() {
        let line = build("/bin/sh", &[], &["init=/bin/other"]).unwrap();
        assert_eq!(Config::parse(line.as_bytes()).unwrap().init, b"/bin/other");
    }

    #[test]
    fn a_double_quote_or_a_long_line_is_an_error() {
        let error = build("/a\"b", &[], &[]).unwrap_err().to_string();
        assert!(error.contains("double quote"), "{error}");
        let error = build("/x", &[], &[&"y".repeat(2048)]).unwrap_err().to_string();
        assert!(error.contains("read 2047"), "{error}");
    }
}
