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
    /// The file of a firmware that does no more than this machine needs, where
    /// QEMU comes with one.
    pub firmware: Option<&'static str>,
    /// `-cpu` where the processor is emulated.
    pub emulated_cpu: &'static str,
    /// Most processors that it has.
    pub cpus_max: usize,
    /// The serial console's device.
    pub console: &'static str,
    /// More words for the kernel.
    pub words: &'static str,
    /// Longest command line in bytes, its NUL included (`COMMAND_LINE_SIZE`).
    pub command_line_max: usize,
}

/// A machine without the devices that neither the firmware nor the kernel has a
/// use for here, and would only search.
const Q35: &str = "q35,hpet=off,sata=off,smbus=off,usb=off,vmport=off";

/// `max` has what every root file system asks for, x86-64-v3 included. Without
/// `erms` the kernel clears and copies memory by eight bytes an instruction, not
/// by one, and to an emulator each is one step.
///
/// It takes itself for an AMD K8, of whose clock the kernel thinks so little that
/// it asks the ACPI timer instead. With one that it trusts (an Intel `model`, or
/// `tsc=reliable`) it patches the idle loop when it says so, and QEMU 7.2 now and
/// then lets another processor run half of the patch: one boot in a hundred
/// panicked.
const X86_CPU: &str = "max,-erms";

/// Words for the kernel (kernel doc: admin-guide/kernel-parameters.rst); a later
/// `cryptomgr.notests=0` of the user's takes one back.
///
/// - On a crowded host without KVM the kernel finds that its timer does not
///   tick, and panics ("IO-APIC + timer doesn't work!"), when it is only slow;
///   this machine's timer needs no test.
/// - Where the kernel checks all its ciphers against known answers at every
///   start, that is half of its boot.
const X86_WORDS: &str = "no_timer_check cryptomgr.notests";

#[rustfmt::skip]
const MACHINES: &[Machine] = &[
    Machine { arch: "x86_64", qemu: "qemu-system-x86_64", machine: Q35, firmware: Some("qboot.rom"), emulated_cpu: X86_CPU, cpus_max: 255, console: "ttyS0", words: X86_WORDS, command_line_max: 2048 },
];

/// The row of this host's architecture.
pub fn of_host() -> Result<&'static Machine> {
    let arch = std::env::consts::ARCH;
    let row = MACHINES.iter().find(|row| row.arch == arch);
    row.with_context(|| format!("no virtual machine is described for {arch} hosts"))
}
