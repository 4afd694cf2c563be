//! Kernel modules that guests use.

use crate::kernel::modules::resolve::Need;
use crate::plan::architecture::Architecture;
use crate::plan::transport::Transport;

/// A module that guests use.
#[derive(Debug, PartialEq, Eq)]
pub struct GuestModule {
    /// Its name.
    pub name: &'static str,
    /// Purpose of the module in a guest.
    pub purpose: &'static str,
    /// [`Need::Must`] if no guest boots without it.
    pub need: Need,
    /// Bus of the machines whose guests use it; `None`: guests on every bus do.
    pub transport: Option<Transport>,
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

/// The modules that guests of this `architecture` use on this host, the most important first.
pub fn of(architecture: &Architecture) -> impl Iterator<Item = &'static GuestModule> {
    let transport = architecture.transport;
    let has_shares = architecture.no_shares().is_none();
    GUEST_MODULES.iter().filter(move |module| {
        let is_of_bus = module.transport.is_none_or(|one| one == transport);
        is_of_bus && (has_shares || module.name != SHARES)
    })
}

/// Name of the module for directories of the host.
const SHARES: &str = "virtiofs";

#[rustfmt::skip]
const GUEST_MODULES: &[GuestModule] = &[
    GuestModule { name: SHARES,           purpose: "the root file system", need: Need::Must, transport: None },
    GuestModule { name: "virtio_pci",     purpose: "QEMU's devices",       need: Need::Must, transport: Some(Transport::Pci) },
    GuestModule { name: "virtio_console", purpose: "ports to the host",    need: Need::May,  transport: None },
    GuestModule { name: "overlay",        purpose: "a writable root",      need: Need::May,  transport: None },
    GuestModule { name: "virtio_net",     purpose: "the network",          need: Need::May,  transport: None },
];
