//! The boot, step by step: the C `main`, and the steps in the order in which they run.
//!
//! Each step is in the room to which it belongs. The comments here say only why the order
//! is as it is.

use alloc::vec::Vec;
use core::convert::Infallible;
use core::ffi::{CStr, c_int};
use core::time::Duration;

use proto::settings::Settings;
use proto::text::show;
use proto::volume::VolumeKind;
use rustix::io::Errno;

use crate::boot::orders::Received;
use crate::boot::{end, modules, mount, network, orders, tables};
use crate::cmdline::Config;
use crate::report::log;
use crate::report::logger;
use crate::report::watch::{self, BootStep};
use crate::root::attachments::extra_mounts::ExtraMounts;
use crate::root::attachments::{shares, volumes};
use crate::root::mount::BootedFrom;
use crate::root::new_root::NewRoot;
use crate::root::{self, etc, hosts, image_volumes};
use crate::rt;
use crate::run::console::PayloadConsole;
use crate::run::host::{self, HostedRun};
use crate::run::program::{Origin, Program};
use crate::run::{payload, workload};
use crate::sys::devices::Devices;
use crate::sys::error::{Context, ErrnoName, Result};
use crate::sys::file;

/// Path of the run file ([`proto::settings`]) in the initramfs.
const RUN_FILE: &CStr = c"/virtinit.run";

/// The C `main`: boots, or reports an error and ends the machine.
///
/// Returns only if this process is not PID 1: it may not end the machine then.
#[must_use]
pub fn main(environment: rt::Environment) -> c_int {
    // Any other process than PID 1 is on a host, whose /proc and /dev must not be touched.
    if !rustix::process::getpid().is_init() {
        if environment.contains(&orders::REHEARSAL) {
            return 0;
        }
        log::error!("refusing to run: not PID 1; this program is the /init of an initramfs");
        return end::EXIT_FAILURE;
    }
    let Err(error) = run(environment);
    end::fatal(format_args!("{error}"))
}

