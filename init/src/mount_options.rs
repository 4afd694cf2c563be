//! Mount options as people write them: those of every file system, which are
//! flags to the kernel, and those of one, which are its text.
//!
//! Source: mount(8), "Filesystem-independent mount options"; mount(2). The kernel
//! takes `rootflags=` for the text alone, and no file system knows `noatime`.

use alloc::vec::Vec;

use rustix::mount::MountFlags;

use crate::words::text;

/// What mount(2) is given.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// For all file systems.
    pub flags: MountFlags,
    /// The rest, with commas, as it was given.
    pub data: Vec<u8>,
}

/// Words that set a flag.
#[rustfmt::skip]
const SET: &[(&str, MountFlags)] = &[
    ("ro",          MountFlags::RDONLY),
    ("nosuid",      MountFlags::NOSUID),
    ("nodev",       MountFlags::NODEV),
    ("noexec",      MountFlags::NOEXEC),
    ("sync",        MountFlags::SYNCHRONOUS),
    ("dirsync",     MountFlags::DIRSYNC),
    ("noatime",     MountFlags::NOATIME),
    ("nodiratime",  MountFlags::NODIRATIME),
    ("relatime",    MountFlags::RELATIME),
    ("strictatime", MountFlags::STRICTATIME),
    ("lazytime",    MountFlags::LAZYTIME),
    ("silent",      MountFlags::SILENT),
];

/// Words that clear one.
#[rustfmt::skip]
const CLEARED: &[(&str, MountFlags)] = &[
    ("rw",       MountFlags::RDONLY),
    ("suid",     MountFlags::NOSUID),
    ("dev",      MountFlags::NODEV),
    ("exec",     MountFlags::NOEXEC),
    ("defaults", MountFlags::empty()),
];

impl Options {
    /// Reads `options`, of which the last counts, on top of `flags`.
    #[must_use]
    pub fn parse(options: &[u8], flags: MountFlags) -> Self {
        let mut parsed = Self { flags, data: Vec::new() };
        for option in options.split(|&byte| byte == b',').filter(|option| !option.is_empty()) {
            let flag_of = |table: &[(&str, MountFlags)]| {
                table.iter().find(|(word, _)| *word == text(option)).map(|(_, flag)| *flag)
            };
            if let Some(flag) = flag_of(SET) {
                parsed.flags |= flag;
            } else if let Some(flag) = flag_of(CLEARED) {
                parsed.flags -= flag;
            } else {
                if !parsed.data.is_empty() {
                    parsed.data.push(b',');
                }
                parsed.data.extend_from_slice(option);
            }
        }
        parsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_all_file_systems_become_flags() {
        const NONE: MountFlags = MountFlags::empty();
        const RO: MountFlags = MountFlags::RDONLY;
        for (text, before, flags, data) in [
            ("", RO, RO, ""),
            ("noload", RO, RO, "noload"),
            (
                "noatime,data=journal,nosuid,,x=\"a\"",
                NONE,
                MountFlags::NOATIME | MountFlags::NOSUID,
                "data=journal,x=\"a\"",
            ),
            ("rw", RO, NONE, ""),
            ("rw,ro,defaults", RO, RO, ""),
            ("nodev,dev,NODEV,\u{e9}", NONE, NONE, "NODEV,\u{e9}"),
        ] {
            let expected = Options { flags, data: data.into() };
            assert_eq!(Options::parse(text.as_bytes(), before), expected, "{text}");
        }
    }
}
