//! What was found on this host, before anything is judged.
//!
//! [`super::gather`] fills it in. A look that failed is a fact, too.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::kernels::Place;
use super::packages::Distribution;
use crate::process::virtiofsd::{Flavour, Guard};

/// All that is judged.
#[derive(Debug)]
pub struct Facts {
    /// Who asks.
    pub user: User,
    /// What is installed from where.
    pub distribution: Distribution,
    /// The emulator.
    pub qemu: Program<Qemu>,
    /// The daemon.
    pub virtiofsd: Program<Daemon>,
    /// Hardware help.
    pub kvm: Kvm,
    /// Kernels of the host, and of ROOTFS where one is given.
    pub kernels: Vec<Place>,
    /// What users need to be several in a guest.
    pub ids: Ids,
    /// What `/init` would be linked with.
    pub musl: Option<String>,
}

/// The user who runs this.
#[derive(Clone, Debug)]
pub struct User {
    /// Whether that is root.
    pub is_root: bool,
    /// Name, or number where there is no name.
    pub name: String,
}

/// A program that is looked for.
#[derive(Debug)]
pub enum Program<T> {
    /// Not here.
    Missing,
    /// Of no use, and why.
    Broken(String),
    /// Here and answering.
    Works(T),
}

/// A QEMU.
#[derive(Debug)]
pub struct Qemu {
    /// The program.
    pub program: PathBuf,
    /// As it says.
    pub version: Option<String>,
    /// Built with libseccomp.
    pub sandbox: bool,
    /// Built with libslirp.
    pub user_network: bool,
}

/// A virtiofsd.
#[derive(Debug)]
pub struct Daemon {
    /// The program.
    pub program: PathBuf,
    /// As it says.
    pub version: Option<String>,
    /// Which implementation.
    pub flavour: Flavour,
    /// What keeps a guest from writing to a read-only share.
    pub guard: Guard,
}

/// KVM, and what it depends on.
#[derive(Debug)]
pub struct Kvm {
    /// Why it cannot be used.
    pub problem: Option<String>,
    /// Why its device does not open.
    pub device: Option<ErrorKind>,
    /// The processor it would run on.
    pub processor: Processor,
}

/// What /proc/cpuinfo tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    /// Module that would drive its virtualization; `None` without one.
    pub module: Option<&'static str>,
    /// It is a virtual machine's.
    pub is_guest: bool,
}

/// What virtiofsd needs of a user's rights.
#[derive(Clone, Debug)]
pub struct Ids {
    /// Files in which the user has no range.
    pub without_range: Vec<&'static str>,
    /// The first id above all ranges, of both files.
    pub free: u32,
    /// Programs that are not there.
    pub without_program: Vec<&'static str>,
    /// A setting that forbids user namespaces, and what it should be.
    pub forbidden: Option<&'static str>,
}
