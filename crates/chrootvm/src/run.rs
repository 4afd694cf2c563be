//! `chrootvm`: a directory as a virtual machine.
//!
//! Arguments become a [`MachinePlan`]; [`running::run`] runs it, or `--dry-run` prints it.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use files::tell;
use machine::host;
use machine::kernel::find::{find_kernel, has_module};
use machine::kernel::initrd::{Initrd, InitrdParts, find_init};
use machine::kernel::located::Located;
use machine::kernel::pack::{ModuleSelection, Transport};
use machine::kernel::signatures;
use machine::plan::architecture;
use machine::plan::guest::cmdline::CommandLine;
use machine::plan::guest::name_server::{NameServerDecision, NameServerOptions};
use machine::plan::guest::{clock, cmdline, name_server};
use machine::plan::machine_plan::{Accelerator, MachinePlan, Network, RunMode};
use machine::plan::options::{parse_duration, parse_name};
use machine::plan::shares::{MountPoint, Share};
use machine::plan::virtiofsd::Virtiofsd;
use machine::process::{qemu, virtiofsd};
use machine::root::kinds::Root;
use machine::root::{payload, resolv_conf};
use machine::running::time_limit::TimeLimit;
use machine::running::timing::Timing;
use machine::running::{self, script};
use virtinitrd_proto::etc::Etc;
use virtinitrd_proto::settings::Record;

use crate::command::CommandOptions;
use crate::directories::{Directories, Shares};
use crate::logger::{self, Verbosity};
use crate::machine_options::MachineOptions;
use crate::{doctor, keep, last_words, ps};

/// Boot a directory as a virtual machine
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "chrootvm [OPTIONS] ROOTFS -- COMMAND [ARG]...\n       \
                      chrootvm [OPTIONS] ROOTFS [INIT]\n       \
                      chrootvm exec [OPTIONS] NAME -- COMMAND [ARG]...\n       \
                      chrootvm ps\n       \
                      chrootvm image COMMAND ...\n       \
                      chrootvm kernel build|ls\n       \
                      chrootvm --doctor [ROOTFS]",
    after_help = "\
With COMMAND, standard input, output and error are the command's, and so is the exit status:
0-255 the command's own, 128+N signal N ended it, 126 it cannot be executed, 127 not found,
125 chrootvm or the machine failed, or output cannot be written, 124 --timeout. On a terminal,
Enter ~ . ends the machine.

With INIT the console is on the terminal: Ctrl-A X ends the machine, Ctrl-A C opens QEMU's
monitor. Exit status: 0 the guest powered off, halted or was ended at its console, 125 anything
else, 128+N signal N ended chrootvm."
)]
pub struct Vm {
    /// The directory that becomes the root file system; read-only unless asked
    #[arg(required_unless_present = "doctor")]
    rootfs: Option<PathBuf>,
    /// What becomes PID 1: an absolute path in the guest, or a name to be searched there
    /// [default: /bin/sh]
    #[arg(value_name = "INIT", conflicts_with = "command")]
    payload: Option<OsString>,
    /// What to run in the guest, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    #[command(flatten)]
    directories: Directories,
    #[command(flatten)]
    how: CommandOptions,
    /// End this long after the start of chrootvm, the boot included: 90 (seconds), 500ms, 5m, 2h
    #[arg(long, help_heading = "Command", value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// How `chrootvm exec` and `ps` call the machine [default: the process id]
    #[arg(long, help_heading = "Command", value_parser = parse_name, requires = "command")]
    name: Option<String>,
    #[command(flatten)]
    machine: MachineOptions,
    #[command(flatten)]
    shown: Shown,
    /// Print the commands, ready to paste, instead of running them
    #[arg(long)]
    dry_run: bool,
    /// Run nothing; tell what this host has and lacks for it, and what mends that
    #[arg(long)]
    doctor: bool,
}

/// What is told about a run
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Diagnostics")]
struct Shown {
    /// Keep the initrd, the commands and the console's text in a new directory
    #[arg(long, requires = "command")]
    keep: bool,
    /// Print no warnings
    #[arg(short, long, conflicts_with_all = ["verbose", "timing"])]
    quiet: bool,
    /// Show the guest's console on standard error while COMMAND runs
    #[arg(long, requires = "command")]
    verbose: bool,
    #[command(flatten)]
    more: Details,
}

/// What is told in addition
#[derive(Debug, clap::Args)]
struct Details {
    /// Show what /init does
    #[arg(long)]
    debug: bool,
    /// Print how long each part of the run took
    #[arg(long, requires = "command")]
    timing: bool,
}

impl Shown {
    fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.more.debug) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Debug,
            (false, false) => Verbosity::Usual,
        }
    }
}