/// All steps in their order. This returns only on error: otherwise the payload has replaced
/// this program, or the machine has ended with its command or workload.
fn run(environment: rt::Environment) -> Result<Infallible> {
    let began = rt::process::uptime();
    // The command line is in /proc, and says how to report any later error.
    mount::api_mount(&tables::PROC)?;
    let line = file::read(c"/proc/cmdline").context(format_args!("read /proc/cmdline"))?;
    end::set_policy(&line);
    let config = Config::parse(&line);
    if config.as_ref().is_ok_and(|config| config.debug) {
        logger::enable_debug();
    }

    mount::api_mounts()?;
    // Open the console right after /dev is mounted: until then, descriptors 0 to 2 may be
    // closed, and other files must not get these numbers.
    mount::console()?;
    logger::attach();
    match Devices::open() {
        Ok(devices) => end::set_devices(devices),
        Err(errno) => {
            log::warn!("open /sys and /dev: {}: no port can be used", ErrnoName(errno));
        }
    }
    // Load the modules before reporting a bad command line: the port for the report may
    // need one.
    let fallback = Config::parse(b"")?;
    let known = config.as_ref().unwrap_or(&fallback);
    for warning in &known.warnings {
        log::warn!("{warning}");
    }
    watch::start(known.wait, end::give_up_on_pid_1);
    mount::nodes_and_links()?;

    let booted_from = BootedFrom::find()?;
    if booted_from == BootedFrom::Initramfs {
        modules::load_all(known)?;
    }
    let config = config?;
    let (text, mut warm) = match config.orders {
        true => {
            let Received { session, text, rehearsal } = orders::receive(config.wait)?;
            (text, Some((session, rehearsal)))
        }
        false => (take_run_file(booted_from)?, None),
    };
    let settings = Settings::parse(&text)?;
    let joined;
    let config = match &mut warm {
        None => config,
        Some((_, rehearsal)) => {
            orders::take_effect(&settings, rehearsal)?;
            // If a parameter is given twice, the last one wins: that of the kernel.
            joined = [settings.words, b" ", &line].concat();
            Config::parse(&joined)?
        }
    };
    let new_root = root::mount::mount(booted_from, &config)?;
    shares::mount_shares(&config)?;
    let mut mounts = ExtraMounts::stage(&config)?;
    watch::enter(BootStep::EnterRoot);
    // From here on nothing can be undone: the initramfs loses its mounts.
    new_root.move_mounts(&config)?;
    // Make /etc writable before the volumes and mounts, which may lie below it.
    match config.etc {
        Some(kind) => etc::mount(kind, &new_root)?,
        None => etc::make_room(&new_root, hosts::PATH),
    }
    // The host's volumes cover those of the image.
    let origin = Origin::find(&settings, booted_from, &config, &new_root)?;
    let program = origin.program(&settings, &text)?;
    image_volumes::mount_all(&program.command(&settings).image_volumes, &new_root);
    // A volume may lie below /run, so mount the volumes after the move of /run.
    let mount_volumes = |kind| volumes::mount_all(&settings.volumes, kind, &new_root, &config);
    mount_volumes(VolumeKind::Directory)?;
    mounts.place(&new_root)?;
    watch::enter(BootStep::EnterRoot);
    set_up_host(&settings, &new_root, config.wait)?;
    // Mount the files after everything that could cover them, such as our own resolv.conf.
    mount_volumes(VolumeKind::File)?;
    // The payload may lie on one of these mounts, so check it last.
    if let Program::Payload = program {
        payload::check(&new_root, config.init)?;
    }
    let console = PayloadConsole::of(&program, &settings, config.init, &new_root);

    let session = warm.map(|(session, rehearsal)| {
        watch::enter(BootStep::Rehearse);
        rehearsal.wait();
        watch::enter(BootStep::EnterRoot);
        session
    });
    new_root.switch()?;
    if let Some(console) = console {
        console.set_up();
    }
    match program {
        Program::Workload(command) if !settings.workload => {
            watch::stop();
            mount::delegate_cgroups();
            workload::console::run(&command, &mounts, end::devices())
        }
        Program::Payload => {
            log::debug!("executing {}", show(config.init));
            watch::enter(BootStep::Execute);
            payload::exec(&config, environment)
        }
        Program::Session | Program::Workload(_) => {
            watch::enter(BootStep::Execute);
            watch::stop();
            if settings.workload {
                mount::delegate_cgroups();
            }
            let (command, settings, mounts) = (program.command(&settings), &settings, &mounts);
            let hosted = HostedRun { command, session, settings, mounts, began };
            host::run(hosted, end::devices(), config.wait)
        }
    }
}

/// Reads the run file, and removes it: the initramfs may stay as the root.
fn take_run_file(booted_from: BootedFrom) -> Result<Vec<u8>> {
    if booted_from == BootedFrom::Root {
        return Ok(Vec::new());
    }
    match file::read(RUN_FILE) {
        Err(Errno::NOENT) => Ok(Vec::new()),
        text => {
            let text = text.context(format_args!("read /virtinit.run"))?;
            rustix::fs::unlink(RUN_FILE).context(format_args!("remove /virtinit.run"))?;
            Ok(text)
        }
    }
}

/// Sets the name and the network of the machine, and what `/etc` says about them.
fn set_up_host(settings: &Settings<'_>, root: &NewRoot, limit: Duration) -> Result<()> {
    if let Some(name) = settings.hostname {
        rustix::system::sethostname(name)
            .context(format_args!("set the hostname {}", show(name)))?;
    }
    network::bring_up_loopback();
    hosts::provide(root, settings.hostname, network::address(settings));
    match end::devices() {
        Some(devices) if settings.network => network::set_up(devices, root, limit),
        _ => Ok(()),
    }
}
