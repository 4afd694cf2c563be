//! Starting the programs of a plan.
//!
//! chrootvm makes no files for a run: the initrd is a memfd, and sockets are abstract and
//! already connected when a program inherits them. So there is nothing to clean up, however
//! chrootvm ends. The programs end together with chrootvm ([`crate::process::child`]).

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use files::memory::memory_file;

use super::boot_line::BootLine;
use super::broker::{Broker, FurtherCommands};
use super::outcome::RunReport;
use super::published_ports;
use super::time_limit::TimeLimit;
use super::timing::Timing;
use super::watch::{Watch, WatchedCommand};
use super::watched_init::WatchedInit;
use crate::isolation::silent_mounts;
use crate::isolation::userns::UserNamespace;
use crate::plan::machine_plan::{MachinePlan, RunMode};
use crate::plan::ports::ChardevBackend;
use crate::plan::qemu_arguments::{AttachedDisk, ExportedShare, Wiring};
use crate::plan::virtiofsd::{DaemonSocket, Guard};
use crate::process::child::{Child, Confinement};
use crate::process::handover::{ChildDescriptors, FIRST_FD, connected_listener};
use crate::process::qmp::Qmp;
use crate::process::signals::SignalReader;
use crate::process::{open_files, virtiofsd};
use crate::root::disk_files;
use crate::session::channels::Channels;
use crate::session::console::Console;
use crate::session::console_relay::{ConsoleRelay, PageDisplay};
use crate::session::control::CommandSession;
use crate::session::foreground::Foreground;
use crate::session::terminal::{RawTerminal, SavedTerminal};
use crate::template::TemplateUse;

/// Settings of a run that are not part of the machine.
#[derive(Debug)]
pub struct RunSettings {
    /// Time limit of the run (`--timeout`).
    pub limit: TimeLimit,
    /// Whether to show the console on standard error.
    pub verbose: bool,
    /// Name of the root in the line about a boot; `None` for no such line.
    pub boot_line: Option<String>,
    /// File for the text of the console.
    pub console_log: Option<File>,
    /// Fate of the page of a panic that follows the end of INIT.
    pub page: PageDisplay,
    /// Whether QEMU has `-sandbox`.
    pub sandbox: bool,
    /// Template from which a machine with orders comes, or which it becomes.
    pub template: Option<TemplateUse>,
    /// Name by which other chrootvm processes find the machine.
    pub name: Option<String>,
    /// Description of the machine for `chrootvm ps`.
    pub description: String,
}

/// Starts the machine of `plan` and watches it until it ends.
///
/// # Errors
/// A program of the machine cannot be started, or watching failed.
pub fn run(
    plan: &MachinePlan,
    kernel: File,
    initrd: &[u8],
    settings: RunSettings,
    timing: &mut Timing,
) -> Result<RunReport> {
    let signals = SignalReader::block()?;
    let _saved = SavedTerminal::new();
    published_ports::check(&plan.network)?;
    // All children inherit the limit.
    let open_files = open_files::raise()?;

    let mut fds = ChildDescriptors::default();
    let mut wiring = Wiring {
        kernel: fds.path(kernel.into()),
        initrd: fds.path(memory_file(initrd)?.into()),
        qmp: None,
        shares: Vec::new(),
        disks: Vec::new(),
        console: ChardevBackend::Stdio,
        ports: Vec::new(),
        sandbox: settings.sandbox,
    };
    for disk in &plan.disks {
        let file = fds.path(disk_files::open(disk)?.into());
        wiring.disks.push(AttachedDisk { disk, file });
    }
    let daemons = start_daemons(plan, &mut fds, &mut wiring)?;
    let limit = open_files::warning(open_files).filter(|_| !daemons.running.is_empty());
    for warning in limit.iter().chain(&daemons.warnings) {
        log::warn!("{warning}");
    }
    let (qmp, qemus_end) = Qmp::pair().context("make a socket for QMP")?;
    wiring.qmp = Some(fds.add(qemus_end));
    let (mut console, mut command, mut relay) = (None, None, None);
    if let RunMode::Console { .. } = plan.mode {
        let (our_end, qemus_end) = ConsoleRelay::start(settings.page)?;
        wiring.console = ChardevBackend::Fd(fds.add(qemus_end));
        relay = Some(our_end);
    }
    if let RunMode::Command { terminal } = plan.mode {
        let (our_console, qemus_end) = Console::pair(settings.verbose, settings.console_log)?;
        wiring.console = ChardevBackend::Fd(fds.add(qemus_end));
        console = Some(our_console);
        let (ours, ports) = Channels::new(0)?.hand_over(&mut fds);
        wiring.ports = ports;
        let session = CommandSession::start(ours, terminal)?;
        let terminal = if terminal { Some(RawTerminal::prepare()?) } else { None };
        let foreground = Foreground::new(session, terminal);
        command = Some(WatchedCommand { foreground, timing });
    }
    let further_commands = match plan.mode {
        RunMode::Console { .. } => FurtherCommands::Refused,
        RunMode::Command { .. } => FurtherCommands::Served,
    };
    let (broker, failure) =
        Broker::open(settings.name.as_deref(), settings.description, further_commands)?;
    if let Some(error) = failure {
        log::warn!("`chrootvm exec`, `ps` and `stop` cannot reach this machine: {error:#}");
    }
    let arguments = plan.qemu_arguments(&wiring);
    let fds = fds.into_mappings();
    let qemu = Child::spawn("QEMU".into(), &plan.qemu, &arguments, fds, &Confinement::default())?;
    if let Some(command) = &mut command {
        command.timing.machine_started();
    }
    let boot_line = BootLine::new(settings.boot_line);
    let watch = Watch::new(signals, qmp, qemu, daemons.running, broker, boot_line, settings.limit);
    let init = relay.map(|relay| {
        let terminal = match plan.mode {
            RunMode::Console { monitor: true } => Some(RawTerminal::prepare()?),
            _ => None,
        };
        WatchedInit::new(relay, terminal)
    });
    watch.until_the_end(command, console, init.transpose()?)
}

