//! Kernel modules packed beside `/init`.
//!
//! Interface: finit_module(2). The packager named them so that byte order is
//! load order (`001-virtio_ring.ko`).

use alloc::ffi::CString;
use alloc::format;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::mem::MaybeUninit;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::error::{Context, Hints, Result};
use crate::log::Log;

/// Where the packager puts them.
const MODULES_DIR: &CStr = c"/usr/lib/modules";

/// The endings that `finit_module` is given, and the flags that go with each.
/// Whether a compressed module loads is the kernel's choice
/// (`CONFIG_MODULE_DECOMPRESS`, Linux 5.17).
#[rustfmt::skip]
const ENDINGS: &[(&[u8], i32)] = &[
    (b".ko",     0),
    (b".ko.gz",  MODULE_INIT_COMPRESSED_FILE),
    (b".ko.xz",  MODULE_INIT_COMPRESSED_FILE),
    (b".ko.zst", MODULE_INIT_COMPRESSED_FILE),
];

/// `include/uapi/linux/module.h`
const MODULE_INIT_COMPRESSED_FILE: i32 = 4;

/// Why the kernel refuses a module.
#[rustfmt::skip]
const HINTS: Hints = &[
    (Some(Errno::NOEXEC),      "it is no module of this kernel (version magic or format); see the kernel's own message"),
    (Some(Errno::INVAL),       "it is empty, or a parameter of it is wrong"),
    (Some(Errno::NOENT),       "a symbol is missing: a module that it needs is not packed, or sorts after it"),
    (Some(Errno::KEYREJECTED), "this kernel enforces signatures and does not know this one's key"),
    (Some(Errno::BADMSG),      "its signature is damaged"),
    (Some(Errno::OPNOTSUPP),   "this kernel does not load compressed modules: pack them uncompressed"),
    (Some(Errno::NODEV),       "no device for it"),
];

/// Loads all modules in byte order of their names. One that fails is reported
/// and the boot goes on: only the root mount can tell whether it was needed.
pub fn load_all(log: &Log) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = match rustix::fs::open(MODULES_DIR, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        result => result.context(|| format!("open {}", show(MODULES_DIR)), &[])?,
    };
    let mut names = list(&dir).context(|| format!("list {}", show(MODULES_DIR)), &[])?;
    names.sort_unstable();
    for name in &names {
        match load(&dir, name) {
            Ok(()) => log.debug(format_args!("loaded {}", show(name))),
            Err(Errno::EXIST) => log.debug(format_args!("{} is loaded already", show(name))),
            Err(errno) => {
                let failed: Result<(), _> = Err(errno);
                if let Err(error) = failed.context(|| format!("load {}", show(name)), HINTS) {
                    log.warning(format_args!("{error}"));
                }
            }
        }
    }
    Ok(())
}

fn show(text: &CStr) -> core::slice::EscapeAscii<'_> {
    text.to_bytes().escape_ascii()
}

fn list(dir: &OwnedFd) -> Result<Vec<CString>, Errno> {
    /// Bytes of directory entries per getdents64(2).
    const BUFFER: usize = 4096;
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if init_flags(entry.file_name().to_bytes()).is_some() {
            names.push(CString::from(entry.file_name()));
        }
    }
    Ok(names)
}

fn load(dir: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    let flags = init_flags(name.to_bytes()).unwrap_or_default();
    let module = rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::system::finit_module(&module, c"", flags)
}

/// The `finit_module` flags for a file of this name; `None` if it is no module.
fn init_flags(name: &[u8]) -> Option<i32> {
    ENDINGS
        .iter()
        .find(|(ending, _)| name.len() > ending.len() && name.ends_with(ending))
        .map(|(_, flags)| *flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_told_by_their_endings() {
        for (name, flags) in [
            (&b"001-virtio.ko"[..], Some(0)),
            (b"fuse.ko.xz", Some(4)),
            (b"fuse.ko.zst", Some(4)),
            (b"fuse.ko.gz", Some(4)),
            (b".ko", None),
            (b"fuse.ko.debug", None),
            (b"modules.dep", None),
        ] {
            assert_eq!(init_flags(name), flags, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn byte_order_is_load_order() {
        let mut names = [c"010-b.ko", c"Z.ko", c"002-c.ko", c"a.ko"].map(CString::from);
        names.sort_unstable();
        assert_eq!(names, [c"002-c.ko", c"010-b.ko", c"Z.ko", c"a.ko"].map(CString::from));
    }
}
