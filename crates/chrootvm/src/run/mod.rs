//! `chrootvm ROOTFS`: a directory or an image as a virtual machine.
//!
//! | Module | Content |
//! |---|---|
//! | `arguments` | the arguments, with the options of `directories` and `machine_options` |
//! | `background` | `--detach` and `--wait` |
//! | `log_options`, `private_logs` | options of log files, and those of `--detach` without options |
//! | `additions` | modules, records and words that groups of options add to a run |
//! | `configured` | settings of configuration files that apply to the arguments |
//! | `diagnostics` | options about messages and files that a run leaves |
//! | `findings` | facts about the host and ROOTFS; reads files and asks programs |
//! | `known_image` | what the arguments of a run depend on if ROOTFS is an OCI image |
//! | `oci_image` | the root file system of an OCI image, and what its config sets |
//! | `plan` | arguments and findings become a plan; pure |
//! | `warm` | whether the run starts from a saved machine, and from which one |
//! | `runs` | what the machine runs, for `chrootvm ps` |
//! | `report` | `--report` |
//! | `remedies` | errors, with what helps against them |
//! | `workload`, `hosted` | how PID 1 supervises what runs, and whether it does |
//! | `keep`, `last_words`, `doctor` | `--keep`, messages after the end, `--doctor` |
//!
//! [`running::run`] runs the plan, or `--dry-run` prints it.

mod additions;
mod arguments;
mod background;
mod configured;
mod diagnostics;
mod directories;
mod doctor;
mod findings;
mod hosted;
mod keep;
mod known_image;
mod last_words;
mod log_options;
mod machine_options;
mod oci_image;
mod plan;
mod private_logs;
mod remedies;
mod report;
mod runs;
mod warm;
mod workload;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use anyhow::{Context, Result};
use files::tell;
use machine::doctor::kernel_facts::GivenKernel;
use machine::kernel::bootable::KernelImage;
use machine::kernel::find;
use machine::plan::guest::name_server::NameServerDecision;
use machine::plan::machine_plan::{MachinePlan, MachineStart, RunMode};
use machine::process::qemu::QemuProbe;
use machine::root::kinds::Root;
use machine::running::detached::Starter;
use machine::running::settings::RunSettings;
use machine::running::time_limit::TimeLimit;
use machine::running::timing::Timing;
use machine::running::{self, script};
use machine::session::log_files::LogFiles;
use oci::name::location::Location;

pub use arguments::{RunArguments, SingleWord};
use findings::{Findings, Host};
use last_words::{Audience, InitWords};
use oci_image::ImageRoot;
use private_logs::PrivateLogs;
use report::{KernelFacts, MachineFacts, Report, Run};

use crate::config::merge::Settings;
use crate::{logger, ps};

impl RunArguments {
    /// These arguments, in a process that `starter` has started in the background.
    #[must_use]
    pub fn started_by(mut self, starter: Starter) -> Self {
        self.background.starter = Some(starter);
        self
    }

    /// Boots, and returns chrootvm's exit status. `line` is the whole command line; `settings`
    /// are in the arguments already.
    pub fn run(
        self,
        line: &[OsString],
        single: SingleWord,
        settings: &Settings,
    ) -> Result<ExitCode> {
        let file = self.diagnostics.report.as_deref();
        if self.background.has_to_detach() && !self.dry_run && !self.doctor {
            report::check_detached(file)?;
            return background::detach(self.name.as_deref());
        }
        let mut timing = Timing::start();
        let facts = || Run::new(self.name.as_deref(), self.rootfs.as_deref());
        let report = Report::begin(file, facts)?;
        let result = self.boot(line, single, settings, &report, &mut timing);
        report.end(result, &timing)
    }

