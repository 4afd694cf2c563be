//! Buses by which a machine has its virtio devices.

use files::named::Named;

/// Bus by which a machine has its virtio devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// PCI, as in the machine q35.
    Pci,
    /// Memory-mapped registers, as in the machine microvm.
    Mmio,
    /// Channel I/O of s390.
    Ccw,
}

#[rustfmt::skip]
impl Named for Transport {
    const NAMES: &'static [(&'static str, Self, &'static str)] = &[
        ("pci", Self::Pci, "as in the machine q35"),
        ("mmio", Self::Mmio, "as in the machine microvm"),
        ("ccw", Self::Ccw, "as in machines of s390"),
    ];
}

impl Transport {
    /// Name of the kernel module that drives this bus; `None` if the driver is never a module
    /// (kernel: `CONFIG_S390_GUEST`).
    #[must_use]
    pub fn module(self) -> Option<&'static str> {
        match self {
            Self::Pci => Some("virtio_pci"),
            Self::Mmio => Some("virtio_mmio"),
            Self::Ccw => None,
        }
    }

    /// QEMU's name for the `kind` of device (`virtio-blk`, `vhost-user-fs`) on this bus.
    #[must_use]
    pub fn device(self, kind: &str) -> String {
        let end = match self {
            Self::Pci => "pci",
            Self::Mmio => "device",
            Self::Ccw => "ccw",
        };
        format!("{kind}-{end}")
    }
}
