//! The plan of one machine: its kernel command line, devices, shares and disks.

use std::ffi::OsString;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::architecture::Architecture;
use super::disks::Disk;
use super::shares::Share;
use super::virtiofsd::Virtiofsd;

/// A machine to run.
#[derive(Debug)]
pub struct MachinePlan {
    /// Path of QEMU.
    pub qemu: PathBuf,
    /// Constants of the machine's architecture.
    pub architecture: &'static Architecture,
    /// Value of `-machine`; `None` for the architecture's own.
    pub machine_type: Option<String>,
    /// Value of `-bios`; `None` for QEMU's default.
    pub firmware: Option<PathBuf>,
    /// Value of `-cpu`; `None` for the default of the accelerator.
    pub cpu: Option<String>,
    /// Executor of guest code.
    pub accelerator: Accelerator,
    /// Memory in MiB.
    pub memory: u64,
    /// Number of processors.
    pub cpus: usize,
    /// Kernel command line (`-append`).
    pub command_line: OsString,
    /// Part of the guest that uses chrootvm's standard streams.
    pub mode: RunMode,
    /// Records of [`proto::settings`] for the guest.
    pub records: Vec<Vec<u8>>,
    /// Way by which the guest learns what to do.
    pub start: MachineStart,
    /// Network of the machine.
    pub network: Network,
    /// The daemon that exports the shares; `None` if there are no shares.
    pub virtiofsd: Option<Virtiofsd>,
    /// All shares. If the root is a share, it comes first.
    pub shares: Vec<Share>,
    /// All disks. If the root is a disk, it comes first.
    pub disks: Vec<Disk>,
    /// The user's own arguments for QEMU, which follow all others.
    pub qemu_arguments: Vec<OsString>,
}

/// Way by which a guest learns what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineStart {
    /// By the kernel command line, and by records in the initrd.
    Boot,
    /// By orders over the control channel: the machine may come from a template. Shares, disks and
    /// the network are plugged in before the orders.
    Orders {
        /// Words of the kernel command line for this run alone.
        words: OsString,
    },
}

/// Executor of guest code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor, through KVM.
    Kvm,
    /// QEMU's translator (TCG).
    Tcg,
}

impl Accelerator {
    /// QEMU's name of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// Part of the guest that uses chrootvm's standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunMode {
    /// The serial console.
    Console {
        /// Whether standard input is a terminal. Then it becomes raw; Ctrl-A C opens QEMU's
        /// monitor, Ctrl-A X ends QEMU.
        monitor: bool,
    },
    /// A command.
    Command {
        /// Whether the command has a terminal.
        terminal: bool,
    },
}

/// Network of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// Only the loopback interface of the guest.
    None,
    /// QEMU's user network. These ports of the host are forwarded to the guest.
    User(Vec<Publish>),
}

/// Port of the host that QEMU forwards to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Address of the host on which QEMU listens; 127.0.0.1 by default.
    pub address: Ipv4Addr,
    /// Port of the host.
    pub host: u16,
    /// Port of the guest.
    pub guest: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
}

impl fmt::Display for Publish {
    /// Writes the port as the value of `--publish`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, host, guest, protocol } = self;
        if *address != Ipv4Addr::LOCALHOST {
            write!(f, "{address}:")?;
        }
        write!(f, "{host}:{guest}")?;
        if *protocol == "udp" { f.write_str("/udp") } else { Ok(()) }
    }
}

impl Publish {
    /// Whether both forward the same port of the host.
    #[must_use]
    pub fn collides(&self, other: &Self) -> bool {
        let addresses = [self.address, other.address];
        self.host == other.host
            && self.protocol == other.protocol
            && (addresses[0] == addresses[1] || addresses.iter().any(Ipv4Addr::is_unspecified))
    }
}
