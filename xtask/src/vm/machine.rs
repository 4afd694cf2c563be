//! The machines that can be booted, one row an architecture.

use anyhow::{Context, Result};

/// What QEMU and the kernel call things on one architecture.
#[derive(Debug, PartialEq, Eq)]
pub struct Machine {
    /// `uname -m`
    pub arch: &'static str,
    /// QEMU's binary; distributions with one architecture call it `qemu-kvm`.
    pub qemu: &'static str,
    /// `-machine`
    pub machine: &'static str,
    /// Most processors that it has.
    pub cpus_max: usize,
    /// The serial console's device.
    pub console: &'static str,
    /// More words for the kernel.
    pub words: &'static str,
    /// Longest command line in bytes, its NUL included (`COMMAND_LINE_SIZE`).
    pub command_line_max: usize,
}

/// On a crowded host without KVM the kernel finds that its timer does not tick,
/// and panics ("IO-APIC + timer doesn't work!"), when it is only slow; this
/// machine's timer needs no test (kernel doc: admin-guide/kernel-parameters.rst).
const X86: &str = "no_timer_check";

#[rustfmt::skip]
const MACHINES: &[Machine] = &[
    Machine { arch: "x86_64", qemu: "qemu-system-x86_64", machine: "q35", cpus_max: 255, console: "ttyS0", words: X86, command_line_max: 2048 },
];

/// The row of this host's architecture.
pub fn of_host() -> Result<&'static Machine> {
    let arch = std::env::consts::ARCH;
    let row = MACHINES.iter().find(|row| row.arch == arch);
    row.with_context(|| format!("no virtual machine is described for {arch} hosts"))
}
