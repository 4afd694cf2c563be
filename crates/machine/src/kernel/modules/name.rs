//! Names of modules, and names of their files.
//!
//! Interface: in the name of a module `-` and `_` are the same character
//! ([`proto::modules`]); names of files have either.

pub use proto::modules::canonical as canonical_name;

/// Ends of the names of module files, plain and compressed.
pub(super) const ENDINGS: &[&str] = &[".ko", ".ko.gz", ".ko.xz", ".ko.zst"];

/// The canonical module name of a file such as `kernel/fs/fuse/virtiofs.ko.xz`;
/// `None` if the file is not a module.
#[must_use]
pub fn name_of(path: &str) -> Option<String> {
    let name = without_ending(path)?.rsplit('/').next()?;
    (!name.is_empty()).then(|| canonical_name(name))
}

/// The path of a module file without its ending; `None` if the file is not a module.
pub(super) fn without_ending(path: &str) -> Option<&str> {
    ENDINGS.iter().find_map(|ending| path.strip_suffix(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_module_files_have_a_module_name() {
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
