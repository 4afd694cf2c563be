//! The console as the outside of PID 1: nobody listens but people who read it.
//!
//! Interfaces: poll(2), signalfd(2), setsid(2), tcdrain(3).

use core::convert::Infallible;
use core::time::Duration;

use proto::settings::{Command, STOP_TIMEOUT};
use proto::workload::WorkloadState;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, WaitStatus};
use rustix::system::RebootCommand;

use super::check::Check;
use super::outside::{Heard, Order, Outside};
use super::{LAST_GRACE, supervise};
use crate::root::attachments::extra_mounts::ExtraMounts;
use crate::rt;
use crate::run::orders;
use crate::run::session::Output;
use crate::run::session::stdio::ProcessSession;
use crate::run::session::user::User;
use crate::sys::children;
use crate::sys::devices::Devices;
use crate::sys::error::{Error, Result};
use crate::sys::power_button;
use crate::sys::wait::timespec;

/// The console, and the descriptors from which PID 1 learns what happens.
#[derive(Debug)]
struct Console {
    /// A signalfd(2) for SIGCHLD and for the signals of orders.
    signals: OwnedFd,
    /// The power button, if the machine has one; its press is an order, too.
    button: Option<OwnedFd>,
}

/// Runs `command` on the console until the machine is to end, unmounts `mounts`, and ends the
/// machine. The power button is one of the `devices`.
///
/// # Errors
/// The first start of the command fails, or a command before it fails.
pub fn run(
    command: &Command<'_>,
    mounts: &ExtraMounts<'_>,
    devices: Option<&Devices>,
) -> Result<Infallible> {
    let signals = orders::signals()?;
    // Without this, the kernel resets the machine on Ctrl-Alt-Del by itself. In a container
    // the call fails.
    let _ = rustix::system::reboot(RebootCommand::CadOff);
    // These fail if a shell was PID 1 before and leads its session already, or if the
    // console is no terminal.
    let _ = rustix::process::setsid();
    let _ = rustix::process::ioctl_tiocsctty(rt::stderr());
    let mut console = Console { signals, button: devices.and_then(power_button::open) };
    let (order, _) = supervise(command, &mut console, Some(STOP_TIMEOUT))
        .map_err(|failure| Error::new(format_args!("{}", &*failure.message), ""))?;
    // Output to a serial line may still be in the kernel's buffer. The wait for it never ends on
    // a stopped terminal.
    children::run_within(LAST_GRACE, || {
        let _ = rustix::termios::tcdrain(rt::stderr()); // fails if it is no terminal
    });
    mounts.sync_and_unmount();
    orders::carry_out(order)
}

impl Outside for Console {
    /// Descriptors 0 to 2 of PID 1 are the console, opened for reading and writing. The command
    /// stays in the session of PID 1, and gets the terminal if the console is one.
    fn take_streams(&self, _: &User<'_>) -> Result<ProcessSession, Errno> {
        Ok(ProcessSession::Shared)
    }

    fn poll(
        &mut self,
        check: Option<&mut Check>,
        limit: Option<Duration>,
    ) -> Result<Option<Heard>, Errno> {
        let button = self.button.as_ref();
        let output = check.as_ref().and_then(|check| check.output.as_ref());
        let mut fds = [Some(&self.signals), button, output]
            .map(|fd| PollFd::new(fd.unwrap_or(&self.signals), PollFlags::IN));
        match poll(&mut fds, limit.map(timespec).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if let Some(check) = check {
            check.read();
        }
        let is_pressed = button.is_some_and(power_button::is_pressed);
        let order = orders::take(&self.signals).or(is_pressed.then_some(RebootCommand::PowerOff));
        Ok(order.map(Order::End).map(Heard::Order))
    }

    fn tell(&mut self, _: WorkloadState) {}

    fn note_end(&mut self, _: Pid, _: WaitStatus) {}

    fn output(&mut self) -> Output {
        Output::Finished
    }
}
