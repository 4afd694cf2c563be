//! What one run of chrootvm asks of the guest beyond the kernel command line.
//!
//! That line is cut at 2,048 bytes and cannot hold quotes or newlines, so the
//! rest travels as the file `/virtinit.run` in a segment of the initrd of its
//! own: records `KEY=VALUE`, each ended by NUL, which no argument can contain.
//! The same records ask for a second command in a running machine, and those of
//! a [`Request`] say in the root's own [`IMAGE_FILE`] what it runs by itself.
//!
//! All sides use this file: who makes them writes by [`Record`], `/init` reads.

use alloc::format;
use alloc::vec::Vec;
use core::ffi::CStr;

use crate::access::Access;
use crate::error::{Error, Result};
use crate::text::show;
use crate::words::{self, number, text};

/// Name of the file in the initramfs.
pub const FILE: &str = "virtinit.run";

/// What a root runs where the host does not say what.
pub const IMAGE_FILE: &str = "/etc/virtinit/run";

/// Longest text of all records in bytes: `/init` has little memory of its own.
pub const MAX: usize = 1 << 20;

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// A virtiofs tag to be mounted anywhere in the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume<'a> {
    /// The tag; it has no blanks.
    pub tag: &'a [u8],
    /// Whether it may be written to.
    pub access: Access,
    /// Absolute path in the root.
    pub path: &'a [u8],
}

/// What follows when the command has ended, unless the machine is to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// The machine ends with it.
    #[default]
    No,
    /// It starts again, unless it has ended with status 0.
    OnFailure,
    /// It starts again.
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

/// Values of `restart=`.
pub const RESTARTS: [(&str, Restart); 3] =
    [("no", Restart::No), ("on-failure", Restart::OnFailure), ("always", Restart::Always)];

/// A command, and how to run it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request<'a> {
    /// The program and its arguments; empty where there is no command.
    pub args: Vec<&'a CStr>,
    /// `NAME=VALUE`, what was asked for only.
    pub env: Vec<&'a CStr>,
    /// Working directory; `/` without one.
    pub cwd: Option<&'a CStr>,
    /// `NAME`, `UID`, `NAME:GROUP` or `UID:GID`; root without one.
    pub user: Option<&'a [u8]>,
    /// A controlling terminal of this size instead of three streams.
    pub terminal: Option<Size>,
    /// For a root's own command only: the end of another is the host's to see.
    pub restart: Restart,
}

/// All records of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings<'a> {
    /// The host's name, of the guest.
    pub hostname: Option<&'a [u8]>,
    /// In the order in which they are mounted.
    pub volumes: Vec<Volume<'a>>,
    /// Whether to set up QEMU's user network.
    pub network: bool,
    /// Whether nobody on the host waits for the end: the guest powers off.
    pub alone: bool,
    /// What to run.
    pub request: Request<'a>,
}

/// One record as the host writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// One more word of the command.
    Arg(&'a [u8]),
    /// `NAME=VALUE`
    Env(&'a [u8]),
    /// Working directory.
    Cwd(&'a [u8]),
    /// User and group.
    User(&'a [u8]),
    /// What follows its end.
    Restart(Restart),
    /// A terminal.
    Terminal(Size),
    /// Name of the guest.
    Hostname(&'a [u8]),
    /// One more volume.
    Volume(Volume<'a>),
    /// QEMU's user network.
    Network,
    /// Power off by yourself.
    Alone,
}

impl Record<'_> {
    /// The bytes of the record, its NUL not included.
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
            Self::Volume(Volume { tag, access, path }) => {
                let access: &[u8] = match access {
                    Access::ReadOnly => b"ro",
                    Access::ReadWrite => b"rw",
                };
                ("volume", [access, b" ", tag, b" ", path].concat())
            }
            Self::Network => ("network", b"user".to_vec()),
            Self::Alone => ("alone", b"1".to_vec()),
        };
        [key.as_bytes(), b"=", &value].concat()
    }
}

/// The text of a file.
#[must_use]
pub fn encode(records: &[Record<'_>]) -> Vec<u8> {
    records.iter().flat_map(|record| [record.to_bytes(), [0].into()].concat()).collect()
}

impl<'a> Settings<'a> {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// A record that is not known here: the initrd's `/init` is of another
    /// version than the chrootvm that wrote it.
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
            "terminal" => self.request.terminal = Some(Size::parse(bytes)?),
            "hostname" => self.hostname = Some(bytes),
            "volume" => self.volumes.push(Volume::parse(bytes)?),
            "network" => self.network = true,
            "alone" => self.alone = true,
            _ => return self.request.take(key, value),
        }
        Some(())
    }
}

impl<'a> Request<'a> {
    /// Reads the text of [`IMAGE_FILE`].
    ///
    /// # Errors
    /// A record that means nothing there, or no command.
    pub fn parse(text: &'a [u8]) -> Result<Self> {
        let mut request = Self::default();
        take_all(text, &mut |key, value| request.take(key, value)).map_err(|record| {
            Error::new(
                format_args!("read {IMAGE_FILE}: unknown record \"{}\"", show(record)),
                "it has arg=, env=, cwd=, user=, restart=no|on-failure|always, each ended by NUL",
            )
        })?;
        match request.args.is_empty() {
            true => Err(Error::new(format_args!("read {IMAGE_FILE}: no command"), "it needs arg=")),
            false => Ok(request),
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

/// Gives each record of `text` to `take`.
///
/// # Errors
/// The first that is no record, or that `take` does not know.
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
    /// Reads `ROWS COLUMNS`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let at = text.iter().position(|&byte| byte == b' ')?;
        let number = |text| u16::try_from(number(text)?).ok();
        Some(Self { rows: number(text.get(..at)?)?, columns: number(text.get(at + 1..)?)? })
    }
}

impl<'a> Volume<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let mut parts = text.splitn(3, |&byte| byte == b' ');
        let access = match parts.next()? {
            b"ro" => Access::ReadOnly,
            b"rw" => Access::ReadWrite,
            _ => return None,
        };
        Some(Self { access, tag: parts.next()?, path: parts.next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_record_is_read_as_it_was_written() {
        let size = Size { rows: 24, columns: 80 };
        let volume = Volume { tag: b"v0", access: Access::ReadOnly, path: b"/a b" };
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
            Record::Volume(volume),
            Record::Network,
            Record::Alone,
        ]);
        let expected = Settings {
            hostname: Some(b"box"),
            volumes: [volume].into(),
            network: true,
            alone: true,
            request: Request {
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
    fn what_is_not_understood_is_an_error() {
        for text in ["x=1\0", "arg\0", "arg=unended", "terminal=1\0", "volume=rx a /b\0", "\0"] {
            assert!(Settings::parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_root_says_what_it_runs() {
        for (name, restart) in RESTARTS {
            let text = encode(&[Record::Arg(b"httpd"), Record::Restart(restart)]);
            assert!(text.ends_with(&[name.as_bytes(), b"\0"].concat()));
            let request = Request::parse(&text).unwrap();
            assert_eq!((&request.args[..], request.restart), (&[c"httpd"][..], restart));
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
            let error = Request::parse(text.as_bytes()).unwrap_err();
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
            let read: Vec<_> = settings.request.args.iter().map(|arg| arg.to_bytes()).collect();
            prop_assert_eq!(read, args);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = (Settings::parse(&bytes), Request::parse(&bytes));
        }
    }
}
