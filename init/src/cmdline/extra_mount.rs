//! `virtinit.mount=SOURCE:PATH[:TYPE[:OPTIONS]]`, as [`ExtraMount`].
//!
//! SOURCE ends at the first `:/`, because a label and MAJOR:MINOR may contain a colon.

use proto::error::{Error, Result};
use proto::tag::Tag;
use proto::text::show;
use proto::words::text;

use crate::cmdline::device::{Device, Disk};

/// Name of the parameter.
pub const PARAMETER: &str = "virtinit.mount";

/// One more file system for the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtraMount<'a> {
    /// The source of the mount.
    pub source: MountSource<'a>,
    /// Absolute path in the root.
    pub path: &'a [u8],
    /// Mount options, separated by commas.
    pub options: &'a [u8],
}

/// The source of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountSource<'a> {
    /// A share of the host: TYPE is `virtiofs`.
    Tag(Tag<'a>),
    /// A file system on a block device.
    Disk(Disk<'a>),
    /// A file system without a device, such as tmpfs, or one that interprets SOURCE
    /// itself.
    Other {
        /// SOURCE as mount(2) takes it.
        name: &'a [u8],
        /// File system type.
        kind: &'a [u8],
    },
}

impl<'a> ExtraMount<'a> {
    /// Reads the value of one `virtinit.mount=`.
    ///
    /// # Errors
    /// The value is incomplete or malformed.
    pub fn parse(value: &'a [u8]) -> Result<Self> {
        let bad = |hint| Error::new(format_args!("{PARAMETER}={}", show(value)), hint);
        let split = value.windows(2).position(|pair| pair == b":/");
        let (Some(name), Some(rest)) =
            (split.and_then(|at| value.get(..at)), split.and_then(|at| value.get(at + 1..)))
        else {
            return Err(bad("the value must be SOURCE:PATH[:TYPE[:OPTIONS]], PATH absolute"));
        };
        let mut parts = rest.splitn(3, |&byte| byte == b':');
        let [path, kind, options] = [(); 3].map(|()| parts.next().unwrap_or_default());
        if path == b"/" {
            return Err(bad("PATH is the root itself"));
        }
        let source = match (Device::parse(name)?, text(kind)) {
            (_, "virtiofs") => MountSource::Tag(Tag::parse(name)?),
            (Some(device), _) => {
                MountSource::Disk(Disk { device, parameter: PARAMETER, name, kinds: kind, options })
            }
            (None, "") => return Err(bad("SOURCE is no device, so a TYPE is needed")),
            (None, _) => MountSource::Other { name, kind },
        };
        Ok(Self { source, path, options })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn disk<'a>(
        device: Device<'a>,
        name: &'a str,
        kinds: &'a str,
        options: &'a str,
    ) -> MountSource<'a> {
        let [name, kinds, options] = [name, kinds, options].map(str::as_bytes);
        MountSource::Disk(Disk { device, parameter: PARAMETER, name, kinds, options })
    }

    #[test]
    fn a_value_is_cut_into_parts() {
        let vdb = Device::Path(b"/dev/vdb");
        let tag = MountSource::Tag(Tag::parse(b"src").unwrap());
        let number = Device::Number(b"254:16");
        #[rustfmt::skip]
        let cases = [
            ("/dev/vdb:/data",                     disk(vdb, "/dev/vdb", "", ""),                    "/data",   ""),
            ("/dev/vdb:/data:ext4",                disk(vdb, "/dev/vdb", "ext4", ""),                "/data",   ""),
            ("/dev/vdb:/data::ro,x=a:b",           disk(vdb, "/dev/vdb", "", "ro,x=a:b"),            "/data",   "ro,x=a:b"),
            ("LABEL=a:b:/data",                    disk(Device::Label(b"a:b"), "LABEL=a:b", "", ""), "/data",   ""),
            ("254:16:/data",                       disk(number, "254:16", "", ""),                   "/data",   ""),
            ("src:/opt/src:virtiofs:ro",           tag,                                              "/opt/src", "ro"),
            ("tmpfs:/scratch:tmpfs:size=1m",       MountSource::Other { name: b"tmpfs", kind: b"tmpfs" }, "/scratch", "size=1m"),
        ];
        for (value, source, path, options) in cases {
            let expected =
                ExtraMount { source, path: path.as_bytes(), options: options.as_bytes() };
            assert_eq!(ExtraMount::parse(value.as_bytes()).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn an_incomplete_value_is_an_error() {
        for (value, hint) in [
            ("", "must be SOURCE:PATH"),
            ("/dev/vdb", "must be SOURCE:PATH"),
            ("/dev/vdb:data", "must be SOURCE:PATH"),
            ("/dev/vdb:/", "the root itself"),
            ("vdb:/data", "a TYPE is needed"),
            ("a/b:/data:virtiofs", "it contains '/'"),
            ("UUID=1:/data", "UUID=1: malformed"),
            ("PARTUUID=1:/data", "PARTUUID=1: malformed"),
        ] {
            let error = ExtraMount::parse(value.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(hint), "{value}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(value in "[ -~]{0,8}(:/)?[ -~:]{0,20}") {
            let _ = ExtraMount::parse(value.as_bytes());
        }
    }
}
