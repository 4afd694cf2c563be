//! Paths in the machine, outside of the image.
//!
//! [`STATE`] is the working directory while layers are mounted, so that the options of
//! overlayfs have short names: mount(2) takes no more than a page of them.

/// Directory of this program.
pub(crate) const STATE: &str = "/run/step";

/// Mount point of the scratch disk, in [`STATE`].
pub(crate) const SCRATCH: &str = "scratch";

/// Root of the step.
pub(crate) const ROOT: &str = "/run/step/root";

/// File that is locked while a step runs.
pub(crate) const LOCK: &str = "/run/step/lock";

/// The last request of `run`.
pub(crate) const LAST_REQUEST: &str = "/run/step/last-request";

/// The request of `shell`.
pub(crate) const SHELL_REQUEST: &str = "/run/step/shell-request";

/// How the program ended, as the first two lines of a report.
pub(crate) const ENDED: &str = "/run/step/ended";

/// Why the program was not started; empty if it was.
pub(crate) const FAULT: &str = "/run/step/fault";

/// Contents of the step's `/etc/resolv.conf`.
pub(crate) const RESOLV_CONF: &str = "/run/step/resolv.conf";

/// Contents of the step's `/etc/hosts`.
pub(crate) const HOSTS: &str = "/run/step/hosts";

/// Mount point of a file system in memory with the secrets of a step.
pub(crate) const SECRETS: &str = "/run/step/secrets";

/// Start of the name of a mount point of [`disk`], in [`STATE`].
pub(crate) const DISK: &str = "disk-";

/// Mount point of a disk with an EROFS image, in [`STATE`].
pub(crate) fn disk(device: &str) -> String {
    format!("{DISK}{}", device.rsplit('/').next().unwrap_or(device))
}

/// Directory `name` of step `number`, in [`STATE`].
pub(crate) fn step(number: u32, name: &str) -> String {
    format!("{SCRATCH}/{number}/{name}")
}

/// Mount point of the source of mount `index` of a step, in [`STATE`]. A source itself may have a
/// name that options of overlayfs cannot have.
pub(crate) fn source(index: u32) -> String {
    format!("source-{index}")
}

/// Directory of the mounts of step `number` whose changes are dropped, in [`STATE`].
pub(crate) fn dropped_dir(number: u32) -> String {
    step(number, "dropped")
}

/// Directory or file `name` of mount `index` of step `number`, in [`STATE`].
pub(crate) fn dropped(number: u32, index: u32, name: &str) -> String {
    format!("{}/{index}/{name}", dropped_dir(number))
}

/// Directory `name` of cache `number`, in [`STATE`].
pub(crate) fn cache(number: u32, name: &str) -> String {
    format!("{SCRATCH}/caches/{number}/{name}")
}
