//! Findings about the host and ROOTFS: everything that has to be looked up before a
//! [`MachinePlan`](machine::plan::machine_plan::MachinePlan) can be made.
//!
//! All I/O that a plan needs starts here, except that `super` opens ROOTFS: this file asks
//! programs and reads files, and lets `directories` open the files that its options name.
//!
//! | Module | Content |
//! |---|---|
//! | `architecture` | the architecture of the machine |
//! | `guest_kernel` | the kernel that boots |
//! | `volumes` | whether the paths of volumes exist in the guest |

mod architecture;
mod guest_kernel;
mod volumes;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use machine::doctor::gather::install_command;
use machine::doctor::packages::Tool;
use machine::host;
use machine::kernel::find::{UserKernel, has_module};
use machine::kernel::initrd::find_init_for;
use machine::plan::guest::name_server::{self, NameServerDecision, NameServerOptions};
use machine::plan::machine_plan::{Accelerator, Network};
use machine::plan::shares::Access;
use machine::plan::virtiofsd::Virtiofsd;
use machine::process::qemu;
use machine::process::virtiofsd;
use machine::root::kinds::Root;
use machine::root::needed_modules::{self, Origin, Program};
use machine::root::{payload, resolv_conf};
use proto::settings::Size;

use super::arguments::RunArguments;
use super::directories::Attachments;
use volumes::RootOptions;

pub(in crate::run) use architecture::ChosenArchitecture;
pub(in crate::run) use guest_kernel::GuestKernel;

/// The host, as far as a plan depends on it.
#[derive(Debug)]
pub(in crate::run) struct Host {
    /// Architecture of the machine.
    pub(in crate::run) architecture: ChosenArchitecture,
    /// QEMU's program.
    pub(in crate::run) qemu: PathBuf,
    /// The firmware that came with QEMU.
    pub(in crate::run) firmware: Option<PathBuf>,
    /// Executor of guest code.
    pub(in crate::run) accelerator: Accelerator,
    /// Text of /proc/cpuinfo if the guest's processor is emulated, else empty.
    pub(in crate::run) cpuinfo: String,
    /// Text of /proc/meminfo.
    pub(in crate::run) meminfo: String,
    /// Number of processors.
    pub(in crate::run) processors: usize,
    /// Size of the terminal that COMMAND gets, or from which the console gets its keys; `None`
    /// if there is no such terminal.
    pub(in crate::run) terminal: Option<Size>,
}

/// File from which the initrd comes.
#[derive(Debug)]
pub(in crate::run) enum InitrdFile {
    /// `--initrd`, as an absolute path.
    Given(PathBuf),
    /// The `/init` that is packed.
    Init(PathBuf),
}

/// Everything that was looked up.
#[derive(Debug)]
pub(in crate::run) struct Findings {
    pub(in crate::run) host: Host,
    pub(in crate::run) kernel: GuestKernel,
    pub(in crate::run) initrd: InitrdFile,
    /// Decision on how the guest gets a name server.
    pub(in crate::run) name_server: NameServerDecision,
    /// Modules that the contents of ROOTFS ask for, and that the guest can have.
    pub(in crate::run) needed_modules: Vec<&'static str>,
    /// INIT, as a path in the guest.
    pub(in crate::run) payload: Option<OsString>,
    pub(in crate::run) attachments: Attachments,
    /// The daemon for the shares, if there are any.
    pub(in crate::run) virtiofsd: Option<Virtiofsd>,
    /// User id of the owner of ROOTFS, if that is a shared directory.
    pub(in crate::run) root_owner: Option<u32>,
    /// Bytes of the guest's memory that ROOTFS takes.
    pub(in crate::run) root_memory: u64,
}