/// The daemons of a machine.
#[derive(Default)]
struct Daemons {
    running: Vec<Child>,
    /// The daemons open the namespace by chrootvm's descriptor, so it has to stay open.
    _namespace: Option<UserNamespace>,
    warnings: Vec<String>,
}

/// Starts one daemon for each share of `plan`, and wires the shares to QEMU.
fn start_daemons<'a>(
    plan: &'a MachinePlan,
    fds: &mut ChildDescriptors,
    wiring: &mut Wiring<'a>,
) -> Result<Daemons> {
    let Some(virtiofsd) = &plan.virtiofsd else { return Ok(Daemons::default()) };
    let prepared = virtiofsd::prepare(virtiofsd)?;
    let mut warnings = Vec::from_iter(prepared.warning);
    let virtiofsd = prepared.daemon;
    let program = virtiofsd.program.display();
    let sources: Vec<_> = plan.shares.iter().map(|share| &*share.source).collect();
    let silent = silent_mounts::silent(&sources);
    for (at, kind) in &silent {
        warnings.push(format!(
            "{} ({kind}) does not answer: a process of the guest that looks at it waits, and so does \
             everything else that needs this share",
            at.display()
        ));
    }
    let mut running = Vec::new();
    for share in &plan.shares {
        virtiofsd.check_file(share)?;
        let guard = virtiofsd.guard(share);
        let silent = silent.iter().find(|(at, _)| at.starts_with(&share.source));
        if let (Guard::Mount, Some((at, kind))) = (guard, silent) {
            let (at, source) = (at.display(), share.source.display());
            bail!(
                "share {source} read-only: {at} ({kind}) does not answer, and {program} needs it \
                 mounted read-only; unmount it (umount -l {at}), or use the Rust virtiofsd"
            );
        }
        let (listener, connected) = connected_listener().context("make a socket for virtiofsd")?;
        let socket = DaemonSocket::Fd(fds.add(connected));
        wiring.shares.push(ExportedShare { share, socket });
        let arguments = virtiofsd.arguments(share, &DaemonSocket::Fd(FIRST_FD));
        if guard == Guard::GuestOnly {
            warnings.push(format!(
                "nothing on this host keeps the guest from writing to {}: {program} cannot \
                 export read-only, and mounting is not allowed here",
                share.source.display()
            ));
        }
        running.push(Child::spawn(
            format!("virtiofsd for tag \"{}\"", share.tag),
            &virtiofsd.program,
            &arguments,
            vec![(listener, FIRST_FD)],
            &Confinement {
                file: share.file().map(Path::to_path_buf),
                read_only: (guard == Guard::Mount).then(|| share.exported().to_path_buf()),
                user_namespace: prepared.namespace.as_ref().map(UserNamespace::path),
            },
        )?);
    }
    Ok(Daemons { running, _namespace: prepared.namespace, warnings })
}
