//! What the kernel command line asks of us, as [`Config`].
//!
//! `--` ends the parameters (kernel doc: admin-guide/kernel-parameters.rst). Of
//! one given twice the last counts, as with the kernel's own `init=` and
//! `root=`.
//!
//! Invariant: nothing here does I/O, and no byte sequence makes it fail other
//! than by an [`Error`]. Bytes need not be UTF-8.

use alloc::{format, string::String, vec::Vec};

use crate::error::{Error, Result};
use crate::tag::Tag;
use crate::words::{Word, Words};

/// What to execute when the command line has no `init=`.
pub const DEFAULT_INIT: &[u8] = b"/bin/sh";

/// The virtiofs tag of the root when no parameter names one.
pub const DEFAULT_ROOT_TAG: &[u8] = b"rootfs";

/// Whether a file system may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `MS_RDONLY`
    ReadOnly,
    /// The host's export decides.
    ReadWrite,
}

/// One `mount=TAG` or `mount-ro=TAG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share<'a> {
    /// The tag, and the directory's name under `/run/mnt`.
    pub tag: Tag<'a>,
    /// `mount-ro=` is read-only.
    pub access: Access,
}

/// What a fatal error does to the machine once it was reported
/// (`virtinit.fail=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fail {
    /// Power off.
    #[default]
    PowerOff,
    /// Reset. Under `qemu -no-reboot` this ends the VM and lets the host tell
    /// a failed boot from a payload that powered off.
    Reboot,
    /// Let PID 1 exit, which is a kernel panic.
    Panic,
}

impl Fail {
    /// Reads the policy of a command line by itself: it must hold even where
    /// [`Config::parse`] fails.
    #[must_use]
    pub fn parse(line: &[u8]) -> Self {
        Words::new(line)
            .take_while(|word| *word != Word { param: b"--", value: None })
            .filter(|word| word.param == b"virtinit.fail")
            .filter_map(|word| Self::from_value(word.value?))
            .last()
            .unwrap_or_default()
    }

    fn from_value(value: &[u8]) -> Option<Self> {
        match value {
            b"poweroff" => Some(Self::PowerOff),
            b"reboot" => Some(Self::Reboot),
            b"panic" => Some(Self::Panic),
            _ => None,
        }
    }
}

/// Everything the command line asks of us.
#[derive(Debug, PartialEq, Eq)]
pub struct Config<'a> {
    /// virtiofs tag of the new root.
    pub root: Tag<'a>,
    /// Read-only unless `rw` was given.
    pub root_access: Access,
    /// Extra mounts, in the order given, each tag once.
    pub shares: Vec<Share<'a>>,
    /// Path of the payload in the new root.
    pub init: &'a [u8],
    /// The words after `--`: the payload's arguments from `argv[1]` on.
    pub args: Vec<Vec<u8>>,
    /// `debug` or `virtinit.debug` was given.
    pub debug: bool,
    /// What was odd but harmless; to be logged by the caller.
    pub warnings: Vec<String>,
}

/// Every parameter that is read here.
pub const PARAMETERS: &[&str] = &[
    "rootfs",
    "root",
    "rootfstype",
    "ro",
    "rw",
    "mount",
    "mount-ro",
    "init",
    "debug",
    "virtinit.debug",
    "virtinit.fail",
    "--",
];

/// The words of the form `virtinit.KEY` that mean something.
const OUR_WORDS: &str = "virtinit.debug, virtinit.fail=poweroff|reboot|panic";

impl<'a> Config<'a> {
    /// Reads the contents of `/proc/cmdline`.
    ///
    /// # Errors
    /// A tag that no host can have exported.
    pub fn parse(line: &'a [u8]) -> Result<Self> {
        let mut config = Config {
            root: Tag::parse(DEFAULT_ROOT_TAG)?,
            root_access: Access::ReadOnly,
            shares: Vec::new(),
            init: DEFAULT_INIT,
            args: Vec::new(),
            debug: false,
            warnings: Vec::new(),
        };
        let mut standard_root: Option<&[u8]> = None;
        let mut root_type: Option<&[u8]> = None;
        let mut tag: Option<&[u8]> = None;

        let mut words = Words::new(line);
        while let Some(word) = words.next() {
            // An empty value means "not given", as in osbuild/initrd.
            let value = word.value.filter(|value| !value.is_empty());
            match (word.param, value) {
                (b"--", _) if word.value.is_none() => {
                    config.args = words.by_ref().map(Word::to_argument).collect();
                }
                (b"rootfs", Some(value)) => tag = Some(value),
                (b"root", Some(value)) => standard_root = Some(value),
                (b"rootfstype", Some(value)) => root_type = Some(value),
                (b"ro", None) => config.root_access = Access::ReadOnly,
                (b"rw", None) => config.root_access = Access::ReadWrite,
                (b"mount", Some(value)) => config.share(value, Access::ReadWrite)?,
                (b"mount-ro", Some(value)) => config.share(value, Access::ReadOnly)?,
                (b"init", Some(value)) => config.init = value,
                (b"debug" | b"virtinit.debug", _) => config.debug = true,
                (b"virtinit.fail", value) => config.check_fail(value.unwrap_or_default()),
                (param, _) if param.starts_with(b"virtinit.") => config.warnings.push(format!(
                    "unknown parameter \"{}\" ignored; known: {OUR_WORDS}",
                    param.escape_ascii()
                )),
                _ => {}
            }
        }

        let standard_tag = standard_root.filter(|_| root_type == Some(b"virtiofs"));
        if let (None, None, Some(root)) = (tag, standard_tag, standard_root) {
            config.warnings.push(format!(
                "root={} ignored: only rootfstype=virtiofs can be mounted",
                root.escape_ascii()
            ));
        }
        if let Some(tag) = tag.or(standard_tag) {
            config.root = Tag::parse(tag)?;
        }
        Ok(config)
    }

