//! Records of the run file, which describe a command and the settings of its machine.
//!
//! The [crate's documentation](crate) lists them. The host writes [`Record`]s into the run
//! file, which is a segment of the initrd, or sends them over a control channel for one
//! more session. An image may have the records of its own command in [`IMAGE_FILE`].
//! `/init` reads them as [`Settings`] or [`Command`].

use alloc::format;
use alloc::vec::Vec;
use core::ffi::CStr;

use crate::error::{Error, Result};
use crate::text::show;
use crate::volume::{Volume, VolumeKind};
use crate::words::{self, number, text};

/// Name of the run file, in the root directory of the initramfs.
pub const FILE: &str = "virtinit.run";

/// Path of the file with an image's own command, which runs if the host gives none.
pub const IMAGE_FILE: &str = "/etc/virtinit/run";

/// Longest text of all records in bytes, because the memory of `/init` is small.
pub const MAX: usize = 1 << 20;

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Number of lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Whether the command of an image starts again after its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// No restart: the machine ends with the command.
    #[default]
    No,
    /// A restart, unless the command has ended with status 0.
    OnFailure,
    /// A restart, whatever the status of the command.
    Always,
}

impl Restart {
    /// Whether a command that has ended with `status` is started again.
    #[must_use]
    pub fn is_due(self, status: u8) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure => status != 0,
            Self::Always => true,
        }
    }
}

/// Values of `restart=`, and their meanings.
pub const RESTARTS: [(&str, Restart); 3] =
    [("no", Restart::No), ("on-failure", Restart::OnFailure), ("always", Restart::Always)];

/// A command, and how to run it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Command<'a> {
    /// The program and its arguments; empty if there is no command.
    pub args: Vec<&'a CStr>,
    /// Environment variables `NAME=VALUE`; `/init` adds defaults for `PATH` and `HOME`.
    pub env: Vec<&'a CStr>,
    /// Working directory; the default is `/`.
    pub cwd: Option<&'a CStr>,
    /// `NAME`, `UID`, `NAME:GROUP` or `UID:GID`; the default is root.
    pub user: Option<&'a [u8]>,
    /// Size of the controlling terminal. Without one, the command gets three streams. If there
    /// is no command, it is the size of the console.
    pub terminal: Option<Size>,
    /// Whether the command starts again. It has a meaning only for the command of an image.
    pub restart: Restart,
}

/// All records of a run file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings<'a> {
    /// Host name of the guest.
    pub hostname: Option<&'a [u8]>,
    /// Volumes in the order in which they are mounted; files are mounted after all directories.
    pub volumes: Vec<Volume<'a>>,
    /// Whether to set up QEMU's user network.
    pub network: bool,
    /// Whether the guest powers off by itself: no host waits for the status of the command.
    pub alone: bool,
    /// The command; the run file has no command if `args` is empty.
    pub command: Command<'a>,
}

