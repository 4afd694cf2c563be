//! Constants of the architectures of machines, one row for each.

use anyhow::{Context, Result};

use super::registers::{Register, RegisterBit, Width};
use super::transport::Transport;

/// Names and limits that QEMU and the kernel use on one architecture.
#[derive(Debug, PartialEq, Eq)]
pub struct Architecture {
    /// Name of the architecture (`uname -m`).
    pub arch: &'static str,
    /// Its name in OCI images and in Go (`GOARCH`).
    pub platform: &'static str,
    /// Name of QEMU's program; some distributions install the host's as `qemu-kvm` instead.
    pub qemu: &'static str,
    /// Value of `-machine`.
    pub machine: &'static str,
    /// Further properties of `machine` for an emulated processor, with a comma before each.
    pub emulated_properties: &'static str,
    /// Oldest version of QEMU (major, minor) that knows `machine`; `None` if every supported one
    /// does.
    pub oldest_qemu: Option<(u32, u32)>,
    /// Sizes of the memory are multiples of this, in MiB.
    pub memory_step: u64,
    /// Bus of the virtio devices.
    pub transport: Transport,
    /// True if the machine has root ports of PCI Express, into which devices are plugged while it
    /// runs.
    pub has_root_ports: bool,
    /// Reason for which a host of this architecture shares no directories with a guest of another
    /// one, and the other way round; `None` if it does.
    pub no_foreign_shares: Option<&'static str>,
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
    /// How the guest's kernel learns the frequency of its clock.
    pub clock: Clock,
    /// Longest kernel command line in bytes, including its NUL (`COMMAND_LINE_SIZE`).
    pub command_line_max: usize,
    /// Set while the guest reads its console; `None` if no register tells. Input then waits in
    /// QEMU.
    pub console_reads: Option<RegisterBit>,
    /// Set while the guest listens to its power button; `None` if the machine has no button.
    pub power_button_works: Option<RegisterBit>,
    /// True if QEMU may end with status 0, but without the event of a shutdown, when the guest
    /// powers off.
    pub powers_off_silently: bool,
}

/// Name of this host's architecture (`uname -m`). Rust's name for POWER does not tell the order of
/// bytes.
pub const HOST: &str = match std::env::consts::ARCH.as_bytes() {
    b"powerpc64" if cfg!(target_endian = "little") => "ppc64le",
    _ => std::env::consts::ARCH,
};

/// How a kernel learns the frequency of an emulated processor's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// It measures the time-stamp counter, unless its command line has the frequency.
    Measured,
    /// A register of the processor has it.
    Known,
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

/// The interrupt for received bytes of the first serial port (`UART_IER_RDI` of
/// include/uapi/linux/serial_reg.h).
const X86_CONSOLE: RegisterBit =
    RegisterBit { at: Register::Port(0x3f9), width: Width::Byte, mask: 1 };

/// `PWRBTN_EN` in the enable register of PM1 (ACPI 6.5 §4.8.4.1.2). The register is at this
/// port on QEMU's x86 machines. The driver `button` sets the bit.
const X86_POWER_BUTTON: RegisterBit =
    RegisterBit { at: Register::Port(0x602), width: Width::Half, mask: 1 << 8 };

/// QEMU's virt machine with the newest interrupt controller that the accelerator has: an older
/// one has eight processors at most.
const VIRT: &str = "virt,gic-version=max";

/// Emulated processor. Distributions for aarch64 are built for Armv8.0, which it has. `max`
/// signs pointers, and the emulator takes hundreds of steps for each: it boots three times as
/// slowly.
const ARM_CPU: &str = "cortex-a72";

/// The interrupt for received bytes of the PL011 (`UART011_RXIM` in its register
/// `UART011_IMSC` of include/linux/amba/serial.h), which is at this address in QEMU's virt
/// machine (hw/arm/virt.c).
const ARM_CONSOLE: RegisterBit =
    RegisterBit { at: Register::Memory(0x900_0038), width: Width::Word, mask: 1 << 4 };

/// The interrupt of the pin of the power button (`GPIOIE` of drivers/gpio/gpio-pl061.c). The
/// PL061 is at this address in QEMU's virt machine, and its third pin is the button
/// (hw/arm/virt.c). The driver `gpio_keys` sets the bit.
const ARM_POWER_BUTTON: RegisterBit =
    RegisterBit { at: Register::Memory(0x903_0410), width: Width::Byte, mask: 1 << 3 };

/// The interrupt for received bytes of the serial port (`UART_IER_RDI`), which is at this address
/// in QEMU's virt machine (hw/riscv/virt.c).
const RISCV_CONSOLE: RegisterBit =
    RegisterBit { at: Register::Memory(0x1000_0001), width: Width::Byte, mask: 1 };

/// Kernel parameters (kernel doc: admin-guide/kernel-parameters.rst). With page tables of five
/// levels, one boot in thirty of Linux 6.12 on two processors hung in QEMU 7.2: the kernel faulted
/// on its own stack. Tables of three levels are shorter to walk, too.
const RISCV_PARAMETERS: &str = "no4lvl cryptomgr.notests";

/// QEMU's pseries machine with the firmware that is a part of QEMU (since 6.2). The default
/// firmware, SLOF, takes five seconds in the emulator, writes a page of text on the console, and
/// reads what is typed for the guest.
const PSERIES: &str = "pseries,x-vof=on";

/// The emulator has none of these mitigations of processor bugs, and warns about each that is not
/// switched off.
const PSERIES_EMULATED: &str = ",cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off";

