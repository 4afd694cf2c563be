//! Constants of the architectures on which machines run, one row for each.

use anyhow::{Context, Result};

/// Names and limits that QEMU and the kernel use on one architecture.
#[derive(Debug, PartialEq, Eq)]
pub struct Architecture {
    /// Name of the architecture (`uname -m`).
    pub arch: &'static str,
    /// Name of QEMU's program; some distributions install it as `qemu-kvm` instead.
    pub qemu: &'static str,
    /// Value of `-machine`.
    pub machine: &'static str,
    /// File name of a firmware that starts faster than QEMU's default; `None` if QEMU has
    /// none.
    pub firmware: Option<&'static str>,
    /// Value of `-cpu` for an emulated processor.
    pub emulated_cpu: &'static str,
    /// Highest number of processors.
    pub cpus_max: usize,
    /// Name of the serial console in the guest.
    pub console: &'static str,
    /// Kernel parameters that every machine gets.
    pub parameters: &'static str,
    /// Longest kernel command line in bytes, including its NUL (`COMMAND_LINE_SIZE`).
    pub command_line_max: usize,
}

/// QEMU's q35 machine without devices that firmware and kernel do not need; probing them
/// would take time.
const Q35: &str = "q35,hpet=off,sata=off,smbus=off,usb=off,vmport=off";

/// Emulated processor. `max` has every feature that a root file system may need, including
/// x86-64-v3. Without `erms` the kernel clears and copies memory by eight bytes at a time
/// instead of one; the emulator takes one step for each.
///
/// `max` reports itself as an AMD K8. The kernel does not trust the clock of a K8 and uses
/// the ACPI timer. If the kernel trusted the clock (with an Intel `model`, or
/// `tsc=reliable`), it would patch the idle loop while it boots, and QEMU 7.2 sometimes lets
/// another processor execute half of that patch: one boot in a hundred panicked.
const X86_CPU: &str = "max,-erms";

/// Kernel parameters (kernel doc: admin-guide/kernel-parameters.rst). The user can switch
/// the self-tests on again with `--append cryptomgr.notests=0`.
///
/// - `no_timer_check`: on a busy host without KVM the timer can be so slow that the kernel
///   believes it does not tick, and panics ("IO-APIC + timer doesn't work!").
/// - `cryptomgr.notests`: some kernels test all their ciphers at every boot, which takes
///   half of the boot.
const X86_PARAMETERS: &str = "no_timer_check cryptomgr.notests";

#[rustfmt::skip]
const ARCHITECTURES: &[Architecture] = &[
    Architecture { arch: "x86_64", qemu: "qemu-system-x86_64", machine: Q35, firmware: Some("qboot.rom"), emulated_cpu: X86_CPU, cpus_max: 255, console: "ttyS0", parameters: X86_PARAMETERS, command_line_max: 2048 },
];

/// Constants of this host's architecture.
///
/// # Errors
/// No row describes this architecture.
pub fn of_host() -> Result<&'static Architecture> {
    let arch = std::env::consts::ARCH;
    let row = ARCHITECTURES.iter().find(|row| row.arch == arch);
    row.with_context(|| format!("no virtual machine is described for {arch} hosts"))
}
