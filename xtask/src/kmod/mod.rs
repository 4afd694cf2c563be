//! Kernel modules: which files a name needs, and in which order they load.
//!
//! Formats: modules.dep(5), modules.builtin and modules.softdep of depmod(8),
//! and the `.modinfo` section where depmod has not run.
//!
//! - [`dir`] reads a modules directory,
//! - [`mod@file`] reads one module, compressed or not,
//! - [`resolve`] decides what loads, without I/O of its own,
//! - [`strip`] takes out of a module what only costs time,
//! - [`trace`] what lets its functions be traced.

pub mod dir;
pub mod file;
pub mod resolve;
pub mod strip;
pub mod trace;

/// How the names of module files end.
const ENDINGS: &[&str] = &[".ko", ".ko.gz", ".ko.xz", ".ko.zst"];

/// A module's name as the kernel compares it: `-` and `_` are the same.
#[must_use]
pub fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The canonical module name of a file such as `kernel/fs/fuse/virtiofs.ko.xz`;
/// `None` where it is no module.
#[must_use]
pub fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let stem = ENDINGS.iter().find_map(|ending| file.strip_suffix(ending))?;
    (!stem.is_empty()).then(|| canonical(stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        for (path, name) in [
            ("kernel/fs/fuse/virtiofs.ko", Some("virtiofs")),
            ("kernel/drivers/usb/usb-storage.ko.xz", Some("usb_storage")),
            ("a.ko.zst", Some("a")),
            ("a.ko.gz", Some("a")),
            ("modules.dep", None),
            ("a.ko.debug", None),
            (".ko", None),
        ] {
            assert_eq!(name_of(path).as_deref(), name, "{path}");
        }
    }
}
