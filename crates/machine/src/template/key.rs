//! The name of a template: a digest of everything that it depends on.
//!
//! Interfaces: /proc/cpuinfo and /proc/version (proc(5)), /sys/module (kernel doc:
//! ABI/stable/sysfs-module).

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

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
        let firmware = plan.firmware.as_deref().map(host::identity).transpose()?;
        let processor = match plan.accelerator {
            Accelerator::Kvm => processor(&host::cpuinfo()) + &kvm(Path::new("/")),
            Accelerator::Tcg => String::new(),
        };
        ensure!(host::is_elf(&plan.qemu), "QEMU is a script, and may run any QEMU");
        let ingredients = Ingredients {
            kernel: identity_of_kernel(kernel)?,
            initrd: blake3::hash(initrd),
            qemu: host::identity(&plan.qemu)?,
            firmware: firmware.unwrap_or_default(),
            // The arguments of QEMU come from this program.
            program: host::identity(Path::new(OWN_PROGRAM))?,
            processor,
        };
        Ok(ingredients.key(plan))
    }

    /// The digest.
    pub(super) fn digest(&self) -> blake3::Hash {
        self.0
    }

    /// A key for tests.
    #[must_use]
    pub fn sample(name: &str) -> Self {
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
    /// Lines about processor and KVM, if the processor executes guest code.
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

/// What decides, besides the processor, which features KVM offers: the kernel of the host below
/// `root`, and the parameters of KVM's modules.
fn kvm(root: &Path) -> String {
    let mut found = vec![fs::read_to_string(root.join("proc/version")).unwrap_or_default()];
    for module in ["kvm", "kvm_amd", "kvm_intel"] {
        let directory = root.join("sys/module").join(module).join("parameters");
        let mut files: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().collect();
        files.sort_by_key(fs::DirEntry::file_name);
        for file in files {
            let (name, path) = (file.file_name(), file.path());
            // Some parameters can be read by root alone.
            let value = fs::read_to_string(path).unwrap_or_default();
            found.push(format!("{module}.{}={value}", name.display()));
        }
    }
    found.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::fs::{self, File};

    use crate::plan::architecture;
    use crate::plan::disks::{Disk, DiskBacking};
    use crate::plan::machine_plan::MachineStart;
    use crate::plan::shares::{Access, MountPoint, Share};

    fn plan() -> MachinePlan {
        MachinePlan {
            qemu: "/bin/sh".into(),
            architecture: architecture::of_host().unwrap(),
            accelerator: Accelerator::Tcg,
            machine_type: None,
            firmware: None,
            cpu: None,
            memory: 512,
            cpus: 2,
            command_line: "quiet virtinit.orders".into(),
            mode: RunMode::Command { terminal: false },
            records: Vec::new(),
            start: MachineStart::Orders { words: OsString::new() },
            network: Network::None,
            qemu_arguments: Vec::new(),
            virtiofsd: None,
            shares: Vec::new(),
            disks: Vec::new(),
        }
    }

    fn ingredients() -> Ingredients {
        let (qemu, firmware, program) = (b"qemu".into(), b"firmware".into(), b"program".into());
        let (kernel, initrd) = ("kernel".into(), blake3::hash(b"initrd"));
        Ingredients { kernel, initrd, qemu, firmware, program, processor: "p".into() }
    }

    fn key(change: impl FnOnce(&mut MachinePlan, &mut Ingredients)) -> TemplateKey {
        let (mut plan, mut ingredients) = (plan(), ingredients());
        change(&mut plan, &mut ingredients);
        ingredients.key(&plan)
    }

    #[test]
    fn each_ingredient_changes_the_key() {
        let disk =
            || Disk { path: "/d".into(), access: Access::ReadOnly, backing: DiskBacking::File };
        let share = || Share {
            tag: "t".into(),
            source: "/s".into(),
            access: Access::ReadOnly,
            mount_point: MountPoint::Tag,
        };
        let keys = [
            key(|_, _| ()),
            key(|_, ingredients| ingredients.kernel = "other".into()),
            key(|_, ingredients| ingredients.initrd = blake3::hash(b"")),
            key(|_, ingredients| ingredients.qemu.push(0)),
            key(|_, ingredients| ingredients.firmware.clear()),
            key(|_, ingredients| ingredients.program.clear()),
            key(|_, ingredients| ingredients.processor.clear()),
            key(|plan, _| plan.command_line.push(" ")),
            key(|plan, _| plan.machine_type = Some("pc".into())),
            key(|plan, _| plan.cpu = Some("qemu64".into())),
            key(|plan, _| plan.accelerator = Accelerator::Kvm),
            key(|plan, _| plan.memory = 513),
            key(|plan, _| plan.cpus = 1),
            key(|plan, _| plan.mode = RunMode::Console { monitor: false }),
            key(|plan, _| plan.network = Network::User(Vec::new())),
            key(|plan, _| plan.shares.push(share())),
            key(|plan, _| plan.shares.extend([share(), share()])),
            key(|plan, _| plan.disks.push(disk())),
            key(|plan, _| plan.disks.extend([disk(), disk()])),
            key(|plan, _| plan.qemu_arguments.push("-S".into())),
        ];
        for (number, one) in keys.iter().enumerate() {
            assert!(!keys[..number].contains(one), "{number}");
        }
    }

    #[test]
    fn what_belongs_to_one_run_does_not_change_the_key() {
        let same = key(|plan, _| {
            plan.mode = RunMode::Command { terminal: true };
            plan.records.push(b"arg=x".into());
            plan.start = MachineStart::Orders { words: "ro".into() };
            // The identity of the file counts instead.
            plan.qemu = "/bin/true".into();
        });
        assert_eq!(same, key(|_, _| ()));
        assert_eq!(same.to_string().len(), 64);
    }

    #[test]
    fn values_of_a_list_keep_their_bounds() {
        let digest = |values: &[(&str, &str)]| {
            let mut list = List(blake3::Hasher::new());
            for (name, value) in values {
                list.add(name, value);
            }
            list.0.finalize()
        };
        assert_ne!(digest(&[("a", "bc")]), digest(&[("ab", "c")]));
        assert_ne!(digest(&[("a", ""), ("b", "")]), digest(&[("a", "b"), ("", "")]));
    }

    #[test]
    fn a_file_that_changes_has_another_identity() {
        let dir = tempfile::tempdir().unwrap();
        let [path, kernel_path] = ["qemu", "1-abc"].map(|name| dir.path().join(name));
        let kernel = |named| {
            fs::write(&kernel_path, "kernel").unwrap();
            Bootable { file: File::open(&kernel_path).unwrap(), named, arch: "x86_64" }
        };
        fs::write(&path, "\x7fELF one").unwrap();
        let mut plan = plan();
        plan.qemu = path.clone();
        let image = || TemplateKey::of(&plan, &kernel(KernelName::Image), b"initrd").unwrap();
        let first = image();
        assert_eq!(first, image());
        fs::write(&path, "\x7fELF two words").unwrap();
        assert_ne!(first, image());
        fs::write(&path, "#!/bin/sh\n").unwrap();
        assert!(TemplateKey::of(&plan, &kernel(KernelName::Image), b"initrd").is_err());
        let cached = kernel(KernelName::Cached(kernel_path.clone()));
        assert_eq!(identity_of_kernel(&cached).unwrap(), "cached 1-abc 6");
        fs::remove_file(&path).unwrap();
        assert!(TemplateKey::of(&plan, &cached, b"").is_err());
    }

    #[test]
    fn kernel_and_parameters_of_kvm_count() {
        let root = tempfile::tempdir().unwrap();
        let parameters = root.path().join("sys/module/kvm_amd/parameters");
        fs::create_dir_all(&parameters).unwrap();
        fs::create_dir(root.path().join("proc")).unwrap();
        for (path, text) in [
            (root.path().join("proc/version"), "Linux 6.1\n"),
            (parameters.join("npt"), "Y\n"),
            (parameters.join("nested"), "1\n"),
        ] {
            fs::write(path, text).unwrap();
        }
        assert_eq!(kvm(root.path()), "Linux 6.1\nkvm_amd.nested=1\nkvm_amd.npt=Y\n");
        assert_eq!(kvm(&root.path().join("empty")), "");
    }

    #[test]
    fn lines_that_change_while_the_host_runs_are_left_out() {
        let text = "processor\t: 0\nvendor_id\t: G\ncpu MHz\t\t: 2000\nmicrocode\t: 0x1\n\
                    flags\t\t: fpu\nbogomips : 1\n\nprocessor\t: 1\nvendor_id\t: X\n";
        assert_eq!(processor(text), "vendor_id\t: G\nmicrocode\t: 0x1\nflags\t\t: fpu");
        assert_eq!(processor(""), "");
    }
}
