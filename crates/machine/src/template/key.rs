//! The name of a template: a digest of everything that it depends on.
//!
//! Interfaces: stat(2), /proc/cpuinfo (proc(5)).

use std::ffi::OsStr;
use std::fmt;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::footer::VERSION;
use crate::host;
use crate::kernel::bootable::{Bootable, KernelName};
use crate::kernel::vmlinux::image_hash::ImageHash;
use crate::plan::machine_plan::{Accelerator, MachinePlan, Network, RunMode};

/// This program, by whatever name it was started (proc_pid_exe(5)).
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Digest of everything that a template depends on. As text it has 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateKey(blake3::Hash);

impl fmt::Display for TemplateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TemplateKey {
    /// The key of a machine that boots `kernel` with `initrd` on this host.
    ///
    /// # Errors
    /// The kernel cannot be read, or QEMU or its firmware are missing.
    pub fn of(plan: &MachinePlan, kernel: &Bootable, initrd: &[u8]) -> Result<Self> {
        let firmware = plan.firmware.as_deref().map(identity).transpose()?;
        let processor = match plan.accelerator {
            Accelerator::Kvm => processor(&host::cpuinfo()),
            Accelerator::Tcg => String::new(),
        };
        let ingredients = Ingredients {
            kernel: identity_of_kernel(kernel)?,
            initrd: blake3::hash(initrd),
            qemu: identity(&plan.qemu)?,
            firmware: firmware.unwrap_or_default(),
            // The arguments of QEMU come from this program.
            program: identity(Path::new(OWN_PROGRAM))?,
            processor,
        };
        Ok(ingredients.key(plan))
    }

    /// The digest.
    pub(super) fn digest(&self) -> blake3::Hash {
        self.0
    }

    /// A key for tests.
    #[cfg(test)]
    pub(super) fn sample(name: &str) -> Self {
        Self(blake3::hash(name.as_bytes()))
    }
}

/// What a template depends on besides the plan of its machine.
#[derive(Clone, Debug)]
struct Ingredients {
    /// Identity of the kernel's contents.
    kernel: String,
    /// Digest of the initrd.
    initrd: blake3::Hash,
    /// Identity of QEMU's file.
    qemu: Vec<u8>,
    /// Identity of the firmware's file; empty for QEMU's own.
    firmware: Vec<u8>,
    /// Identity of this program's file.
    program: Vec<u8>,
    /// Lines of /proc/cpuinfo, if the processor executes guest code.
    processor: String,
}

impl Ingredients {
    /// The key of a machine of `plan`.
    fn key(&self, plan: &MachinePlan) -> TemplateKey {
        let accelerator = match plan.accelerator {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        };
        let mode = match plan.mode {
            RunMode::Console { .. } => "console",
            RunMode::Command { .. } => "command",
        };
        let network = match plan.network {
            Network::None => 0_usize,
            Network::User(_) => 1,
        };
        let machine = plan.machine_type.as_deref().unwrap_or(plan.architecture.machine);
        let cpu = plan.cpu.as_deref().unwrap_or(match plan.accelerator {
            Accelerator::Kvm => "host",
            Accelerator::Tcg => plan.architecture.emulated_cpu,
        });
        let mut list = List(blake3::Hasher::new());
        list.add("format", VERSION.to_string());
        list.add("version", env!("CARGO_PKG_VERSION"));
        list.add("kernel", &self.kernel);
        list.add("initrd", self.initrd.as_bytes());
        list.add("command line", plan.command_line.as_bytes());
        list.add("qemu", &self.qemu);
        list.add("firmware", &self.firmware);
        list.add("program", &self.program);
        list.add("processor", &self.processor);
        list.add("architecture", plan.architecture.arch);
        list.add("machine", machine);
        list.add("cpu", cpu);
        list.add("accelerator", accelerator);
        list.add("memory", plan.memory.to_string());
        list.add("cpus", plan.cpus.to_string());
        list.add("mode", mode);
        // Each device has a root port.
        list.add("shares", plan.shares.len().to_string());
        list.add("disks", plan.disks.len().to_string());
        list.add("networks", network.to_string());
        for argument in &plan.qemu_arguments {
            list.add("argument", argument.as_bytes());
        }
        TemplateKey(list.0.finalize())
    }
}

/// List of names and values, of which no two have the same bytes.
struct List(blake3::Hasher);

impl List {
    fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        for part in [name.as_bytes(), value.as_ref()] {
            self.0.update(&(part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }
}

/// Identity of the contents of `kernel`.
fn identity_of_kernel(kernel: &Bootable) -> Result<String> {
    let length = kernel.file.metadata().context("the kernel")?.len();
    Ok(match &kernel.named {
        // The name of a file in the cache is the hash of the image that it came from.
        KernelName::Cached(path) => {
            let name = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
            format!("cached {name} {length}")
        }
        KernelName::Image | KernelName::Nameless => {
            let hash = ImageHash::of_file(&kernel.file).context("read the kernel")?;
            format!("image {hash} {length}")
        }
    })
}

/// Identity of the file to which `path` leads. A program that is installed again has another one.
fn identity(path: &Path) -> Result<Vec<u8>> {
    let real = path.canonicalize().with_context(|| format!("find {}", path.display()))?;
    let metadata = path.metadata().with_context(|| format!("find {}", path.display()))?;
    Ok([numbers(&metadata).as_bytes(), real.as_os_str().as_bytes()].concat())
}

fn numbers(metadata: &Metadata) -> String {
    let numbers = [
        metadata.dev().into(),
        metadata.ino().into(),
        metadata.size().into(),
        i128::from(metadata.mtime()),
        metadata.mtime_nsec().into(),
        metadata.ctime().into(),
        metadata.ctime_nsec().into(),
    ];
    numbers.map(|number| format!("{number} ")).concat()
}

/// Lines about the first processor in the text of /proc/cpuinfo that tell processors apart.
/// Others, such as its present frequency, change while the host runs.
fn processor(cpuinfo: &str) -> String {
    const NAMES: [&str; 10] = [
        "vendor_id",
        "cpu family",
        "model",
        "model name",
        "stepping",
        "microcode",
        "flags",
        "vmx flags",
        "bugs",
        "address sizes",
    ];
    let first = cpuinfo.split("\n\n").next().unwrap_or_default();
    let is_told =
        |line: &&str| line.split_once(':').is_some_and(|(name, _)| NAMES.contains(&name.trim()));
    first.lines().filter(is_told).collect::<Vec<_>>().join("\n")
}