impl Vm {
    /// Boots, and returns chrootvm's exit status.
    pub fn run(self) -> Result<ExitCode> {
        let mut timing = Timing::start();
        logger::set_verbosity(self.shown.verbosity());
        let limit = TimeLimit::start(self.timeout)?;
        if self.doctor {
            return doctor::run(self.rootfs.as_deref());
        }
        let rootfs = self.rootfs.as_deref().context("ROOTFS is missing")?;
        if self.command.is_empty() {
            self.ensure_no_command_is_meant()?;
        }
        let root = Root::open(rootfs)?;
        let options = &self.machine;
        let qemu = qemu::find(architecture::of_host()?, options.qemu.as_deref())?;
        let probe = qemu::QemuProbe::start(&qemu);
        let builtin = options.builtin_kernel()?;
        let kernel = builtin.as_deref().or(options.kernel.as_deref());
        let (image, modules) = find_kernel(|| root.files(), kernel, options.modules.as_deref())?;
        let config = signatures::config(&image, modules.as_ref());
        let name_server = self.name_server(&root, modules.as_ref(), config.as_deref())?;
        if let NameServerDecision::Warn(why) = name_server {
            log::warn!("no name resolution from {}: {why}", root.path().display());
        }
        let etc = (name_server == NameServerDecision::Overlay).then_some(Etc::Overlay);
        let plan = self.plan(&root, qemu, config.as_deref(), etc)?;
        let initrd = match &options.initrd {
            Some(file) => Initrd::File(host::absolute(file)?),
            None => {
                let init = find_init(options.init.as_deref())?;
                let line = plan.command_line.as_bytes();
                let selection = ModuleSelection {
                    modules: self.needed_modules(&root, &plan, etc),
                    strip: options.strip.decide(config.as_deref(), line),
                    // The plan's devices are all on it.
                    transports: vec![Transport::Pci],
                    no_virtiofs: plan.shares.is_empty(),
                };
                let archive = root.archive().map(Path::to_path_buf);
                Initrd::Packed(InitrdParts { init, modules, selection, archive })
            }
        };
        let kernel = image.bootable(options.pvh)?;
        let sandbox = probe.finish()?;
        let script = || script::script(&plan, kernel.place(&image)?, &initrd, sandbox);
        if self.dry_run {
            let script = script()?;
            let mut out = std::io::stdout().lock();
            let written = out.write_all(script.as_bytes()).and_then(|()| out.flush());
            tell::while_read(written.context("write the commands"))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut notes = Vec::new();
        let bytes = initrd.bytes(&plan.records, &mut notes)?;
        logger::warn_all(&notes);
        let kept = match self.shown.keep {
            true => Some(keep::keep(&bytes, &script()?)?),
            false => None,
        };
        let settings = running::run::RunSettings {
            limit,
            verbose: self.shown.verbose || self.shown.more.debug,
            console_log: kept,
            sandbox,
            name: self.name.clone(),
            description: ps::description(
                &root.path().to_string_lossy(),
                &script::shell_line(&self.command).to_string_lossy(),
            ),
        };
        let report = running::run::run(&plan, kernel.file, &bytes, settings, &mut timing)?;
        let hint = match plan.mode {
            RunMode::Console { .. } => last_words::hint(rootfs, self.payload.as_deref()),
            RunMode::Command { .. } => String::new(),
        };
        let timing = self.shown.more.timing.then_some(&timing);
        Ok(ExitCode::from(last_words::tell(report, plan.mode, &hint, timing)))
    }

    /// Refuses what would be ignored without a command. `requires` of clap does not:
    /// it lets go of what is required and conflicts, with INIT, at the same time.
    fn ensure_no_command_is_meant(&self) -> Result<()> {
        // Most likely a variable of a script is empty.
        let is_cut = std::env::args_os().next_back().is_some_and(|last| last == "--");
        ensure!(!is_cut, "no COMMAND after --");
        let others = [
            (self.name.is_some(), "--name"),
            (self.shown.keep, "--keep"),
            (self.shown.verbose, "--verbose"),
            (self.shown.more.timing, "--timing"),
        ];
        let other = others.into_iter().find_map(|(given, name)| given.then_some(name));
        match self.how.any_given().or(other) {
            Some(option) => bail!("{option} is for a COMMAND: chrootvm ROOTFS -- COMMAND"),
            None => Ok(()),
        }
    }

    /// What to do about the guest's name server.
    fn name_server(
        &self,
        root: &Root,
        modules: Option<&Located>,
        config: Option<&str>,
    ) -> Result<NameServerDecision> {
        let is_wanted = self.machine.network()? != Network::None;
        // What only the guest's kernel can read is not looked into.
        let Some(files) = is_wanted.then(|| root.files().ok()).flatten() else {
            return Ok(NameServerDecision::Nothing);
        };
        let has_overlay_built_in =
            |config: &str| config.lines().any(|line| line == "CONFIG_OVERLAY_FS=y");
        let append = self.machine.append.join(OsStr::new(" "));
        let run = NameServerOptions {
            access: self.directories.root_access(),
            has_overlay: self.directories.overlay().is_some(),
            append: append.as_bytes(),
        };
        let is_packed = self.machine.initrd.is_none();
        Ok(name_server::decide(resolv_conf::look(&*files), run, || {
            has_module("overlay", modules, is_packed)
                || modules.is_none() && config.is_some_and(has_overlay_built_in)
        }))
    }

    fn plan(
        &self,
        root: &Root,
        qemu: PathBuf,
        config: Option<&str>,
        etc: Option<Etc>,
    ) -> Result<MachinePlan> {
        let architecture = architecture::of_host()?;
        let Shares { shares, records } = self.directories.shares(root)?;
        let mode = self.mode();
        let find_payload = |name: &OsString| payload::find(&*root.files()?, name);
        // Without one the guest knows what to run: what the root configures, or /bin/sh.
        let init = self.payload.as_ref().map(find_payload).transpose()?;
        let append = self.machine.append.join(OsStr::new(" "));
        let (access, overlay) = (self.directories.root_access(), self.directories.overlay());
        let accelerator = self.machine.accel.choose(host::kvm_problem())?;
        let qemu_arguments = self.machine.qemu_arguments.clone();
        let clock = match accelerator {
            Accelerator::Tcg => clock::parameters(&host::cpuinfo(), config, &qemu_arguments),
            Accelerator::Kvm => None,
        };
        let mut root_words = root.parameters(access, overlay, append.as_bytes())?;
        root_words.extend(etc.map(|_| "virtinit.etc=overlay".to_owned()));
        let line = CommandLine {
            architecture,
            clock,
            init: init.as_deref(),
            root: &root_words,
            shares: &shares,
            debug: self.shown.more.debug,
            append: &self.machine.append,
        };
        let command_line = line.build()?;
        Ok(MachinePlan {
            architecture,
            firmware: match self.machine.machine {
                Some(_) => None,
                None => qemu::firmware(architecture, &qemu),
            },
            machine_type: self.machine.machine.clone(),
            qemu,
            cpu: self.machine.cpu.clone(),
            accelerator,
            memory: self.machine.memory(),
            cpus: self.machine.cpus(architecture.cpus_max),
            virtiofsd: self.virtiofsd(&shares, &command_line)?,
            command_line,
            mode,
            records: self.records(records, mode)?,
            network: self.machine.network()?,
            disks: self.directories.disks(root)?,
            shares,
            qemu_arguments,
        })
    }

    /// The daemon for `shares`, where there are any; `command_line` is the guest's.
    fn virtiofsd(&self, shares: &[Share], command_line: &OsStr) -> Result<Option<Virtiofsd>> {
        if shares.is_empty() {
            return Ok(None);
        }
        let found = virtiofsd::find(self.directories.virtiofsd.as_deref())?;
        let is_lower = cmdline::has_layers(command_line.as_bytes());
        let found = found.with_cache(self.directories.cache)?.with_root_as_lower(is_lower);
        for share in shares.iter().filter(|share| share.mount_point == MountPoint::Root) {
            let source = &share.source;
            let owner = source.metadata().with_context(|| format!("find {}", source.display()))?;
            found.check_root(share, owner.uid())?;
        }
        Ok(Some(found))
    }

    fn mode(&self) -> RunMode {
        match self.command.is_empty() {
            true => RunMode::Console { monitor: std::io::stdin().is_terminal() },
            false => RunMode::Command { terminal: self.how.wants_terminal() },
        }
    }

    /// Modules beyond those that every machine needs.
    fn needed_modules(&self, root: &Root, plan: &MachinePlan, etc: Option<Etc>) -> Vec<String> {
        let needed = [
            (!self.command.is_empty(), "virtio_console"),
            (plan.network != Network::None, "virtio_net"),
            (!plan.disks.is_empty(), "virtio_blk"),
            (etc.is_some(), "overlay"),
        ];
        let needed = needed.into_iter().filter_map(|(needed, name)| needed.then_some(name));
        let needed = needed.chain(root.modules(self.directories.overlay())).map(str::to_owned);
        needed.chain(self.machine.extra_modules.iter().cloned()).collect()
    }

    /// What the guest is told beside its command line, `volumes` included.
    fn records(&self, volumes: Vec<Vec<u8>>, mode: RunMode) -> Result<Vec<Vec<u8>>> {
        let mut records = volumes;
        let name = self.machine.hostname.as_deref().or(self.name.as_deref());
        let default = (!self.command.is_empty()).then_some("localhost");
        records.extend(name.or(default).map(|name| Record::Hostname(name.as_bytes()).to_bytes()));
        if self.machine.network()? != Network::None {
            records.push(Record::Network.to_bytes());
        }
        if let RunMode::Command { terminal } = mode {
            records.extend(self.how.records(&self.command, terminal)?);
        }
        Ok(records)
    }
}