/// The rows. A new one needs a column of packages in `doctor/packages.rs`, and the form of its
/// kernel in `kernel/vmlinux/form.rs`, too.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        arch: "x86_64",
        platform: "amd64",
        qemu: "qemu-system-x86_64",
        machine: Q35,
        emulated_properties: "",
        oldest_qemu: None,
        memory_step: 1,
        transport: Transport::Pci,
        has_root_ports: true,
        no_foreign_shares: None,
        firmware: Some("qboot.rom"),
        emulated_cpu: X86_CPU,
        cpus_max: 255,
        console: "ttyS0",
        parameters: X86_PARAMETERS,
        clock: Clock::Measured,
        command_line_max: 2048,
        console_reads: Some(X86_CONSOLE),
        power_button_works: Some(X86_POWER_BUTTON),
        powers_off_silently: false,
    },
    Architecture {
        arch: "aarch64",
        platform: "arm64",
        qemu: "qemu-system-aarch64",
        machine: VIRT,
        emulated_properties: "",
        oldest_qemu: None,
        memory_step: 1,
        transport: Transport::Pci,
        has_root_ports: true,
        no_foreign_shares: None,
        // QEMU enters the kernel without firmware.
        firmware: None,
        emulated_cpu: ARM_CPU,
        cpus_max: 512,
        console: "ttyAMA0",
        parameters: "cryptomgr.notests",
        clock: Clock::Known,
        command_line_max: 2048,
        console_reads: Some(ARM_CONSOLE),
        power_button_works: Some(ARM_POWER_BUTTON),
        powers_off_silently: false,
    },
    Architecture {
        arch: "riscv64",
        platform: "riscv64",
        qemu: "qemu-system-riscv64",
        machine: "virt",
        emulated_properties: "",
        oldest_qemu: None,
        memory_step: 1,
        transport: Transport::Pci,
        has_root_ports: true,
        no_foreign_shares: None,
        // QEMU's default is OpenSBI, without which there is no timer.
        firmware: None,
        emulated_cpu: "rv64",
        cpus_max: 512,
        console: "ttyS0",
        parameters: RISCV_PARAMETERS,
        clock: Clock::Known,
        // Old kernels take 512 only (include/uapi/asm-generic/setup.h).
        command_line_max: 1024,
        console_reads: Some(RISCV_CONSOLE),
        power_button_works: None,
        // The machine's test device calls exit(3) (hw/misc/sifive_test.c, QEMU 7.2).
        powers_off_silently: true,
    },
    Architecture {
        arch: "ppc64le",
        platform: "ppc64le",
        qemu: "qemu-system-ppc64",
        machine: PSERIES,
        emulated_properties: PSERIES_EMULATED,
        oldest_qemu: Some((6, 2)),
        // QEMU ends with another size (hw/ppc/spapr.c, SPAPR_MEMORY_BLOCK_SIZE).
        memory_step: 256,
        transport: Transport::Pci,
        has_root_ports: false,
        no_foreign_shares: Some("FUSE passes the flags of open(2) as the guest numbers them"),
        // The machine chooses it.
        firmware: None,
        emulated_cpu: "power9",
        cpus_max: 1024,
        console: "hvc0",
        parameters: "cryptomgr.notests",
        clock: Clock::Known,
        command_line_max: 2048,
        console_reads: None,
        power_button_works: None,
        powers_off_silently: false,
    },
    Architecture {
        arch: "s390x",
        platform: "s390x",
        qemu: "qemu-system-s390x",
        machine: "s390-ccw-virtio",
        emulated_properties: "",
        oldest_qemu: None,
        memory_step: 1,
        transport: Transport::Ccw,
        has_root_ports: false,
        no_foreign_shares: Some("FUSE passes numbers in the order of bytes of the guest"),
        // QEMU enters the kernel without firmware.
        firmware: None,
        emulated_cpu: "max",
        cpus_max: 248,
        console: "ttysclp0",
        parameters: "cryptomgr.notests",
        clock: Clock::Known,
        // Kernels before 5.16 take no more (arch/s390/include/asm/setup.h).
        command_line_max: 896,
        console_reads: None,
        power_button_works: None,
        powers_off_silently: false,
    },
];

impl Architecture {
    /// Reason for which this host cannot share directories with a guest; `None` if it can.
    #[must_use]
    pub fn no_shares(&self) -> Option<&'static str> {
        let of_host = || named(HOST)?.no_foreign_shares;
        self.no_foreign_shares.or_else(of_host).filter(|_| !self.is_of_host())
    }

    /// Whether it is that of this host, whose KVM then runs its code.
    #[must_use]
    pub fn is_of_host(&self) -> bool {
        self.arch == HOST
    }
}

/// Constants of this host's architecture.
///
/// # Errors
/// No row describes this architecture.
pub fn of_host() -> Result<&'static Architecture> {
    named(HOST).with_context(|| format!("no virtual machine is described for {HOST} hosts"))
}

/// Constants of the architecture that is called `arch`; `None` if no row describes it.
#[must_use]
pub fn named(arch: &str) -> Option<&'static Architecture> {
    ARCHITECTURES.iter().find(|row| row.arch == arch)
}

/// The names of all architectures, for people: `a, b and c`.
#[must_use]
pub fn names() -> String {
    let names: Vec<_> = ARCHITECTURES.iter().map(|row| row.arch).collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => names.concat(),
    }
}
