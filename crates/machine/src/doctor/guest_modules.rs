//! Kernel modules that guests use.

use crate::kernel::modules::resolve::Need;

/// A module that guests use.
#[derive(Debug)]
pub struct GuestModule {
    /// Its name.
    pub name: &'static str,
    /// Purpose of the module in a guest.
    pub purpose: &'static str,
    /// [`Need::Must`] if no guest boots without it.
    pub need: Need,
}

/// Support of a kernel for a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// As a module file, with all its dependencies.
    Module,
    /// Built into the kernel's image.
    BuiltIn,
    /// Not at all; this is the reason.
    Missing(String),
}

/// The modules that guests use, the most important first.
#[rustfmt::skip]
pub const GUEST_MODULES: &[GuestModule] = &[
    GuestModule { name: "virtiofs",       purpose: "the root file system", need: Need::Must },
    GuestModule { name: "virtio_pci",     purpose: "QEMU's devices",       need: Need::Must },
    GuestModule { name: "virtio_console", purpose: "ports to the host",    need: Need::May },
    GuestModule { name: "overlay",        purpose: "a writable root",      need: Need::May },
    GuestModule { name: "virtio_net",     purpose: "the network",          need: Need::May },
];