    fn share(&mut self, tag: &'a [u8], access: Access) -> Result<(), Error> {
        let tag = Tag::parse(tag)?;
        if self.shares.iter().any(|share| share.tag == tag) {
            self.warnings.push(format!("virtiofs tag {tag} given twice; the first one counts"));
        } else {
            self.shares.push(Share { tag, access });
        }
        Ok(())
    }

    fn check_fail(&mut self, value: &[u8]) {
        if Fail::from_value(value).is_none() {
            self.warnings.push(format!(
                "virtinit.fail={} ignored: it is one of poweroff, reboot, panic",
                value.escape_ascii()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Config<'_> {
        Config::parse(line.as_bytes()).unwrap()
    }

    #[test]
    fn an_empty_line_gives_the_documented_defaults() {
        let config = parse("\n");
        assert_eq!(config.root, Tag::parse(b"rootfs").unwrap());
        assert_eq!(config.root_access, Access::ReadOnly);
        assert_eq!(config.init, b"/bin/sh");
        assert!(config.shares.is_empty() && config.args.is_empty() && config.warnings.is_empty());
        assert!(!config.debug);
    }

    #[test]
    fn osbuilds_own_line_is_understood() {
        let config = parse(
            "console=ttyS0 quiet selinux=1 enforcing=0 rootfstype=virtiofs root=rootfs ro \
             mount=mnt0 init=/run/mnt/mnt0/osbuild/vm.py",
        );
        assert_eq!(config.root, Tag::parse(b"rootfs").unwrap());
        assert_eq!(
            config.shares,
            [Share { tag: Tag::parse(b"mnt0").unwrap(), access: Access::ReadWrite }]
        );
        assert_eq!(config.init, b"/run/mnt/mnt0/osbuild/vm.py");
        assert_eq!(config.warnings, Vec::<String>::new());
    }

    #[test]
    fn the_root_tag_follows_its_parameters() {
        for (name, line, tag) in [
            ("bare words do not shadow", "rootfs=x rootfs rootfs=", "x"),
            ("last one counts", "rootfs=x rootfs=y", "y"),
            ("rootfs= beats root=", "rootfs=x root=y rootfstype=virtiofs", "x"),
            ("root= with virtiofs", "rootfstype=virtiofs root=y", "y"),
            ("root= of another type", "root=/dev/vda rootfstype=ext4", "rootfs"),
            ("after --", "rootfs=x -- rootfs=y", "x"),
        ] {
            assert_eq!(parse(line).root, Tag::parse(tag.as_bytes()).unwrap(), "{name}");
        }
    }

    #[test]
    fn shares_keep_order_and_lose_duplicates() {
        let config = parse("mount=a mount-ro=b mount= mount mount-ro=a");
        let shares: Vec<_> =
            config.shares.iter().map(|share| (share.tag.as_bytes(), share.access)).collect();
        assert_eq!(shares, [(&b"a"[..], Access::ReadWrite), (b"b", Access::ReadOnly)]);
        assert_eq!(config.warnings, ["virtiofs tag \"a\" given twice; the first one counts"]);
    }

    #[test]
    fn thirty_two_mounts_are_not_too_many() {
        use core::fmt::Write;
        let mut line = String::new();
        for number in 0..32 {
            write!(line, "mount=tag{number} ").unwrap();
        }
        assert_eq!(parse(&line).shares.len(), 32);
    }

    #[test]
    fn words_after_the_dashes_are_arguments() {
        let config = parse("init=/bin/sh -- -c \"echo a; echo b\" X=\"y z\" -- debug");
        assert_eq!(config.args, [&b"-c"[..], b"echo a; echo b", b"X=y z", b"--", b"debug"]);
        assert!(!config.debug);
    }

    #[test]
    fn failure_policy_and_unknown_words() {
        for (line, policy) in [
            ("", Fail::PowerOff),
            ("virtinit.fail=panic virtinit.fail=reboot", Fail::Reboot),
            ("virtinit.fail=panic virtinit.fail=explode", Fail::Panic),
            ("virtinit.fail", Fail::PowerOff),
            ("mount=a/b virtinit.fail=reboot", Fail::Reboot),
            ("-- virtinit.fail=reboot", Fail::PowerOff),
        ] {
            assert_eq!(Fail::parse(line.as_bytes()), policy, "{line}");
        }
        let config = parse("virtinit.fail=explode virtinit.what=1 some.module=2 nonsense");
        assert_eq!(config.warnings.len(), 2);
        assert!(config.warnings.iter().all(|text| text.contains("ignored")));
    }

    #[test]
    fn hostile_tags_are_errors() {
        for line in
            ["mount=..", "mount-ro=a/b", "rootfs=.", "mount=0123456789012345678901234567890123456"]
        {
            assert!(Config::parse(line.as_bytes()).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in prop::collection::vec(any::<u8>(), 0..2048)) {
            let _ = Config::parse(&line);
            let _ = Fail::parse(&line);
        }

        #[test]
        fn plain_arguments_arrive_unchanged(
            args in prop::collection::vec("[!#-~]{1,20}", 0..20)
        ) {
            let line = format!("quiet -- {}\n", args.join(" "));
            let expected: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
            prop_assert_eq!(Config::parse(line.as_bytes()).unwrap().args, expected);
        }

        #[test]
        fn quoted_arguments_keep_their_spaces(arg in "[ !#-<>-~]{1,40}") {
            let line = format!("-- \"{arg}\"");
            prop_assert_eq!(&Config::parse(line.as_bytes()).unwrap().args, &[arg.into_bytes()]);
        }
    }
}
