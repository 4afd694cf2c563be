//! Starting the programs of a plan.
//!
//! Nothing is ever put into the file system: the initrd is a memfd, sockets are
//! abstract and already connected when a program gets its end. So there is
//! nothing to clean up, however we end; the programs end by [`crate::process::child`].

use std::fs::File;

use anyhow::{Context, Result, bail};
use files::memory::memory_file;

use super::broker::Broker;
use super::outcome::Outcome;
use super::time_limit::TimeLimit;
use super::timing::Timing;
use super::watch::{Command, Watch};
use crate::isolation::silent_mounts;
use crate::isolation::userns::UserNamespace;
use crate::plan::{End, Mode, Plan, Wiring};
use crate::process::child::{Child, Role};
use crate::process::handover::{FIRST_FD, Numbered, connected_listener};
use crate::process::open_files;
use crate::process::qmp::Qmp;
use crate::process::signals::Signals;
use crate::process::virtiofsd::{Guard, Socket};
use crate::session::Session;
use crate::session::channels::Channels;
use crate::session::console::{Console, LastWords};
use crate::session::foreground::Foreground;
use crate::session::terminal::{Raw, Saved};

/// How a run is watched, beside what runs.
#[derive(Debug)]
pub struct Settings {
    /// `--timeout`
    pub limit: TimeLimit,
    /// Show the console on standard error.
    pub verbose: bool,
    /// Where to write the console to.
    pub console_log: Option<File>,
    /// Whether QEMU has `-sandbox`.
    pub sandbox: bool,
    /// The name by which others find the machine.
    pub name: Option<String>,
    /// What they see of it.
    pub description: String,
}

/// What a run left.
#[derive(Debug)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The end of the console's text, where that is not on our own.
    pub console: LastWords,
}

/// Runs `plan` to its end.
pub fn run(
    plan: &Plan,
    kernel: File,
    initrd: &[u8],
    settings: Settings,
    timing: &mut Timing,
) -> Result<Report> {
    let signals = Signals::block()?;
    let _saved = Saved::new();
    // All children inherit the limit.
    let open_files = open_files::raise()?;

    let mut fds = Numbered::default();
    let mut wiring = Wiring {
        kernel: fds.path(kernel.into()),
        initrd: fds.path(memory_file(initrd)?.into()),
        qmp: None,
        shares: Vec::new(),
        disks: Vec::new(),
        console: End::Stdio,
        ports: Vec::new(),
        sandbox: settings.sandbox,
    };
    for disk in &plan.disks {
        wiring.disks.push(fds.path(disk.open()?.into()));
    }
    let daemons = start_daemons(plan, &mut fds, &mut wiring)?;
    let limit = open_files::warning(open_files).filter(|_| !daemons.running.is_empty());
    for warning in limit.iter().chain(&daemons.warnings) {
        log::warn!("{warning}");
    }
    let (qmp, qemus_end) = Qmp::pair().context("make a socket for QMP")?;
    wiring.qmp = Some(fds.add(qemus_end));
    let mut console = None;
    let mut command = None;
    if let Mode::Command { terminal } = plan.mode {
        let (ours, theirs) = Console::pair(settings.verbose, settings.console_log)?;
        wiring.console = End::Fd(fds.add(theirs));
        console = Some(ours);
        let (ours, theirs) = Channels::new(0)?.split();
        let numbered = theirs.into_iter().map(|(name, fd)| (name, End::Fd(fds.add(fd))));
        wiring.ports = numbered.collect();
        let session = Session::start(ours, terminal)?;
        let terminal = if terminal { Some(Raw::prepare()?) } else { None };
        let foreground = Foreground::new(session, terminal);
        let (broker, failure) = Broker::open(settings.name.as_deref(), settings.description)?;
        if let Some(error) = failure {
            log::warn!("`chrootvm exec` cannot reach this machine: {error:#}");
        }
        command = Some(Command { foreground, broker, timing });
    }
    let arguments = plan.qemu_arguments(&wiring);
    let role = match plan.mode {
        Mode::Console { monitor: true } => Role::Terminal,
        Mode::Console { monitor: false } => Role::Piped,
        // It has nothing to say to whom a success is shown.
        Mode::Command { .. } => Role::Daemon { read_only: None, user_namespace: None },
    };
    let qemu = Child::spawn("QEMU".into(), &plan.qemu, &arguments, fds.into_mappings(), role)?;
    if let Some(command) = &mut command {
        command.timing.machine_started();
    }
    let watch = Watch::new(signals, qmp, qemu, daemons.running, settings.limit);
    watch.until_the_end(command, console)
}

/// The daemons of a machine.
#[derive(Default)]
struct Daemons {
    running: Vec<Child>,
    /// The daemons open it by our descriptor, which has to stay open.
    _namespace: Option<UserNamespace>,
    warnings: Vec<String>,
}

fn start_daemons(plan: &Plan, fds: &mut Numbered, wiring: &mut Wiring) -> Result<Daemons> {
    let Some(virtiofsd) = &plan.virtiofsd else { return Ok(Daemons::default()) };
    let housed = virtiofsd.housed()?;
    let mut warnings = Vec::from_iter(housed.warning);
    let virtiofsd = housed.daemon;
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
        wiring.shares.push(Socket::Fd(fds.add(connected)));
        let arguments = virtiofsd.arguments(share, &Socket::Fd(FIRST_FD));
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
            Role::Daemon {
                read_only: (guard == Guard::Mount).then(|| share.source.clone()),
                user_namespace: housed.namespace.as_ref().map(UserNamespace::path),
            },
        )?);
    }
    Ok(Daemons { running, _namespace: housed.namespace, warnings })
}
