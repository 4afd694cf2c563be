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
    ORDERS,
    "virtinit.overlay",
    "virtinit.wait",
    "rootflags",
    "--",
];

/// Makes `/init` wait for orders before it mounts the root (crate documentation, "Orders").
pub const ORDERS: &str = "virtinit.orders";
