//! The boot, step by step, and its end when a step fails.
//!
//! Interface: reboot(2). `Boot::run` is the order and nothing else.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::convert::Infallible;
use core::ffi::{CStr, c_int};
use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use core::time::Duration;

use rustix::io::Errno;
use rustix::system::RebootCommand;
use virtinitrd_proto::settings::Settings;
use virtinitrd_proto::text::{compose, show};

use crate::cmdline::Config;
use crate::error::{Context, Error, Name, Result};
use crate::fail::Fail;
use crate::log::Log;
use crate::plan::{Choice, Plan};
use crate::ports::Ports;
use crate::root::{NewRoot, Place};
use crate::watch::Step;
use crate::{
    children, command, etc, file, modules, mount, network, orders, payload, report, root, rt,
    supervise, tables, volume, wait, watch,
};

/// Exit status of a process that is not PID 1 (and, after `virtinit.fail=panic`,
/// of PID 1).
const EXIT_FAILURE: c_int = 1;

/// What one run asks for, beyond the command line; see [`virtinitrd_proto::settings`].
const SETTINGS: &CStr = c"/virtinit.run";

/// A boot under way, and what is needed to end it well.
struct Boot {
    log: &'static Log,
    ports: Option<&'static Ports>,
}

/// `virtinit.fail=`, for whoever ends the machine: PID 1, the watch on it, or a
/// panic. Until the command line is read it is the contract's default.
static ON_FAILURE: AtomicU8 = AtomicU8::new(Fail::PowerOff as u8);

/// Whether a panic is being reported.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// The C `main`: boots, or says why not and ends the machine.
///
/// Returns only where ending the machine is not ours to do.
#[must_use]
pub fn main(environment: rt::Environment) -> c_int {
    let log: &Log = Box::leak(Box::new(Log::console()));
    // As PID 2 or above this is a host, whose /proc and /dev must not be touched.
    if !rustix::process::getpid().is_init() {
        log.error(format_args!(
            "refusing to run: not PID 1; this program is the /init of an initramfs"
        ));
        return EXIT_FAILURE;
    }
    let mut boot = Boot { log, ports: None };
    let Err(error) = boot.run(environment);
    fatal(boot.log, boot.ports, format_args!("{error}"))
}

impl Boot {
    /// The ordered steps. On success the payload has taken this process over.
    fn run(&mut self, environment: rt::Environment) -> Result<Infallible> {
        let began = rt::process::uptime();
        // The command line is in /proc, and tells how to report all that follows.
        mount::api_mount(&tables::PROC)?;
        let line = file::read(c"/proc/cmdline").context(format_args!("read /proc/cmdline"))?;
        ON_FAILURE.store(Fail::parse(&line) as u8, Ordering::Relaxed);
        let config = Config::parse(&line);
        let mut log = Log::console();
        log.set_debug(config.as_ref().is_ok_and(|config| config.debug));

        mount::api_mounts(&log)?;
        // First after /dev: until then descriptors 0 to 2 may be unused, and other
        // files must not land there.
        mount::console()?;
        log.attach_kmsg();
        // They are needed to the end, and by the watch as well.
        self.log = Box::leak(Box::new(log));
        match Ports::prepare() {
            Ok(ports) => self.ports = Some(Box::leak(Box::new(ports))),
            Err(errno) => self
                .log
                .warning(format_args!("open /sys and /dev: {}: no port can be used", Name(errno))),
        }
        // Even of a line that makes no sense the host must hear, perhaps through
        // a port whose driver is a module.
        let fallback = Config::parse(b"")?;
        let known = config.as_ref().unwrap_or(&fallback);
        for warning in &known.warnings {
            self.log.warning(format_args!("{warning}"));
        }
        watch::start(known.wait, self.log, self.ports);
        mount::nodes_and_links()?;

        let place = Place::find()?;
        if place == Place::Sysroot {
            modules::load_all(known, self.log)?;
        }
        let config = config?;
        let text = take_settings(place)?;
        let settings = Settings::parse(&text)?;
        let new_root = root::mount(place, &config, self.log)?;
        root::mount_shares(&config, self.log)?;
        let staged = volume::stage_extra(&config, self.log)?;
        watch::enter(Step::EnterRoot);
        // From here on nothing can be undone: the old root loses what it had.
        new_root.move_mounts(&config, self.log)?;
        // Something may be mounted in it.
        if let Some(etc) = config.etc {
            etc::mount(etc, &new_root)?;
        }
        // After the move: a volume may be below /run.
        volume::mount_all(&settings.volumes, &new_root, &config, self.log)?;
        volume::place_extra(&staged, &new_root, self.log)?;
        watch::enter(Step::EnterRoot);
        self.set_up_host(&settings, &new_root, config.wait)?;
        // So may the payload.
        let choice = Choice::make(&settings, place, &config, &new_root)?;
        let plan = choice.plan()?;
        if let Plan::Execute = plan {
            new_root.check_payload(config.init)?;
        }

        new_root.switch(&config, self.log)?;
        match plan {
            Plan::Serve => self.run_command(&settings, &config, began),
            Plan::Supervise(request) => {
                watch::stop();
                mount::delegate_cgroups();
                supervise::run(&request, &config.mounts, self.log)
            }
            Plan::Execute => {
                self.log.debug(format_args!("executing {}", show(config.init)));
                watch::enter(Step::Execute);
                payload::exec(&config, environment)
            }
        }
    }

