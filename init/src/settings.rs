//! What one run of chrootvm asks of the guest beyond the kernel command line.
//!
//! That line is cut at 2,048 bytes and cannot hold quotes or newlines, so the
//! rest travels as the file `/virtinit.run` in a segment of the initrd of its
//! own: records `KEY=VALUE`, each ended by NUL, which no argument can contain.
//! The same records ask for a second command in a running machine.
//!
//! Both sides use this file: the host writes by [`Record`], `/init` reads.

use alloc::format;
use alloc::vec::Vec;
use core::ffi::CStr;

use crate::cmdline::Access;
use crate::error::{Error, Result, show};
use crate::words::{number, text};

/// Name of the file in the initramfs.
pub const FILE: &str = "virtinit.run";

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
        for record in text.split_inclusive(|&byte| byte == 0) {
            let unknown = || {
                Error::new(
                    format_args!("read /{FILE}: unknown record \"{}\"", show(record)),
                    "chrootvm and /init are of different versions",
                )
            };
            settings.take(record).ok_or_else(unknown)?;
        }
        Ok(settings)
    }

    /// Takes one record with its NUL.
    fn take(&mut self, record: &'a [u8]) -> Option<()> {
        let at = record.iter().position(|&byte| byte == b'=')?;
        let (key, value) = (record.get(..at)?, record.get(at + 1..)?);
        let string = CStr::from_bytes_with_nul(value).ok()?;
        let bytes = string.to_bytes();
        match text(key) {
            "arg" => self.request.args.push(string),
            "env" => self.request.env.push(string),
            "cwd" => self.request.cwd = Some(string),
            "user" => self.request.user = Some(bytes),
            "terminal" => self.request.terminal = Some(Size::parse(bytes)?),
            "hostname" => self.hostname = Some(bytes),
            "volume" => self.volumes.push(Volume::parse(bytes)?),
            "network" => self.network = true,
            "alone" => self.alone = true,
            _ => return None,
        }
        Some(())
    }
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
            let _ = Settings::parse(&bytes);
        }
    }
}
