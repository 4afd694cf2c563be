//! The kernel parameters that `/init` reads (the project's virtinitrd(7)).

/// Every parameter that `/init` reads.
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