    /// Name and network of the machine.
    fn set_up_host(&self, settings: &Settings<'_>, root: &NewRoot, limit: Duration) -> Result<()> {
        if let Some(name) = settings.hostname {
            rustix::system::sethostname(name)
                .context(format_args!("set the hostname {}", show(name)))?;
        }
        network::bring_up_loopback(self.log);
        match self.ports {
            Some(ports) if settings.network => network::set_up(ports, root, limit, self.log),
            _ => Ok(()),
        }
    }

    /// Command mode, to its end.
    fn run_command(
        &self,
        settings: &Settings<'_>,
        config: &Config<'_>,
        began: Duration,
    ) -> Result<Infallible> {
        watch::enter(Step::Execute);
        watch::stop();
        let ports = self.ports.ok_or_else(|| Error::new(format_args!("no ports"), "see above"))?;
        let (mounts, limit) = (&config.mounts[..], config.wait);
        command::run(&command::Start { ports, settings, mounts, began, limit }, self.log)?;
        orders::carry_out(RebootCommand::PowerOff, self.log)
    }
}

/// What one run asks for; gone from the initramfs then, which may stay.
fn take_settings(place: Place) -> Result<Vec<u8>> {
    if place == Place::Slash {
        return Ok(Vec::new());
    }
    match file::read(SETTINGS) {
        Err(Errno::NOENT) => Ok(Vec::new()),
        text => {
            let text = text.context(format_args!("read /virtinit.run"))?;
            rustix::fs::unlink(SETTINGS).context(format_args!("remove /virtinit.run"))?;
            Ok(text)
        }
    }
}

/// Reports a fatal error and ends the machine as `virtinit.fail=` says.
pub fn fatal(log: &Log, ports: Option<&Ports>, message: fmt::Arguments<'_>) -> ! {
    tell(log, ports, message);
    end(log, policy())
}

/// As [`fatal`], from another thread while PID 1 is blocked, which can then
/// neither exit nor execute a shell.
pub fn give_up_on_pid_1(log: &Log, ports: Option<&Ports>, message: fmt::Arguments<'_>) -> ! {
    let how = match policy() {
        Fail::Shell | Fail::PowerOff => Fail::PowerOff,
        Fail::Panic | Fail::Reboot => Fail::Reboot,
    };
    tell(log, ports, message);
    end(log, how)
}

fn tell(log: &Log, ports: Option<&Ports>, message: fmt::Arguments<'_>) {
    log.error(message);
    if let Some(Err(errno)) = ports.map(|ports| report::send(ports, &compose(message))) {
        log.debug(format_args!("ipc.0 took no message: {}", Name(errno)));
    }
}

fn policy() -> Fail {
    let stored = ON_FAILURE.load(Ordering::Relaxed);
    let all = [Fail::PowerOff, Fail::Reboot, Fail::Panic, Fail::Shell];
    all.into_iter().find(|policy| *policy as u8 == stored).unwrap_or_default()
}

/// Time limit of sync(2) in a machine that failed.
const SYNC_LIMIT: Duration = Duration::from_secs(10);

/// Ends the machine. After the boot, sync(2) runs first, for at most [`SYNC_LIMIT`]: on
/// a dead virtiofs it never returns. During the boot there is nothing to write out.
fn end(log: &Log, how: Fail) -> ! {
    if watch::is_over() && !children::run_within(SYNC_LIMIT, rustix::fs::sync) {
        let seconds = SYNC_LIMIT.as_secs();
        log.error(format_args!(
            "sync(2) takes longer than {seconds} s: what was written last may be lost"
        ));
    }
    let command = match how {
        Fail::Reboot => RebootCommand::Restart,
        Fail::Panic => rt::exit(EXIT_FAILURE),
        Fail::PowerOff => RebootCommand::PowerOff,
        Fail::Shell => {
            payload::shell(log);
            RebootCommand::PowerOff
        }
    };
    if let Err(errno) = rustix::system::reboot(command) {
        let error = Error::sys(format_args!("reboot(2)"), errno, "halted");
        log.error(format_args!("{error}"));
    }
    halt()
}

/// A defect of ours: reported like a fatal error.
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    // Reporting may fail as well, where memory has run out.
    if PANICKED.swap(true, Ordering::Relaxed) && rustix::process::getpid().is_init() {
        end(&Log::console(), Fail::PowerOff);
    }
    let mut log = Log::console();
    log.attach_kmsg();
    log.error(format_args!("{info}; this is a defect of virtinitrd, please report it"));
    // A child that serves a second command takes nobody along.
    if !rustix::process::getpid().is_init() {
        rt::exit(EXIT_FAILURE);
    }
    end(&log, policy())
}

/// Does nothing, for ever: the end of a machine that cannot be switched off.
pub fn halt() -> ! {
    /// Long enough to cost nothing.
    const PAUSE: Duration = Duration::from_secs(3600);
    loop {
        wait::sleep(PAUSE);
    }
}
