//! Kernel modules: which files a name needs, and in which order they load.
//!
//! Formats: those of depmod(8) and of the kernel's build, and the `.modinfo` section.
//!
//! - [`dir`] reads a modules directory,
//! - [`index`] the files in it that list modules,
//! - [`alias`] those that list other names of them,
//! - [`mod@file`] reads one module, compressed or not,
//! - [`resolve`] decides what loads, without I/O of its own,
//! - [`strip`] takes out of a module what only costs time,
//! - [`trace`] what lets its functions be traced.

pub mod alias;
pub mod dir;
pub mod file;
pub mod index;
pub mod resolve;
pub mod strip;
pub mod trace;

pub use virtinitrd_proto::modules::canonical;

/// How the names of module files end.
const ENDINGS: &[&str] = &[".ko", ".ko.gz", ".ko.xz", ".ko.zst"];

/// The canonical module name of a file such as `kernel/fs/fuse/virtiofs.ko.xz`;
/// `None` where it is no module.
#[must_use]
pub fn name_of(path: &str) -> Option<String> {
    let name = stem(path)?.rsplit('/').next()?;
    (!name.is_empty()).then(|| canonical(name))
}

/// The path of a module file without its ending.
fn stem(path: &str) -> Option<&str> {
    ENDINGS.iter().find_map(|ending| path.strip_suffix(ending))
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
