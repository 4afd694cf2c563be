//! Orders: what a machine learns from the host after it was saved and started again.
//!
//! Interfaces: random(4), clock_settime(2), `/sys/bus/pci/rescan` (kernel doc:
//! ABI/testing/sysfs-bus-pci). The documentation of the crate `proto` describes the way.

use alloc::vec::Vec;
use core::ffi::CStr;
use core::time::Duration;

use proto::settings::Settings;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};
use rustix::time::{ClockId, clock_settime};

use crate::boot::{end, network};
use crate::report::log;
use crate::report::watch::{self, BootStep};
use crate::rt::{self, pool};
use crate::run::session::Session;
use crate::sys::error::{Context, ErrnoName, Error, Result};
use crate::sys::file;
use crate::sys::wait::timespec;

/// Environment of a `/init` that is executed only to have executed a program.
pub const REHEARSAL: &CStr = c"virtinit=rehearsal";

/// File that makes the kernel look for new PCI devices.
const RESCAN: &CStr = c"/sys/bus/pci/rescan";

/// Tells the host that the machine is ready, and waits for its orders. Returns the session, whose
/// control channel stays open, and the records.
pub fn receive(limit: Duration) -> Result<(Session, Vec<u8>)> {
    let devices =
        end::devices().ok_or_else(|| Error::new(format_args!("no ports"), "see above"))?;
    let mut session = Session::open(devices, 0, limit)?;
    watch::enter(BootStep::Wait);
    let text = session.receive_orders().context(format_args!("receive orders"))?;
    watch::enter(BootStep::Prepare);
    Ok((session, text))
}

/// Makes this machine differ from others that were saved at the same moment, and finds its devices.
///
/// # Errors
/// The kernel does not take the seed, or there is none: random numbers would repeat those of
/// another machine.
pub fn take_effect(settings: &Settings<'_>) -> Result<()> {
    mix_seed(settings.seed).context(format_args!("mix the host's seed into the random pool"))?;
    if let Some(nanoseconds) = settings.time {
        let time = timespec(Duration::from_nanos(nanoseconds));
        if let Err(errno) = clock_settime(ClockId::Realtime, time) {
            log::warn!("set the clock: {}", ErrnoName(errno));
        }
    }
    find_devices();
    Ok(())
}

/// Makes the kernel find the devices of the run. Meanwhile another processor rehearses.
fn find_devices() {
    let looking = rt::process::fork();
    if !matches!(looking, Ok(Some(_))) {
        // A kernel without PCI has no such devices.
        let _ = file::write(RESCAN, b"1");
    }
    match looking {
        Ok(None) => rt::exit(0),
        Ok(Some(child)) => {
            rehearse();
            wait_for(child);
        }
        Err(_) => {}
    }
}

/// Does what comes later anyway: it sets up the loopback interface, and executes a program. An
/// emulated processor takes most of its time to translate code that it runs for the first time.
fn rehearse() {
    network::bring_up_loopback();
    match rt::process::fork() {
        Ok(None) => {
            let _ = rt::exec(c"/init", &[c"/init"], &[REHEARSAL]);
            rt::exit(0)
        }
        Ok(Some(child)) => wait_for(child),
        Err(_) => {}
    }
}

fn wait_for(child: Pid) {
    let wait = || rustix::process::waitpid(Some(child), WaitOptions::empty());
    while wait().err() == Some(Errno::INTR) {}
}

fn mix_seed(seed: &[u8]) -> Result<(), Errno> {
    let seed = seed.try_into().map_err(|_| Errno::INVAL)?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    pool::mix(&rustix::fs::open(c"/dev/random", flags, Mode::empty())?, seed)
}
