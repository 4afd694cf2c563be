//! The architectures, and how QEMU starts a machine of each without chrootvm.

/// An architecture.
#[derive(Debug)]
pub(super) struct Row {
    /// Its name (`uname -m`).
    pub(super) arch: &'static str,
    /// Name of QEMU's program.
    pub(super) qemu: &'static str,
    /// Value of `-machine`.
    pub(super) machine: &'static str,
    /// Value of `-cpu`.
    pub(super) cpu: &'static str,
    /// How a virtio device is attached: the end of its name in QEMU.
    pub(super) bus: &'static str,
    /// Name of the console in the guest.
    pub(super) console: &'static str,
    /// Reason for which a guest has no virtiofs on a host of another architecture; `None` if it has.
    pub(super) no_virtiofs: Option<&'static str>,
}

/// Without these, the emulated pseries warns that it lacks mitigations of processor bugs.
const PSERIES: &str = "pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off";

/// FUSE passes the flags of open(2) as the guest numbers them.
const OTHER_FLAGS: Option<&str> = Some("virtiofs needs a host with the same flags of open(2)");
/// FUSE has the byte order of the guest.
const OTHER_ORDER: Option<&str> = Some("virtiofs needs a host with the same byte order");

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row { arch: "x86_64",  qemu: "qemu-system-x86_64",  machine: "q35",             cpu: "max",        bus: "pci", console: "ttyS0",    no_virtiofs: None },
    Row { arch: "aarch64", qemu: "qemu-system-aarch64", machine: "virt",            cpu: "cortex-a72", bus: "pci", console: "ttyAMA0",  no_virtiofs: None },
    Row { arch: "riscv64", qemu: "qemu-system-riscv64", machine: "virt",            cpu: "rv64",       bus: "pci", console: "ttyS0",    no_virtiofs: None },
    Row { arch: "ppc64le", qemu: "qemu-system-ppc64",   machine: PSERIES,           cpu: "power9",     bus: "pci", console: "hvc0",     no_virtiofs: OTHER_FLAGS },
    Row { arch: "s390x",   qemu: "qemu-system-s390x",   machine: "s390-ccw-virtio", cpu: "qemu",       bus: "ccw", console: "ttysclp0", no_virtiofs: OTHER_ORDER },
];

#[cfg(test)]
mod tests {
    use super::*;
    use machine::plan::architecture::ARCHITECTURES;

    #[test]
    fn every_architecture_is_in_the_table_and_in_the_document() {
        let document = include_str!("../../../docs/architectures.md");
        for row in ROWS {
            assert!(document.contains(&format!("\n| {} | ", row.arch)), "{}", row.arch);
        }
        for known in ARCHITECTURES {
            let row = ROWS.iter().find(|row| row.arch == known.arch);
            let row = row.map(|row| (row.qemu, row.console));
            assert_eq!(row, Some((known.qemu, known.console)), "{}", known.arch);
        }
    }
}
