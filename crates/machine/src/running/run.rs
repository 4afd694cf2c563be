//! Starting the programs of a plan.
//!
//! chrootvm makes no files for a run: the initrd is a memfd, and sockets are abstract and
//! already connected when a program inherits them. So there is nothing to clean up, however
//! chrootvm ends. The programs end together with chrootvm ([`crate::process::child`]).

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use files::memory::memory_file;

use super::boot_line::BootLine;
use super::broker::{Broker, FurtherCommands};
use super::machine::Machine;
use super::outcome::RunReport;
use super::published_ports;
use super::settings::RunSettings;
use super::timing::Timing;
use super::warm::orders::{Orders, Saving, go_on};
use super::warm::saved;
use super::watch::{Origin, Waits, Watch, WatchedCommand};
use super::watched_init::WatchedInit;
use crate::isolation::silent_mounts;
use crate::isolation::userns::UserNamespace;
use crate::plan::machine_plan::{MachinePlan, MachineStart, RunMode};
use crate::plan::qemu_arguments::{Contents, MemoryFile};
use crate::plan::virtiofsd::{DaemonSocket, Guard};
use crate::process::child::{Child, Confinement};
use crate::process::handover::{ChildDescriptors, FIRST_FD, connected_listener};
use crate::process::signals::SignalReader;
use crate::process::{open_files, virtiofsd};
use crate::session::control::CommandSession;
use crate::session::foreground::Foreground;
use crate::session::terminal::{RawTerminal, SavedTerminal};
use crate::template::TemplateUse;
use crate::template::file::Template;

/// Starts the machine of `plan` and watches it until it ends. `kernel` and `initrd` are what the
/// machine boots, if it does not come from a template.
///
/// # Errors
/// A program of the machine cannot be started, or watching failed.
pub fn run(
    plan: &MachinePlan,
    kernel: File,
    initrd: &[u8],
    mut settings: RunSettings,
    timing: &mut Timing,
) -> Result<RunReport> {
    let signals = SignalReader::block()?;
    let _saved = SavedTerminal::new();
    published_ports::check(&plan.network)?;
    // All children inherit the limit.
    let open_files = open_files::raise()?;
    let saved = start_saved(plan, &mut settings, timing)?;
    let started = match saved {
        Some(started) => started,
        None => boot(plan, kernel, initrd, &mut settings, timing)?,
    };
    let Started { machine, daemons, orders, origin } = started;
    let limit = open_files::warning(open_files).filter(|_| !daemons.running.is_empty());
    for warning in limit.iter().chain(&daemons.warnings) {
        log::warn!("{warning}");
    }
    let Machine { qemu, mut qmp, console, relay, channels, .. } = machine;
    let mut command = None;
    let log_dir = settings.logs.as_ref().map(|logs| logs.path().to_path_buf());
    if let (RunMode::Command { terminal }, Some(channels)) = (plan.mode, channels) {
        let mut session = match settings.logs.take() {
            Some(logs) => CommandSession::start_to(channels, logs.into_targets())?,
            None => CommandSession::start(channels, terminal)?,
        };
        let mut orders = orders;
        if let Some(orders) = orders.as_mut().filter(|_| origin == Origin::Template) {
            orders.give(&mut qmp, &mut session)?;
            timing.ordered();
        }
        let terminal = if terminal { Some(RawTerminal::prepare()?) } else { None };
        let foreground = Foreground::new(session, terminal);
        command = Some(WatchedCommand { foreground, timing, orders, origin });
    }
    let further_commands = match plan.mode {
        RunMode::Console { .. } => FurtherCommands::Refused,
        RunMode::Command { .. } => FurtherCommands::Served,
    };
    let (broker, failure) =
        Broker::open(settings.name.as_deref(), settings.description, further_commands)?;
    let broker = broker.with_log_dir(log_dir.as_deref());
    if let Some(error) = failure {
        log::warn!("`chrootvm exec`, `ps` and `stop` cannot reach this machine: {error:#}");
    }
    settings.readiness.begin()?;
    let waits = Waits {
        boot_line: BootLine::new(settings.boot_line),
        limit: settings.limit,
        readiness: settings.readiness,
    };
    let watch = Watch::new(signals, qmp, qemu, daemons.running, broker, waits);
    let init = relay.map(|relay| {
        let terminal = match plan.mode {
            RunMode::Console { monitor: true } => Some(RawTerminal::prepare()?),
            _ => None,
        };
        WatchedInit::new(plan.architecture, relay, terminal)
    });
    let report = watch.until_the_end(command, console, init.transpose()?)?;
    let template = settings.template.filter(|_| origin == Origin::Template);
    if let Some(template) = template.filter(|_| report.outcome.is_lost() && !timing.has_run()) {
        template.discard();
        log::warn!("the saved machine is removed, because it did not run; the next run boots");
    }
    Ok(report)
}

/// A machine with its daemons.
struct Started {
    machine: Machine,
    daemons: Daemons,
    /// Orders for a machine that waits for them.
    orders: Option<Orders>,
    origin: Origin,
}

