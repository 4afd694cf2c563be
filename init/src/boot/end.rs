//! The end of the machine after a fatal error: `virtinit.fail=`.
//!
//! Interface: reboot(2). An error may come from PID 1, from the watch on it, or from a
//! panic; all of them find the policy and the devices here.

use core::ffi::c_int;
use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use core::time::Duration;

use proto::console::NO_PORT;
use proto::text::compose;
use rustix::system::RebootCommand;

use crate::cmdline::fail::Fail;
use crate::report::log;
use crate::report::{logger, watch};
use crate::rt;
use crate::rt::once::Once;
use crate::run::payload;
use crate::sys::devices::Devices;
use crate::sys::error::{ErrnoName, sys_error};
use crate::sys::{children, wait};
use crate::transport::osbuild;

/// Exit status of a process that is not PID 1 (and of PID 1 after `virtinit.fail=panic`).
pub const EXIT_FAILURE: c_int = 1;

/// Time limit of sync(2) in a machine that failed.
const SYNC_LIMIT: Duration = Duration::from_secs(10);

/// `virtinit.fail=`; the default until the command line is read.
static ON_FAILURE: AtomicU8 = AtomicU8::new(Fail::PowerOff as u8);

/// The devices, as soon as they can be opened.
static DEVICES: Once<Devices> = Once::new();

/// Whether a panic is being reported.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// Sets the policy that the kernel command line asks for.
pub fn set_policy(line: &[u8]) {
    ON_FAILURE.store(Fail::parse(line) as u8, Ordering::Relaxed);
}

/// Makes the devices known.
pub fn set_devices(devices: Devices) {
    DEVICES.set(devices);
}

/// The devices, if they could be opened.
#[must_use]
pub fn devices() -> Option<&'static Devices> {
    DEVICES.get()
}

/// Reports a fatal error and ends the machine as `virtinit.fail=` says.
pub fn fatal(message: fmt::Arguments<'_>) -> ! {
    report(message);
    end(policy())
}

/// Reports a fatal error from another thread while PID 1 hangs, and ends the machine. PID 1
/// can then neither exit nor execute a shell, so these policies become similar ones.
pub fn give_up_on_pid_1(message: fmt::Arguments<'_>) -> ! {
    let policy = match policy() {
        Fail::Shell | Fail::PowerOff => Fail::PowerOff,
        Fail::Panic | Fail::Reboot => Fail::Reboot,
    };
    report(message);
    end(policy)
}

/// Reports a panic, which is a defect of this program, and ends the machine.
pub fn panicked(info: &PanicInfo<'_>) -> ! {
    // Reporting may panic too, if memory has run out.
    if PANICKED.swap(true, Ordering::Relaxed) && rustix::process::getpid().is_init() {
        end(Fail::PowerOff);
    }
    logger::attach();
    log::error!("{info}; this is a defect of virtinitrd, please report it");
    // A child serves one session; the machine goes on without it.
    if !rustix::process::getpid().is_init() {
        rt::exit(EXIT_FAILURE);
    }
    end(policy())
}

/// Sleeps for ever: the end of a machine that cannot be switched off.
pub fn halt() -> ! {
    /// Time between two wake-ups, so long that they cost nothing.
    const PAUSE: Duration = Duration::from_secs(3600);
    loop {
        wait::sleep(PAUSE);
    }
}

fn report(message: fmt::Arguments<'_>) {
    log::error!("{message}");
    if let Some(Err(errno)) = devices().map(|devices| osbuild::send(devices, &compose(message))) {
        log::debug!("{NO_PORT}: {}", ErrnoName(errno));
    }
}

fn policy() -> Fail {
    let stored = ON_FAILURE.load(Ordering::Relaxed);
    let all = [Fail::PowerOff, Fail::Reboot, Fail::Panic, Fail::Shell];
    all.into_iter().find(|policy| *policy as u8 == stored).unwrap_or_default()
}

/// Ends the machine. After the boot, sync(2) runs first, for at most [`SYNC_LIMIT`]: on a
/// dead virtiofs it never returns. During the boot there is nothing to write out.
fn end(policy: Fail) -> ! {
    if watch::is_over() && !children::run_within(SYNC_LIMIT, rustix::fs::sync) {
        let seconds = SYNC_LIMIT.as_secs();
        log::error!("sync(2) takes longer than {seconds} s: the last writes may be lost");
    }
    let command = match policy {
        Fail::Reboot => RebootCommand::Restart,
        Fail::Panic => rt::exit(EXIT_FAILURE),
        Fail::PowerOff => RebootCommand::PowerOff,
        Fail::Shell => {
            payload::shell();
            RebootCommand::PowerOff
        }
    };
    if let Err(errno) = rustix::system::reboot(command) {
        log::error!("{}", sys_error(format_args!("reboot(2)"), errno, "halted"));
    }
    halt()
}