/// One record as the host writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// One more word of the command.
    Arg(&'a [u8]),
    /// An environment variable `NAME=VALUE`.
    Env(&'a [u8]),
    /// Working directory of the command.
    Cwd(&'a [u8]),
    /// User and group of the command.
    User(&'a [u8]),
    /// Whether the command starts again after its end.
    Restart(Restart),
    /// A terminal of this size for the command, or the size of the console without a command.
    Terminal(Size),
    /// Host name of the guest.
    Hostname(&'a [u8]),
    /// One more volume.
    Volume(Volume<'a>),
    /// Set up QEMU's user network.
    Network,
    /// Power off after the command.
    Alone,
}

impl Record<'_> {
    /// The bytes of the record without its NUL.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (key, value) = match *self {
            Self::Arg(value) => ("arg", value.to_vec()),
            Self::Env(value) => ("env", value.to_vec()),
            Self::Cwd(value) => ("cwd", value.to_vec()),
            Self::User(value) => ("user", value.to_vec()),
            Self::Restart(restart) => {
                let name = RESTARTS.iter().find(|(_, row)| *row == restart);
                ("restart", name.map_or("", |(name, _)| name).as_bytes().to_vec())
            }
            Self::Hostname(value) => ("hostname", value.to_vec()),
            Self::Terminal(size) => {
                ("terminal", format!("{} {}", size.rows, size.columns).into_bytes())
            }
            Self::Volume(volume) => volume.key_and_value(),
            Self::Network => ("network", b"user".to_vec()),
            Self::Alone => ("alone", b"1".to_vec()),
        };
        [key.as_bytes(), b"=", &value].concat()
    }
}

/// The text of a run file with these records.
#[must_use]
pub fn encode(records: &[Record<'_>]) -> Vec<u8> {
    records.iter().flat_map(|record| [record.to_bytes(), [0].into()].concat()).collect()
}

impl<'a> Settings<'a> {
    /// Reads the text of a run file.
    ///
    /// # Errors
    /// A record is unknown: `/init` in the initrd has another version than the chrootvm that
    /// wrote the file.
    pub fn parse(text: &'a [u8]) -> Result<Self> {
        let mut settings = Self::default();
        take_all(text, &mut |key, value| settings.take(key, value)).map_err(|record| {
            Error::new(
                format_args!("read /{FILE}: unknown record \"{}\"", show(record)),
                "chrootvm and /init are of different versions",
            )
        })?;
        Ok(settings)
    }

    fn take(&mut self, key: &str, value: &'a CStr) -> Option<()> {
        let bytes = value.to_bytes();
        match key {
            "terminal" => self.command.terminal = Some(Size::parse(bytes)?),
            "hostname" => self.hostname = Some(bytes),
            "network" => self.network = true,
            "alone" => self.alone = true,
            _ => match VolumeKind::of_key(key) {
                Some(kind) => self.volumes.push(Volume::parse(kind, bytes)?),
                None => return self.command.take(key, value),
            },
        }
        Some(())
    }
}

impl<'a> Command<'a> {
    /// Reads the text of [`IMAGE_FILE`].
    ///
    /// # Errors
    /// A record has no meaning in an image, or there is no command.
    pub fn parse(text: &'a [u8]) -> Result<Self> {
        let mut command = Self::default();
        take_all(text, &mut |key, value| command.take(key, value)).map_err(|record| {
            Error::new(
                format_args!("read {IMAGE_FILE}: unknown record \"{}\"", show(record)),
                "known records are arg=, env=, cwd=, user=, restart=no|on-failure|always, each ended by NUL",
            )
        })?;
        match command.args.is_empty() {
            true => Err(Error::new(format_args!("read {IMAGE_FILE}: no command"), "it needs arg=")),
            false => Ok(command),
        }
    }

    fn take(&mut self, key: &str, value: &'a CStr) -> Option<()> {
        match key {
            "arg" => self.args.push(value),
            "env" => self.env.push(value),
            "cwd" => self.cwd = Some(value),
            "user" => self.user = Some(value.to_bytes()),
            "restart" => {
                let word = text(value.to_bytes());
                self.restart = RESTARTS.iter().find(|(name, _)| *name == word)?.1;
            }
            _ => return None,
        }
        Some(())
    }
}

/// Passes each record of `text` to `take`.
///
/// # Errors
/// The first record that is malformed, or for which `take` returns `None`.
fn take_all<'a>(
    text: &'a [u8],
    take: &mut dyn FnMut(&str, &'a CStr) -> Option<()>,
) -> Result<(), &'a [u8]> {
    let mut take_one = |record: &'a [u8]| {
        let at = record.iter().position(|&byte| byte == b'=')?;
        let value = CStr::from_bytes_with_nul(record.get(at + 1..)?).ok()?;
        take(words::text(record.get(..at)?), value)
    };
    text.split_inclusive(|&byte| byte == 0).try_for_each(|record| take_one(record).ok_or(record))
}

impl Size {
    /// Reads `ROWS COLUMNS` in decimal.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let at = text.iter().position(|&byte| byte == b' ')?;
        let number = |text| u16::try_from(number(text)?).ok();
        Some(Self { rows: number(text.get(..at)?)?, columns: number(text.get(at + 1..)?)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use proptest::prelude::*;

    #[test]
    fn every_record_is_read_as_it_was_written() {
        let size = Size { rows: 24, columns: 80 };
        let volume = |kind| Volume { kind, tag: b"v0", access: Access::ReadOnly, path: b"/a b" };
        let volumes = [VolumeKind::File, VolumeKind::Directory].map(volume);
        let text = encode(&[
            Record::Arg(b"ls"),
            Record::Arg(b""),
            Record::Arg(b"a=\"b\"\n\xff"),
            Record::Env(b"A=b=c"),
            Record::Cwd(b"/x y"),
            Record::User(b"nobody:100"),
            Record::Restart(Restart::OnFailure),
            Record::Terminal(size),
            Record::Hostname(b"box"),
            Record::Volume(volumes[0]),
            Record::Volume(volumes[1]),
            Record::Network,
            Record::Alone,
        ]);
        let expected = Settings {
            hostname: Some(b"box"),
            volumes: volumes.into(),
            network: true,
            alone: true,
            command: Command {
                args: [c"ls", c"", c"a=\"b\"\n\xff"].into(),
                env: [c"A=b=c"].into(),
                cwd: Some(c"/x y"),
                user: Some(b"nobody:100"),
                terminal: Some(size),
                restart: Restart::OnFailure,
            },
        };
        assert_eq!(Settings::parse(&text).unwrap(), expected);
        assert_eq!(Settings::parse(b"").unwrap(), Settings::default());
    }

    #[test]
    fn unknown_records_are_errors() {
        for text in [
            "x=1\0",
            "arg\0",
            "arg=unended",
            "terminal=1\0",
            "volume=rx a /b\0",
            "file-volume=rx a /b\0",
            "file-volume=ro a\0",
            "file-volume=\0",
            "\0",
        ] {
            assert!(Settings::parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_image_describes_its_command() {
        for (name, restart) in RESTARTS {
            let text = encode(&[Record::Arg(b"httpd"), Record::Restart(restart)]);
            assert!(text.ends_with(&[name.as_bytes(), b"\0"].concat()));
            let command = Command::parse(&text).unwrap();
            assert_eq!((&command.args[..], command.restart), (&[c"httpd"][..], restart));
        }
        for (text, why) in [
            ("", "no command: it needs arg="),
            ("env=A=1\0", "no command"),
            ("arg=a", "unknown record \"arg=a\""),
            ("arg=a\0restart=maybe\0", "unknown record \"restart=maybe"),
            ("arg=a\0hostname=x\0", "unknown record \"hostname=x"),
            ("arg=a\0terminal=1 1\0", "unknown record"),
            ("arg=a\n\0\n", "unknown record"),
        ] {
            let error = Command::parse(text.as_bytes()).unwrap_err();
            assert!(format!("{error}").contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn policies_look_at_the_status() {
        for (restart, of_success, of_failure) in [
            (Restart::No, false, false),
            (Restart::OnFailure, false, true),
            (Restart::Always, true, true),
        ] {
            assert_eq!((restart.is_due(0), restart.is_due(1)), (of_success, of_failure));
        }
    }

    proptest! {
        #[test]
        fn any_argument_arrives_unchanged(
            args in prop::collection::vec(prop::collection::vec(1_u8.., 0..20), 0..20)
        ) {
            let records: Vec<_> = args.iter().map(|arg| Record::Arg(arg)).collect();
            let text = encode(&records);
            let settings = Settings::parse(&text).unwrap();
            let read: Vec<_> = settings.command.args.iter().map(|arg| arg.to_bytes()).collect();
            prop_assert_eq!(read, args);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = (Settings::parse(&bytes), Command::parse(&bytes));
        }
    }
}
