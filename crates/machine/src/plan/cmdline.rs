//! The kernel command line that chrootvm writes.
//!
//! Its reader is `init::cmdline`, and the kernel (kernel doc:
//! admin-guide/kernel-parameters.rst): of a word given twice the last counts,
//! so what the user appends wins.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Result, ensure};
use virtinitrd_proto::words::{Word, Words};

use super::architecture::Machine;
use crate::plan::{Access, Place, Share};

/// Parameters of `/init` that make the root, or `/etc` of it, the lower layer of an
/// overlay, or replace `/etc`.
const LAYER_WORDS: &[&str] = &["virtinit.overlay", "virtinit.etc"];

/// Whether `line` asks for an overlay over the root or for an `/etc` in memory.
#[must_use]
pub fn has_layers(line: &[u8]) -> bool {
    Words::new(line).any(|word| LAYER_WORDS.iter().any(|known| word.param == known.as_bytes()))
}

/// What a command line is made of.
#[derive(Debug)]
pub struct CommandLine<'a> {
    /// Console and limits.
    pub machine: &'a Machine,
    /// What [`super::clock`] tells of an emulated processor.
    pub clock: Option<String>,
    /// `init=`, where there is no command.
    pub init: Option<&'a OsStr>,
    /// What and how the root is ([`super::source::Source::words`]).
    pub root: &'a [String],
    /// All shares; the root's tag is what `/init` takes by default.
    pub shares: &'a [Share],
    /// `virtinit.debug`
    pub debug: bool,
    /// The user's words.
    pub append: &'a [OsString],
}

impl CommandLine<'_> {
    /// The text for `-append`.
    ///
    /// # Errors
    /// A value that the kernel has no way to quote, or more text than it reads.
    pub fn build(&self) -> Result<OsString> {
        let mut words = vec![
            format!("console={}", self.machine.console).into_bytes(),
            self.machine.words.as_bytes().to_vec(),
            b"quiet".to_vec(),
            // A panic or a failed boot resets the machine, which ends QEMU.
            b"panic=-1".to_vec(),
            b"virtinit.fail=reboot".to_vec(),
        ];
        words.extend(self.clock.iter().map(|words| words.clone().into_bytes()));
        words.extend(self.init.map(|init| word("init", init)).transpose()?);
        words.extend(self.root.iter().map(|word| word.clone().into_bytes()));
        for share in self.shares.iter().filter(|share| share.place == Place::Tag) {
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
        let most = self.machine.command_line_max - 1;
        ensure!(
            line.len() <= most,
            "the kernel command line has {} bytes; {} kernels read {most}: shorten --append or \
             the tags",
            line.len(),
            self.machine.arch
        );
        ensure!(!line.contains(&0), "the kernel command line contains NUL");
        Ok(OsString::from_vec(line))
    }
}

/// `key=value`, quoted where the value has white space.
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
    use crate::plan::ROOT_TAG;
    use crate::plan::architecture;
    use virtinitrd_init::cmdline::Config;
    use virtinitrd_init::cmdline::root::Root;

    fn build(init: &str, tags: &[(&str, Access)], append: &[&str]) -> Result<OsString> {
        let shares: Vec<_> = tags
            .iter()
            .map(|(tag, access)| Share {
                tag: (*tag).into(),
                source: "/x".into(),
                access: *access,
                place: if *tag == ROOT_TAG { Place::Root } else { Place::Tag },
            })
            .collect();
        let append: Vec<_> = append.iter().map(OsString::from).collect();
        let machine = architecture::of_host()?;
        let init = Some(OsStr::new(init));
        let root = &["virtinit.overlay=1g".into()][..];
        let (clock, shares, append) = (Some("lpj=1".into()), &shares[..], &append[..]);
        CommandLine { machine, clock, init, root, shares, debug: true, append }.build()
    }

    /// What is written here is what the guest's own parser reads.
    #[test]
    fn the_guest_reads_what_was_meant() {
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
    fn the_users_words_win() {
        let line = build("/bin/sh", &[], &["init=/bin/other"]).unwrap();
        assert_eq!(Config::parse(line.as_bytes()).unwrap().init, b"/bin/other");
    }

    #[test]
    fn what_cannot_be_said_is_an_error() {
        let error = build("/a\"b", &[], &[]).unwrap_err().to_string();
        assert!(error.contains("double quote"), "{error}");
        let error = build("/x", &[], &[&"y".repeat(2048)]).unwrap_err().to_string();
        assert!(error.contains("read 2047"), "{error}");
    }
}
