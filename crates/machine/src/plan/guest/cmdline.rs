//! The kernel command line of a machine.
//!
//! The kernel and `/init` read it (kernel doc: admin-guide/kernel-parameters.rst). If a
//! parameter is given twice, the last one wins, so the user's parameters come last.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Result, ensure};
use proto::parameters;
use proto::words::{Word, Words};

use crate::plan::architecture::Architecture;
use crate::plan::shares::{Access, MountPoint, Share};

/// Parameters of `/init` that put an overlay over the root or over its `/etc`, or replace
/// `/etc`.
const LAYER_PARAMETERS: &[&str] = &["virtinit.overlay", "virtinit.etc"];

/// Words of a machine that waits for orders (kernel doc: admin-guide/kernel-parameters.rst): only
/// `/init` makes the kernel look for new devices. It finds the disks in their order, by which the
/// kernel names them. Two drivers for PCI hot-plug would report each disk by itself, in any order.
const ALONE: [&str; 2] = ["acpiphp.disable=1", "pcie_ports=compat"];

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
        self.line(self.of_run()?)
    }

    /// The command line of a machine that waits for orders, without the words of the run, which
    /// are the second value.
    ///
    /// # Errors
    /// As for [`CommandLine::build`].
    pub fn build_for_orders(&self) -> Result<(OsString, OsString)> {
        let words = ALONE.iter().chain(&[parameters::ORDERS]);
        let line = self.line(words.map(|word| word.as_bytes().to_vec()).collect())?;
        Ok((line, OsString::from_vec(self.of_run()?.join(&b' '))))
    }

    /// The words that only this run has.
    fn of_run(&self) -> Result<Vec<Vec<u8>>> {
        let mut words = Vec::from_iter(self.init.map(|init| word("init", init)).transpose()?);
        words.extend(self.root.iter().map(|word| word.clone().into_bytes()));
        for share in self.shares.iter().filter(|share| share.mount_point == MountPoint::Tag) {
            let key = match share.access {
                Access::ReadWrite => "mount",
                Access::ReadOnly => "mount-ro",
            };
            words.push(word(key, OsStr::new(&share.tag))?);
        }
        Ok(words)
    }

    /// The command line with the words `further`.
    fn line(&self, further: Vec<Vec<u8>>) -> Result<OsString> {
        let mut words = vec![
            format!("console={}", self.architecture.console).into_bytes(),
            self.architecture.parameters.as_bytes().to_vec(),
            b"quiet".to_vec(),
            // A panic or a failed boot resets the machine, and a reset ends QEMU (-no-reboot).
            b"panic=-1".to_vec(),
            b"virtinit.fail=reboot".to_vec(),
        ];
        words.extend(self.clock.iter().map(|words| words.clone().into_bytes()));
        words.extend(further);
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

    /// The guest reads the words of the run before the kernel's, and both give the same as the
    /// whole line.
    #[test]
    fn words_of_a_run_are_not_on_the_line_of_its_machine() {
        let share = |(tag, access): &(&str, Access)| Share {
            tag: (*tag).into(),
            source: "/x".into(),
            access: *access,
            mount_point: if *tag == ROOT_TAG { MountPoint::Root } else { MountPoint::Tag },
        };
        let (ro, rw) = (Access::ReadOnly, Access::ReadWrite);
        for (root, tags, append, access) in [
            (&[][..], &[][..], &[][..], ro),
            (&[], &[(ROOT_TAG, ro)], &["quiet"], ro),
            (&["rw"], &[(ROOT_TAG, rw), ("a b", rw), ("c", ro)], &[], rw),
            (&["root=/dev/vda", "rootfstype=erofs", "virtinit.overlay=1g"], &[], &["a=b"], ro),
            (&["root=/dev/vda", "rw", "virtinit.etc=overlay"], &[("c", ro)], &["ro root=x"], ro),
            (&["virtinit.overlay"], &[("c", rw)], &["virtinit.overlay=5%", "rw -- x \"y z\""], rw),
        ] {
            let root: Vec<_> = root.iter().map(ToString::to_string).collect();
            let shares: Vec<_> = tags.iter().map(share).collect();
            let append: Vec<_> = append.iter().map(OsString::from).collect();
            let parts = CommandLine {
                architecture: architecture::of_host().unwrap(),
                clock: Some("lpj=1".into()),
                init: None,
                root: &root,
                shares: &shares,
                debug: false,
                append: &append,
            };
            let (line, words) = parts.build_for_orders().unwrap();
            let bare = CommandLine { root: &[], shares: &[], ..parts };
            assert_eq!(line, bare.build_for_orders().unwrap().0, "{words:?}");
            let parts = CommandLine { root: &root, shares: &shares, ..bare };
            let joined = [words.as_bytes(), b" ", line.as_bytes()].concat();
            let joined = Config::parse(&joined).unwrap();
            let whole = parts.build().unwrap().into_string().unwrap();
            let whole = whole.replacen(" quiet", &format!(" quiet {}", ALONE.join(" ")), 1);
            let whole = Config { orders: true, ..Config::parse(whole.as_bytes()).unwrap() };
            assert_eq!(joined, whole, "{words:?}");
            assert_eq!(joined.root_access, access, "{words:?}");
        }
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
