//! The boot, step by step, and its end when a step fails.
//!
//! Interface: reboot(2). `run` is the order and nothing else.

use alloc::format;
use core::convert::Infallible;
use core::ffi::c_int;
use core::panic::PanicInfo;
use core::time::Duration;

use rustix::system::RebootCommand;

use crate::cmdline::{Config, Fail};
use crate::error::{Context, NO_HINT, Result};
use crate::log::Log;
use crate::{file, modules, mount, payload, root, rt, tables};

/// Exit status of a process that is not PID 1 (and, after `virtinit.fail=panic`,
/// of PID 1).
const EXIT_FAILURE: c_int = 1;

/// The C `main`: boots, or says why not and ends the machine.
///
/// Returns only where ending the machine is not ours to do.
#[must_use]
pub fn main(environment: rt::Environment) -> c_int {
    let mut log = Log::console();
    // As PID 2 or above this is a host, whose /proc and /dev must not be touched.
    if !rustix::process::getpid().is_init() {
        log.error(format_args!(
            "refusing to run: not PID 1; this program is the /init of an initramfs"
        ));
        return EXIT_FAILURE;
    }
    let mut on_failure = Fail::default();
    let Err(error) = run(&mut log, &mut on_failure, environment);
    log.error(format_args!("{error}"));
    end(&log, on_failure)
}

/// The ordered steps. On success the payload has taken this process over.
fn run(log: &mut Log, on_failure: &mut Fail, environment: rt::Environment) -> Result<Infallible> {
    // The command line is in /proc, and tells how to report all that follows.
    mount::api_mount(&tables::PROC)?;
    let line = file::read(c"/proc/cmdline").context(|| "read /proc/cmdline".into(), NO_HINT)?;
    *on_failure = Fail::parse(&line);
    let config = Config::parse(&line)?;
    log.set_debug(config.debug);

    mount::api_mounts(log)?;
    // First after /dev: until then descriptors 0 to 2 may be unused, and other
    // files must not land there.
    mount::console()?;
    log.attach_kmsg();
    for warning in &config.warnings {
        log.warning(format_args!("{warning}"));
    }
    mount::nodes_and_links()?;

    modules::load_all(log)?;
    let new_root = root::mount_root(&config)?;
    log.debug(format_args!("mounted the root, virtiofs tag {}", config.root));
    root::mount_shares(&config.shares, log)?;
    new_root.move_mounts(&config, log)?;
    // After the move: the payload may be below /run/mnt.
    new_root.check_payload(config.init)?;

    // From here on nothing can be undone: the initramfs goes.
    root::free_initramfs(log)?;
    new_root.switch()?;
    log.debug(format_args!("executing {}", config.init.escape_ascii()));
    payload::exec(&config, environment)
}

/// Ends the machine after a fatal error.
fn end(log: &Log, how: Fail) -> c_int {
    rustix::fs::sync();
    let command = match how {
        Fail::PowerOff => RebootCommand::PowerOff,
        Fail::Reboot => RebootCommand::Restart,
        Fail::Panic => return EXIT_FAILURE,
    };
    if let Err(errno) = rustix::system::reboot(command) {
        let failed: Result<(), _> = Err(errno);
        if let Err(error) = failed.context(|| format!("reboot(2), {how:?}"), NO_HINT) {
            log.error(format_args!("{error}; halted"));
        }
    }
    halt()
}

/// A defect of ours: reported like a fatal error. Nothing of the boot is
/// trusted any more, hence the default of `virtinit.fail`.
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    let mut log = Log::console();
    log.attach_kmsg();
    log.error(format_args!("{info}; this is a defect of virtinitrd, please report it"));
    end(&log, Fail::default());
    halt()
}

/// Does nothing, for ever: the end of a machine that cannot be switched off.
pub fn halt() -> ! {
    /// Long enough to cost nothing.
    const PAUSE: Duration = Duration::from_secs(3600);
    loop {
        let _ = rustix::thread::nanosleep(&rustix::thread::Timespec {
            tv_sec: PAUSE.as_secs().cast_signed(),
            tv_nsec: 0,
        }); // an interrupted sleep starts anew
    }
}
