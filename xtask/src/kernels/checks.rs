//! The columns of the table: what a machine must do.

/// Root file system of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckRoot {
    /// A directory, by virtiofs.
    Directory,
    /// An EROFS image of that directory.
    Erofs,
}

/// What a machine must do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    /// Heading of its column.
    pub(crate) name: &'static str,
    /// The root.
    pub(crate) root: CheckRoot,
    /// Options of chrootvm.
    pub(crate) options: &'static [&'static str],
    /// Words after ROOTFS.
    pub(crate) words: &'static [&'static str],
    /// Exit status of chrootvm.
    pub(crate) status: i32,
}

/// Text on the input of each machine, which comes back on its output.
pub(crate) const MARK: &str = "the kernel boots";

/// File in the root that PID 1 executes, and its text.
pub(crate) const START: (&str, &str) =
    ("start", "#!/bin/sh\necho the kernel boots\nexec busybox poweroff -f\n");

#[rustfmt::skip]
pub(crate) const CHECKS: &[Check] = &[
    Check { name: "command",    root: CheckRoot::Directory, options: &[],            words: &["--", "sh", "-c", "busybox cat; exit 42"], status: 42 },
    Check { name: "PID 1",      root: CheckRoot::Directory, options: &[],            words: &["/start"], status: 0 },
    Check { name: "EROFS root", root: CheckRoot::Erofs,     options: &[],            words: &["--", "busybox", "cat"], status: 0 },
    Check { name: "overlay",    root: CheckRoot::Directory, options: &["--overlay"], words: &["--", "sh", "-c", "busybox cat >/new && busybox cat /new"], status: 0 },
];
