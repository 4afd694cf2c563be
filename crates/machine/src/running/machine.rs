//! The process of QEMU, with everything that it inherits.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};

use super::settings::RunSettings;
use crate::plan::machine_plan::{MachinePlan, RunMode};
use crate::plan::ports::ChardevBackend;
use crate::plan::qemu_arguments::{AttachedDisk, Contents, ExportedShare, MemoryFile, Wiring};
use crate::plan::virtiofsd::DaemonSocket;
use crate::process::child::{Child, Confinement};
use crate::process::handover::ChildDescriptors;
use crate::process::qmp::Qmp;
use crate::root::disk_files;
use crate::session::channels::Channels;
use crate::session::console::Console;
use crate::session::console_relay::ConsoleRelay;

/// A QEMU that runs, and chrootvm's ends of its sockets.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) qemu: Child,
    pub(super) qmp: Qmp,
    /// Console of a machine with a command.
    pub(super) console: Option<Console>,
    /// Console of a machine with INIT.
    pub(super) relay: Option<ConsoleRelay>,
    /// Channels of the command.
    pub(super) channels: Option<[OwnedFd; 4]>,
    /// Paths by which QEMU opens the disks.
    pub(super) disk_files: Vec<String>,
}

impl Machine {
    /// Starts QEMU with the descriptors `fds`, to which those of the console, the ports and the
    /// disks are added. `sockets` lead to the daemons of the shares; there are none if the shares
    /// are plugged in later.
    pub(super) fn start(
        plan: &MachinePlan,
        contents: Contents,
        memory: Option<MemoryFile>,
        mut fds: ChildDescriptors,
        sockets: Vec<OwnedFd>,
        settings: &mut RunSettings,
    ) -> Result<Self> {
        let mut wiring = Wiring {
            contents,
            memory,
            qmp: None,
            shares: Vec::new(),
            disks: Vec::new(),
            console: ChardevBackend::Stdio,
            ports: Vec::new(),
            sandbox: settings.sandbox,
        };
        let mut disk_files = Vec::new();
        for disk in &plan.disks {
            let file = fds.path(disk_files::open(disk)?.into());
            disk_files.push(file.to_string_lossy().into_owned());
            wiring.disks.push(AttachedDisk { disk, file });
        }
        for (share, socket) in plan.shares.iter().zip(sockets) {
            let socket = DaemonSocket::Fd(fds.add(socket));
            wiring.shares.push(ExportedShare { share, socket });
        }
        let (qmp, qemus_end) = Qmp::pair().context("make a socket for QMP")?;
        wiring.qmp = Some(fds.add(qemus_end));
        let (mut console, mut relay, mut channels) = (None, None, None);
        match plan.mode {
            RunMode::Console { .. } => {
                let (our_end, qemus_end) = ConsoleRelay::start(settings.page)?;
                wiring.console = ChardevBackend::Fd(fds.add(qemus_end));
                relay = Some(our_end);
            }
            RunMode::Command { .. } => {
                let log = settings.console_log.take();
                let (our_end, qemus_end) = Console::pair(settings.verbose, log)?;
                wiring.console = ChardevBackend::Fd(fds.add(qemus_end));
                console = Some(our_end);
                let (ours, ports) = Channels::new(0)?.hand_over(&mut fds);
                wiring.ports = ports;
                channels = Some(ours);
            }
        }
        let arguments = plan.qemu_arguments(&wiring);
        let fds = fds.into_mappings();
        let qemu =
            Child::spawn("QEMU".into(), &plan.qemu, &arguments, fds, &Confinement::default())?;
        Ok(Self { qemu, qmp, console, relay, channels, disk_files })
    }
}