/// Boots the machine of `plan`. If it waits for orders, it can become a template.
fn boot(
    plan: &MachinePlan,
    kernel: File,
    initrd: &[u8],
    settings: &mut RunSettings,
    timing: &mut Timing,
) -> Result<Started> {
    let mut daemons = start_daemons(plan)?;
    let mut fds = ChildDescriptors::default();
    let contents = Contents::Boot {
        kernel: fds.path(kernel.into()),
        initrd: fds.path(memory_file(initrd)?.into()),
    };
    let sockets = std::mem::take(&mut daemons.sockets);
    let MachineStart::Orders { words } = &plan.start else {
        let machine = Machine::start(plan, contents, None, fds, sockets, settings)?;
        timing.machine_started();
        return Ok(Started { machine, daemons, orders: None, origin: Origin::Boot });
    };
    let memory = saved::empty_memory(plan)?;
    let file = MemoryFile { path: fds.path(memory.try_clone()?.into()), is_private: false };
    let machine = Machine::start(plan, contents, Some(file), fds, Vec::new(), settings)?;
    timing.machine_started();
    let saving = settings.template.take().map(|template| Saving { template, memory });
    let orders = Orders::new(plan, words, sockets, &machine.disk_files, saving);
    Ok(Started { machine, daemons, orders: Some(orders), origin: Origin::Boot })
}

/// Starts the machine of `plan` from its template; `None` if there is no template, or it is of no
/// use. Then it is removed.
///
/// # Errors
/// Errors that a boot would have, too.
fn start_saved(
    plan: &MachinePlan,
    settings: &mut RunSettings,
    timing: &mut Timing,
) -> Result<Option<Started>> {
    let MachineStart::Orders { words } = &plan.start else { return Ok(None) };
    let Some(template) = settings.template.as_ref().and_then(TemplateUse::open) else {
        return Ok(None);
    };
    let mut loaded = load(plan, &template, settings, timing)?;
    let ready = loaded.memory.and_then(|()| {
        saved::load(&mut loaded.machine.qmp, template.state())?;
        // The processors translate the code with which they wake up while the devices are
        // plugged in.
        go_on(&mut loaded.machine.qmp)
    });
    if let Err(error) = ready {
        log::debug!("the saved machine does not start, so it is booted again: {error:#}");
        if let Some(template) = &settings.template {
            template.discard();
        }
        timing.restarted();
        return Ok(None);
    }
    timing.loaded();
    let Loaded { mut machine, daemons, sockets, .. } = loaded;
    let mut orders = Orders::new(plan, words, sockets, &machine.disk_files, None);
    orders.plug(&mut machine.qmp)?;
    Ok(Some(Started { machine, daemons, orders: Some(orders), origin: Origin::Template }))
}

/// A machine that waits for the state of its devices.
struct Loaded {
    machine: Machine,
    daemons: Daemons,
    /// QEMU's ends of the daemons' sockets.
    sockets: Vec<OwnedFd>,
    /// Whether its memory is that of the template.
    memory: Result<()>,
}

/// Starts QEMU and the daemons, while the memory of `template` is read.
fn load(
    plan: &MachinePlan,
    template: &Template,
    settings: &mut RunSettings,
    timing: &mut Timing,
) -> Result<Loaded> {
    // Without shares, nobody but QEMU needs the memory: then it is that of the template, of which
    // QEMU copies a page only when the guest writes to it.
    let is_private = plan.shares.is_empty() && template.can_be_mapped();
    let memory = match is_private {
        true => template.memory().try_clone()?,
        false => saved::empty_memory(plan)?,
    };
    // Reading the memory takes longer than all else, so it begins first.
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| match is_private {
            true => template.verify(),
            false => template.fill(&memory),
        });
        let mut daemons = start_daemons(plan)?;
        let mut fds = ChildDescriptors::default();
        let file = MemoryFile { path: fds.path(memory.try_clone()?.into()), is_private };
        let sockets = std::mem::take(&mut daemons.sockets);
        let machine =
            Machine::start(plan, Contents::Incoming, Some(file), fds, Vec::new(), settings)?;
        timing.machine_started();
        let memory = reading.join().map_err(|_| anyhow!("the memory could not be read"))?;
        Ok(Loaded { machine, daemons, sockets, memory })
    })
}

/// The daemons of a machine.
#[derive(Default)]
struct Daemons {
    running: Vec<Child>,
    /// QEMU's ends of their sockets, in the order of the shares.
    sockets: Vec<OwnedFd>,
    /// The daemons open the namespace by chrootvm's descriptor, so it has to stay open.
    _namespace: Option<UserNamespace>,
    warnings: Vec<String>,
}

/// Starts one daemon for each share of `plan`.
fn start_daemons(plan: &MachinePlan) -> Result<Daemons> {
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
    let (mut running, mut sockets) = (Vec::new(), Vec::new());
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
        sockets.push(connected);
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
    Ok(Daemons { running, sockets, _namespace: prepared.namespace, warnings })
}
