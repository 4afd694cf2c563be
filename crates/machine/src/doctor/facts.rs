//! Facts about this host, before anything is judged.
//!
//! The module `gather` fills them in. A failed check is a fact, too.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::guest_modules::{GuestModule, Support};
use super::packages::{Distribution, Tool};
use crate::plan::architecture::Architecture;
use crate::plan::virtiofsd::{Flavour, Guard};

/// All facts about this host.
#[derive(Debug)]
pub struct Facts {
    /// The user who runs chrootvm.
    pub user: User,
    /// Architecture of the machines.
    pub architecture: &'static Architecture,
    /// The distribution, which knows the packages.
    pub distribution: Distribution,
    /// The installed QEMU.
    pub qemu: Program<Qemu>,
    /// The installed virtiofsd.
    pub virtiofsd: Program<Daemon>,
    /// KVM, with which the processor executes guest code.
    pub kvm: Kvm,
    /// The kernel that the user gave.
    pub given: Option<KernelFacts>,
    /// Kernels of the host, and of ROOTFS if the user gave one.
    pub kernels: Vec<RootKernels>,
    /// Image of the host that boots a ROOTFS without a kernel; or the reason why none does.
    pub host_kernel: Result<PathBuf, String>,
    /// Subordinate ids, with which a guest has more than one user.
    pub ids: Ids,
    /// Name of the musl that `/init` would be linked with.
    pub musl: Option<String>,
}

impl Facts {
    /// The command with which the user installs `tool`.
    #[must_use]
    pub fn install_command(&self, tool: Tool) -> String {
        self.user.as_root(&self.distribution.install(tool))
    }
}

/// The user who runs chrootvm.
#[derive(Clone, Debug)]
pub struct User {
    /// Whether the user is root.
    pub is_root: bool,
    /// The user's name, or the user id if it has no name.
    pub name: String,
}

impl User {
    /// Turns a command for root into one that the user can run. Advice in words, as of
    /// [`Distribution::ADVICE`], stays as it is.
    #[must_use]
    pub fn as_root(&self, command: &str) -> String {
        match self.is_root || command.starts_with(Distribution::ADVICE) {
            true => command.to_owned(),
            false => format!("sudo {command}"),
        }
    }
}

/// Result of looking for a program.
#[derive(Debug)]
pub enum Program<T> {
    /// The program is not installed.
    Missing,
    /// The program cannot be used; this is the reason.
    Broken(String),
    /// The program answers.
    Works(T),
}

/// A QEMU that answers.
#[derive(Debug)]
pub struct Qemu {
    /// Path of the program.
    pub program: PathBuf,
    /// Its version, if it tells one.
    pub version: Option<String>,
    /// Whether it has `-sandbox` (built with libseccomp).
    pub sandbox: bool,
    /// Whether it has the user network (built with libslirp).
    pub user_network: bool,
}

/// A virtiofsd that answers.
#[derive(Debug)]
pub struct Daemon {
    /// Path of the program.
    pub program: PathBuf,
    /// Its version, if it tells one.
    pub version: Option<String>,
    /// Its implementation.
    pub flavour: Flavour,
    /// The means that keeps a guest from writing to a read-only share.
    pub guard: Guard,
}

/// State of KVM.
#[derive(Debug)]
pub struct Kvm {
    /// The reason why it cannot be used; `None` if it can.
    pub problem: Option<String>,
    /// The error of opening `/dev/kvm`; `None` if that works.
    pub device: Option<ErrorKind>,
    /// Name of the group that may use `/dev/kvm`; `None` if there is no such device or group.
    pub group: Option<String>,
    /// The processor.
    pub processor: Processor,
}

/// The facts that /proc/cpuinfo tells about the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    /// KVM's module for this processor; `None` if the processor has no virtualization.
    pub module: Option<&'static str>,
    /// Whether this host is itself a virtual machine.
    pub is_guest: bool,
}

/// Subordinate ids and user namespaces, which virtiofsd needs if a user runs it.
#[derive(Clone, Debug)]
pub struct Ids {
    /// Files in which the user has no range of ids.
    pub without_range: Vec<&'static str>,
    /// First id above all ranges of both files.
    pub free: u32,
    /// Programs that are missing.
    pub without_program: Vec<&'static str>,
    /// Command that permits user namespaces; `None` if they are permitted.
    pub forbidden: Option<&'static str>,
}

/// Kernels of one root file system.
#[derive(Clone, Debug)]
pub struct RootKernels {
    /// Path of the root.
    pub path: PathBuf,
    /// Whether the root is ROOTFS, whose kernel chrootvm boots by default.
    pub is_rootfs: bool,
    /// The reason why its kernels are unknown; `None` if they are known.
    pub problem: Option<String>,
    /// Its kernels, the newest first.
    pub kernels: Vec<KernelFacts>,
}

/// Facts about one installed kernel. Its paths are paths of the host.
#[derive(Clone, Debug)]
pub struct KernelFacts {
    /// Version, such as `6.1.0-56-cloud-amd64`.
    pub version: String,
    /// Its image; `None` if it has modules, but no image.
    pub image: Option<PathBuf>,
    /// The reason why the image cannot be read; `None` if it can.
    pub unreadable: Option<String>,
    /// Kind of the image if it is not a kernel for this machine, as in "it is empty".
    pub no_kernel: Option<String>,
    /// Directory of its modules.
    pub modules_dir: PathBuf,
    /// The modules that guests use ([`guest_modules::of`](super::guest_modules::of)), and the
    /// support for each; or the reason why it is unknown.
    pub modules: Result<Vec<(&'static GuestModule, Support)>, String>,
    /// Text about modules of another version, which the kernel may refuse to load.
    pub mismatch: Option<String>,
}

#[cfg(test)]
pub(super) mod tests {
    //! Facts for the tests of this room.

    use super::*;
    use crate::plan::architecture;

    /// Facts of a Fedora that has everything; root asks.
    pub(crate) fn healthy() -> Facts {
        Facts {
            user: User { is_root: true, name: "root".into() },
            architecture: architecture::named("x86_64").unwrap(),
            distribution: Distribution::parse("ID=fedora\n"),
            qemu: Program::Works(working_qemu()),
            virtiofsd: daemon(Flavour::Rust { readonly: true }, Guard::Daemon),
            kvm: Kvm {
                problem: None,
                device: None,
                group: None,
                processor: processor(Some("kvm_intel")),
            },
            given: None,
            kernels: Vec::new(),
            host_kernel: Err("it has none".into()),
            ids: working_ids(),
            musl: Some("musl-gcc".into()),
        }
    }

    pub(crate) fn working_qemu() -> Qemu {
        let version = Some("7.2.22".to_owned());
        Qemu { program: "/usr/bin/q".into(), version, sandbox: true, user_network: true }
    }

    pub(crate) fn daemon(flavour: Flavour, guard: Guard) -> Program<Daemon> {
        let version = Some("1.11.1".to_owned());
        let program = "/usr/libexec/virtiofsd".into();
        Program::Works(Daemon { program, version, flavour, guard })
    }

    pub(crate) fn processor(module: Option<&'static str>) -> Processor {
        Processor { module, is_guest: module.is_none() }
    }

    pub(crate) fn working_ids() -> Ids {
        Ids { without_range: vec![], free: 165_536, without_program: vec![], forbidden: None }
    }
}