    /// Boots, and reports to `file`.
    fn boot(
        mut self,
        line: &[OsString],
        single: SingleWord,
        settings: &Settings,
        file: &Report,
        timing: &mut Timing,
    ) -> Result<ExitCode> {
        let location = self.rootfs.as_deref().map(oci_image::location).transpose()?.flatten();
        match &location {
            // podman's users give the command without `--`.
            Some(_) => self.take_words(line, SingleWord::Command)?,
            None => {
                oci_image::refuse_options(&self)?;
                self.take_words(line, single)?;
                if self.payload.is_some() {
                    self.check_command_options()?;
                }
            }
        }
        file.note(|run| run.runs(&self.command, self.payload.as_ref()));
        let last = file.clone();
        let limit =
            TimeLimit::start(self.timeout, &self.command, move |why| last.time_is_over(why))?;
        let background = std::mem::take(&mut self.background);
        let is_in_background = background.is_in_background();
        let readiness = background.readiness(self.payload.as_deref())?;
        if self.doctor {
            return self.check_host(location.is_some(), settings);
        }
        let rootfs = self.rootfs.clone().context("ROOTFS is missing")?;
        let image = match &location {
            Some(location) => Some(self.open_image(location, file)?),
            None => None,
        };
        let path = image.as_ref().map_or_else(|| rootfs.clone(), ImageRoot::path);
        let root = Root::open(&path).map_err(|error| self.explain_rootfs(error))?;
        self.choose_workload(&root);
        self.check_command_options()?;
        self.command_options.prepare_stdin()?;
        self.log_options.prepare_stdin()?;
        let kernel = self.machine.user_kernel()?;
        let host = Host::gather(&self, &root, kernel.as_ref())?;
        let probe = QemuProbe::start(host.architecture.constants, &host.qemu);
        let mut findings = Findings::gather(&self, host, &root, kernel)?;
        if let NameServerDecision::Warn(why) = findings.name_server {
            log::warn!("no name resolution from {}: {why}", self.root_name(&root));
        }
        let (plan, initrd, warning) =
            plan::plan(&self, &root, &findings, &|name| std::env::var_os(name))?;
        logger::warn_all(warning);
        file.describe(|| machine_facts(&plan, &findings.kernel.image));
        let kernel = findings.kernel.image.bootable(self.machine.pvh)?;
        let kernel_image = &findings.kernel.image.located;
        let modules = findings.kernel.modules_path();
        let script = |sandbox| -> Result<OsString> {
            let script = script::script(&plan, kernel.place(kernel_image)?, &initrd, sandbox)?;
            let of_image = image.as_ref().map(ImageRoot::comment);
            let of_warm = warm::comment(&self, &root, modules.as_deref(), plan.architecture);
            let comments = of_image.into_iter().chain(of_warm);
            Ok(configured::commented(settings, comments, &script))
        };
        if self.dry_run {
            return print(&script(probe.finish()?)?);
        }
        let mut notes = Vec::new();
        let records = match plan.start {
            MachineStart::Boot => &plan.records[..],
            MachineStart::Orders { .. } => &[],
        };
        let bytes = initrd.bytes(records, &mut notes);
        let bytes = bytes.map_err(|error| self.explain_module(error, &root, &findings))?;
        logger::warn_all(&notes);
        let template = warm::template(self.machine.warm, &plan, &kernel, &bytes)?;
        // QEMU answers late, so everything that can be done before is.
        let sandbox = probe.finish()?;
        let console_log = match self.diagnostics.keep {
            true => Some(keep::keep(&bytes, &script(sandbox)?)?),
            false => None,
        };
        let (logs, private_logs) = self.open_logs(plan.mode, is_in_background)?;
        let log_dir = logs.as_ref().map(|logs| logs.path().to_path_buf());
        let settings = RunSettings {
            limit,
            verbose: self.diagnostics.verbose || self.diagnostics.details.debug,
            boot_line: self.diagnostics.boot_line().then(|| rootfs.display().to_string()),
            console_log,
            logs,
            page: self.diagnostics.page(),
            sandbox,
            template,
            name: self.name.clone(),
            readiness,
            description: ps::description(
                image.as_ref().map_or(&root.path().to_string_lossy(), ImageRoot::name),
                &runs::line(&self.command, findings.payload.as_deref(), &root).to_string_lossy(),
            ),
        };
        let report = running::run::run(&plan, kernel.file, &bytes, settings, timing)?;
        PrivateLogs::end(private_logs, report.was_ready);
        let audience = Audience {
            init: InitWords::new(&rootfs, self.payload.as_deref()),
            log_dir: log_dir.as_deref(),
            shows_console: !self.diagnostics.quiet,
            shows_timing: self.diagnostics.details.timing,
            file,
        };
        last_words::tell(report, &plan, timing, &audience).map(ExitCode::from)
    }
}

impl RunArguments {
    /// `--doctor`. The kernels of an OCI image are not looked at before it is fetched.
    fn check_host(&self, is_image: bool, settings: &Settings) -> Result<ExitCode> {
        let kernel = GivenKernel {
            image: self.machine.kernel.as_deref(),
            modules: self.machine.modules.as_deref(),
        };
        let rootfs = self.rootfs.as_deref().filter(|_| !is_image);
        doctor::run(self, rootfs, kernel, configured::findings(settings))
    }

    /// Opens the OCI image at `location`, which may have a command, and reports both to `file`.
    fn open_image(&mut self, location: &Location, file: &Report) -> Result<ImageRoot> {
        let image = ImageRoot::open(location, self)?;
        file.note(|run| {
            run.image = Some(image.facts());
            run.runs(&self.command, self.payload.as_ref());
        });
        Ok(image)
    }

    /// The log files of a machine with this `mode`, and their directory if it is a private one.
    fn open_logs(
        &self,
        mode: RunMode,
        is_in_background: bool,
    ) -> Result<(Option<LogFiles>, Option<PrivateLogs>)> {
        match (self.log_options.open()?, mode) {
            (None, RunMode::Command { .. }) if is_in_background => PrivateLogs::make(),
            (logs, _) => Ok((logs, None)),
        }
    }
}

/// The machine of `plan` with the kernel `image` in a report.
fn machine_facts(plan: &MachinePlan, image: &KernelImage) -> MachineFacts {
    let kernel = KernelFacts {
        path: image.host_path().to_string_lossy().into_owned(),
        // A kernel that cannot be read is an error later.
        release: find::version(image).ok().flatten(),
    };
    MachineFacts {
        kernel: Some(kernel),
        accelerator: Some(plan.accelerator.name()),
        memory: Some(plan.memory << 20),
        processors: Some(plan.cpus),
    }
}

/// Prints the commands of `--dry-run`.
fn print(script: &OsStr) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(script.as_bytes()).and_then(|()| out.flush());
    tell::while_read(written.context("write the commands"))?;
    Ok(ExitCode::SUCCESS)
}
