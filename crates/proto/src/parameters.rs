//! Names of the kernel parameters that `/init` reads; virtinitrd(7) describes them.

/// All names. `--` ends the parameters and starts the payload's arguments.
pub const PARAMETERS: &[&str] = &[
    "rootfs",
    "root",
    "rootfstype",
    "rootwait",
    "rootdelay",
    "ro",
    "rw",
    "mount",
    "mount-ro",
    "init",
    "debug",
    "virtinit.debug",
    "virtinit.etc",
    "virtinit.fail",
    "virtinit.mount",
    "virtinit.overlay",
    "virtinit.wait",
    "rootflags",
    "--",
];
