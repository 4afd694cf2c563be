//! Orders: what a machine learns from the host after it was saved and started again.
//!
//! Interfaces: random(4), clock_settime(2), `/sys/bus/pci/rescan` (kernel doc:
//! ABI/testing/sysfs-bus-pci). The documentation of the crate `proto` describes the way.

use alloc::vec::Vec;
use core::ffi::CStr;
use core::time::Duration;

use proto::settings::Settings;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
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

/// What a machine that waited for its orders has.
#[derive(Debug)]
pub struct Received {
    /// The session, whose control channel stays open.
    pub session: Session,
    /// The records.
    pub text: Vec<u8>,
    /// The process that rehearses.
    pub rehearsal: Rehearsal,
}

/// Tells the host that the machine is ready, and waits for its orders.
pub fn receive(limit: Duration) -> Result<Received> {
    let devices =
        end::devices().ok_or_else(|| Error::new(format_args!("no ports"), "see above"))?;
    let mut session = Session::open(devices, 0, limit)?;
    let rehearsal = Rehearsal::prepare();
    watch::enter(BootStep::Wait);
    let text = session.receive_orders().context(format_args!("receive orders"))?;
    watch::enter(BootStep::Prepare);
    Ok(Received { session, text, rehearsal })
}

/// Makes this machine differ from others that were saved at the same moment, and finds its
/// devices, while `rehearsal` goes on.
///
/// # Errors
/// The kernel does not take the seed, or there is none: random numbers would repeat those of
/// another machine.
pub fn take_effect(settings: &Settings<'_>, rehearsal: &mut Rehearsal) -> Result<()> {
    rehearsal.begin();
    mix_seed(settings.seed).context(format_args!("mix the host's seed into the random pool"))?;
    if let Some(nanoseconds) = settings.time {
        let time = timespec(Duration::from_nanos(nanoseconds));
        if let Err(errno) = clock_settime(ClockId::Realtime, time) {
            log::warn!("set the clock: {}", ErrnoName(errno));
        }
    }
    // A kernel without PCI has no such devices.
    let _ = file::write(RESCAN, b"1");
    Ok(())
}

/// A process that does on another processor what PID 1 does later: it sets up the loopback
/// interface, and starts a program. An emulated processor takes most of its time to translate
/// code that runs for the first time. The process is started before the machine is saved, so
/// that PID 1 need not do that afterwards.
#[derive(Debug)]
pub struct Rehearsal {
    child: Option<Pid>,
    /// The process waits until this pipe is closed.
    pipe: Option<OwnedFd>,
}

impl Rehearsal {
    /// Starts the process, which waits.
    fn prepare() -> Self {
        let Ok((read, write)) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC) else {
            return Self { child: None, pipe: None };
        };
        match rt::process::fork() {
            Ok(None) => {
                drop(write);
                let _ = rustix::io::read(read, &mut [0]);
                network::bring_up_loopback();
                match rt::process::fork() {
                    Ok(Some(child)) => wait_for(child),
                    _ => drop(rt::exec(c"/init", &[c"/init"], &[REHEARSAL])),
                }
                rt::exit(0)
            }
            child => Self { child: child.ok().flatten(), pipe: Some(write) },
        }
    }

    /// Lets the process go on.
    fn begin(&mut self) {
        self.pipe = None;
    }

    /// Waits for the end of the process.
    pub fn wait(self) {
        if let Some(child) = self.child {
            wait_for(child);
        }
    }
}

fn wait_for(child: Pid) {
    let wait = || rustix::process::waitpid(Some(child), WaitOptions::empty());
    while wait().err() == Some(Errno::INTR) {}
}

#[inline(never)]
fn mix_seed(seed: &[u8]) -> Result<(), Errno> {
    let seed = seed.try_into().map_err(|_| Errno::INVAL)?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    pool::mix(&rustix::fs::open(c"/dev/random", flags, Mode::empty())?, seed)
}
