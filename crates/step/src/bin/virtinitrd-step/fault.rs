//! Errors of system calls, with the operation, its object, the name of the error and a hint.

use std::path::Path;

use anyhow::{Error, Result, anyhow};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount as mount_call};

/// Errors of mount(2), and what they usually mean.
#[rustfmt::skip]
const MOUNT_HINTS: &[(Errno, &str)] = &[
    (Errno::EINVAL,  "the kernel refuses the file system or an option; its log says why"),
    (Errno::ELOOP,   "a layer is given twice"),
    (Errno::ENODEV,  "the kernel has no such file system: load its module"),
    (Errno::ENOENT,  "the disk or the mount point is missing"),
    (Errno::ENOTDIR, "a file cannot be mounted on a directory, or a directory on a file"),
    (Errno::ENOSPC,  "the scratch disk is full"),
    (Errno::ENXIO,   "the machine has no such disk"),
];

/// Adds operation and object to an error of the system.
pub(crate) trait Describe<T> {
    /// Adds `what`, such as `make directory /x`.
    fn describe(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Describe<T> for nix::Result<T> {
    fn describe(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| anyhow!("{}: {errno}", what()))
    }
}

impl<T> Describe<T> for std::io::Result<T> {
    fn describe(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| match error.raw_os_error() {
            Some(number) => anyhow!("{}: {}", what(), Errno::from_raw(number)),
            None => anyhow!("{}: {error}", what()),
        })
    }
}

/// mount(2), with an error that says what was mounted.
pub(crate) fn mount(
    source: &Path,
    target: &Path,
    kind: &str,
    flags: MsFlags,
    data: &str,
) -> Result<()> {
    mount_call(Some(source), target, Some(kind), flags, Some(data))
        .map_err(|errno| mount_error(kind, source, target, errno))
}

/// The error of a failed mount(2).
pub(crate) fn mount_error(kind: &str, source: &Path, target: &Path, errno: Errno) -> Error {
    let hint = MOUNT_HINTS.iter().find(|(row, _)| *row == errno);
    let hint = hint.map(|(_, hint)| format!("; {hint}")).unwrap_or_default();
    let (source, target) = (source.display().to_string(), target.display());
    let source = if source == kind { String::new() } else { format!(" {source}") };
    anyhow!("mount {kind}{source} at {target}: {errno}{hint}")
}
