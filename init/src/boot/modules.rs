//! Loading the kernel modules that are packed with `/init`.
//!
//! Interface: finit_module(2). The packager names the files so that their byte order is the
//! load order (`001-virtio_ring.ko`).

use alloc::string::String;
use core::ffi::CStr;

use proto::text::{compose, show};
use proto::words::text;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::cmdline::config::Config;
use crate::cmdline::module_parameters;
use crate::report::kernel_log::KernelLog;
use crate::report::log;
use crate::report::watch::{self, BootStep};
use crate::sys::error::{Context, Hints, Result, hint_for, sys_error};
use crate::sys::file;

/// Directory of the packed modules.
const MODULES_DIR: &CStr = c"/usr/lib/modules";

/// Endings of module files, and the finit_module(2) flags for each. Only some kernels load
/// compressed modules (`CONFIG_MODULE_DECOMPRESS`, Linux 5.17).
#[rustfmt::skip]
const ENDINGS: &[(&[u8], i32)] = &[
    (b".ko",     0),
    (b".ko.gz",  MODULE_INIT_COMPRESSED_FILE),
    (b".ko.xz",  MODULE_INIT_COMPRESSED_FILE),
    (b".ko.zst", MODULE_INIT_COMPRESSED_FILE),
];

/// Flag of finit_module(2): the file is compressed (include/uapi/linux/module.h).
const MODULE_INIT_COMPRESSED_FILE: i32 = 4;

/// Hints for a module that the kernel refuses.
#[rustfmt::skip]
const HINTS: Hints = &[
    (Some(Errno::NOEXEC),      "it is no module of this kernel (version magic or format)"),
    (Some(Errno::INVAL),       "it is empty, or a parameter of it is wrong"),
    (Some(Errno::NOENT),       "it needs a symbol of a module that is not packed, or that sorts after it"),
    (Some(Errno::KEYREJECTED), "its signature is damaged, or of a key that this kernel does not know"),
    (Some(Errno::BADMSG),      "its signature is damaged"),
    (Some(Errno::OPNOTSUPP),   "this kernel does not load compressed modules: pack them uncompressed"),
    (Some(Errno::NODEV),       "there is no device for it"),
];

/// Prefixes of symbols, and the module that defines them. The list has the symbols whose
/// names do not start with the name of their module.
#[rustfmt::skip]
const SYMBOL_OWNERS: &[(&str, &str)] = &[
    ("virtqueue_",            "virtio_ring"),
    ("vring_",                "virtio_ring"),
    ("vp_modern_",            "virtio_pci_modern_dev"),
    ("vp_legacy_",            "virtio_pci_legacy_dev"),
    ("register_virtio_",      "virtio"),
    ("unregister_virtio_",    "virtio"),
];

/// Loads all modules in byte order of their names. A failure is a warning only, because the
/// boot may not need the module; if it does, mounting the root fails.
pub fn load_all(config: &Config<'_>) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = match rustix::fs::open(MODULES_DIR, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        result => result.context(format_args!("open {}", show(MODULES_DIR.to_bytes())))?,
    };
    let is_module = |name: &CStr| init_flags(name.to_bytes()).is_some();
    let names = file::names_in(&dir, &is_module)
        .context(format_args!("list {}", show(MODULES_DIR.to_bytes())))?;
    let mut kernel_log = KernelLog::open();
    for name in &names {
        watch::enter(BootStep::LoadModule);
        kernel_log.skip();
        let parameters =
            module_parameters::of_module(&config.module_words, module_name(name.to_bytes()));
        match load(&dir, name, &parameters) {
            Ok(()) => log::debug!("loaded {}", show(name.to_bytes())),
            Err(Errno::EXIST) => {
                log::debug!("{} is loaded already", show(name.to_bytes()));
            }
            Err(errno) => {
                let hint = explain(errno, kernel_log.first().as_deref());
                let error = sys_error(format_args!("load {}", show(name.to_bytes())), errno, &hint);
                log::warn!("{error}");
            }
        }
    }
    Ok(())
}