impl Host {
    /// Asks the host, for a machine that boots `root` with the `kernel` that the user gave.
    pub(in crate::run) fn gather(
        arguments: &RunArguments,
        root: &Root,
        kernel: Option<&UserKernel>,
    ) -> Result<Self> {
        let options = &arguments.machine;
        let architecture = ChosenArchitecture::choose(arguments, Some(root), kernel)?;
        let constants = architecture.constants;
        let qemu = qemu::find(constants, options.qemu.as_deref()).map_err(|error| {
            let install = install_command(Tool::qemu_for(constants.arch));
            anyhow!("{error:#}{}: {install}", architecture.explanation())
        })?;
        let accelerator = options.accel.choose(host::kvm_problem(constants.arch))?;
        Ok(Self {
            architecture,
            firmware: qemu::firmware(constants, &qemu),
            qemu,
            cpuinfo: match accelerator {
                Accelerator::Tcg => host::cpuinfo(),
                Accelerator::Kvm => String::new(),
            },
            accelerator,
            // If it cannot be read, the guest gets the default size of memory.
            meminfo: std::fs::read_to_string("/proc/meminfo").unwrap_or_default(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            terminal: arguments.terminal(),
        })
    }
}

impl Findings {
    /// Looks up what `arguments` need on this `host` and in `root`; `kernel` is the one that the
    /// user gave.
    pub(in crate::run) fn gather(
        arguments: &RunArguments,
        host: Host,
        root: &Root,
        kernel: Option<UserKernel>,
    ) -> Result<Self> {
        let options = &arguments.machine;
        let arch = &host.architecture;
        let attachments = arguments.directories.attachments(root)?;
        arch.check_shares(&attachments.shares)?;
        let kernel = GuestKernel::find(arguments, root, arch, kernel)?;
        let name_server = name_server(arguments, root, &kernel)?;
        let needed_modules = needed_modules(arguments, root, &kernel);
        let append = options.appended();
        let overlay = arguments.directories.overlay().map(|size| size.to_string());
        let root_options = RootOptions {
            overlay: overlay.as_deref(),
            access: arguments.directories.root_access(),
            name_server: &name_server,
            append: append.as_bytes(),
        };
        volumes::check(root, &attachments.shares, &root_options)?;
        // Without INIT the guest chooses: a command that the root configures, or /bin/sh.
        let find_payload = |name: &OsString| payload::find(|| root.files(), name);
        let payload = arguments.payload.as_ref().map(find_payload).transpose()?;
        let explicit = arguments.directories.virtiofsd.as_deref();
        let virtiofsd = match attachments.shares.is_empty() {
            true => None,
            false => Some(virtiofsd::find(explicit)?),
        };
        let initrd = match &options.initrd {
            Some(file) => InitrdFile::Given(host::absolute(file)?),
            None => {
                let found = find_init_for(arch.constants.arch, options.init.as_deref());
                InitrdFile::Init(found.map_err(|error| anyhow!("{error:#}{}", arch.explanation()))?)
            }
        };
        let root_owner = match root.is_directory() {
            true => {
                let found = root.path().metadata();
                Some(found.with_context(|| format!("find {}", root.path().display()))?.uid())
            }
            false => None,
        };
        Ok(Self {
            host,
            kernel,
            initrd,
            name_server,
            needed_modules,
            payload,
            attachments,
            virtiofsd,
            root_owner,
            root_memory: root.memory(),
        })
    }
}

/// Modules that the contents of the root ask for.
fn needed_modules(
    arguments: &RunArguments,
    root: &Root,
    kernel: &GuestKernel,
) -> Vec<&'static str> {
    let program = match arguments.command.is_empty() && arguments.payload.is_none() {
        true => Program::OfRoot,
        false => Program::Named,
    };
    let directories = &arguments.directories;
    // The overlay over the root is packed anyway, and makes everything else unnecessary.
    let access = match directories.overlay() {
        Some(_) => Access::ReadWrite,
        None => directories.root_access(),
    };
    // Reading a large image takes a while, so do not read it for nothing. An archive is read in
    // any case, for the memory that it takes.
    let is_answered = program == Program::Named && access == Access::ReadWrite;
    if is_answered || arguments.machine.initrd.is_some() {
        return Vec::new();
    }
    let Ok(files) = root.files() else { return Vec::new() };
    let origin = if root.is_directory() { Origin::Directory } else { Origin::Image };
    let mut modules = needed_modules::modules(&*files, origin, access, program);
    modules.retain(|name| has_module(name, kernel.modules.as_ref(), true));
    modules
}

/// Decides what to do about the guest's name server.
fn name_server(
    arguments: &RunArguments,
    root: &Root,
    kernel: &GuestKernel,
) -> Result<NameServerDecision> {
    let is_wanted = arguments.machine.network()? != Network::None;
    // A root that only the guest's kernel can read is left alone.
    let Some(files) = is_wanted.then(|| root.files().ok()).flatten() else {
        return Ok(NameServerDecision::Nothing);
    };
    let append = arguments.machine.appended();
    let run = NameServerOptions {
        access: arguments.directories.root_access(),
        has_overlay: arguments.directories.overlay().is_some(),
        append: append.as_bytes(),
    };
    let is_packed = arguments.machine.initrd.is_none();
    Ok(name_server::decide(resolv_conf::look(&*files), run, || {
        has_module("overlay", kernel.modules.as_ref(), is_packed)
            || kernel.modules.is_none() && kernel.has_built_in("OVERLAY_FS")
    }))
}