/// The hint for a refused module: a hint for the errno, and the kernel's own message, which
/// names the symbol, the version or the key.
fn explain(errno: Errno, words: Option<&[u8]>) -> String {
    let hint = hint_for(HINTS, errno);
    let Some(words) = words else { return hint.into() };
    // The kernel has escaped bytes that are not printable.
    let shown = text(words);
    match unknown_symbol(words).and_then(owner) {
        Some(owner) => {
            let owner = show(owner);
            compose(format_args!("{hint}, likely {owner}; the kernel says: {shown}"))
        }
        None => compose(format_args!("{hint}; the kernel says: {shown}")),
    }
}

/// The symbol in the kernel's message `MODULE: Unknown symbol SYMBOL (err -2)`.
fn unknown_symbol(words: &[u8]) -> Option<&[u8]> {
    const BEFORE: &[u8] = b": Unknown symbol ";
    let at = words.windows(BEFORE.len()).position(|part| part == BEFORE)?;
    words.get(at + BEFORE.len()..)?.split(|&byte| byte == b' ').next()
}

/// The module that likely defines `symbol`. Most symbols start with the name of their
/// module.
fn owner(symbol: &[u8]) -> Option<&[u8]> {
    let symbol = symbol.get(symbol.iter().take_while(|&&byte| byte == b'_').count()..)?;
    let known = SYMBOL_OWNERS.iter().find(|(prefix, _)| symbol.starts_with(prefix.as_bytes()));
    let by_name = || symbol.split(|&byte| byte == b'_').next();
    known.map(|(_, module)| module.as_bytes()).or_else(by_name)
}

fn load(dir: &OwnedFd, name: &CStr, parameters: &[u8]) -> Result<(), Errno> {
    let flags = init_flags(name.to_bytes()).unwrap_or_default();
    let parameters = file::c_string(&[parameters])?;
    // Non-blocking: opening a FIFO in the archive must not stop the boot.
    let read = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let module = rustix::fs::openat(dir, name, read, Mode::empty())?;
    rustix::system::finit_module(&module, &parameters, flags)
}

/// The name of the module in a file name: `usb_storage` in `012-usb_storage.ko`.
fn module_name(file: &[u8]) -> &[u8] {
    let stem = ENDINGS.iter().find_map(|(ending, _)| file.strip_suffix(*ending)).unwrap_or(file);
    let digits = stem.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match stem.get(digits..).and_then(|rest| rest.strip_prefix(b"-")) {
        Some(name) if digits > 0 => name,
        _ => stem,
    }
}

/// The finit_module(2) flags for a file of this name. `None`: the file is no module.
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
    fn modules_are_known_by_their_endings() {
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
    fn names_are_found_in_file_names() {
        for (file, name) in [
            ("001-virtio_ring.ko", "virtio_ring"),
            ("1000-a-b.ko.xz", "a-b"),
            ("usb-storage.ko", "usb-storage"),
            ("8021q.ko", "8021q"),
            ("-x.ko", "-x"),
        ] {
            assert_eq!(module_name(file.as_bytes()), name.as_bytes(), "{file}");
        }
    }

    #[test]
    fn the_kernels_message_names_the_owner() {
        for (words, owner) in [
            ("virtiofs: Unknown symbol fuse_dev_install (err -2)", ", likely fuse;"),
            (
                "virtio_pci: Unknown symbol vp_modern_probe (err -2)",
                ", likely virtio_pci_modern_dev;",
            ),
            ("virtiofs: Unknown symbol virtqueue_kick (err -2)", ", likely virtio_ring;"),
            ("a: Unknown symbol __register_virtio_driver (err -2)", ", likely virtio;"),
        ] {
            let text = explain(Errno::NOENT, Some(words.as_bytes()));
            assert!(text.contains(owner) && text.ends_with(words), "{text}");
        }
        assert!(!explain(Errno::NOENT, None).contains("likely"));
    }
}
