//! The descriptors from which PID 1 learns what happens.
//!
//! Interfaces: poll(2), signalfd(2).

use core::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::system::RebootCommand;

use super::check::Check;
use crate::rt;
use crate::run::orders;
use crate::sys::devices::Devices;
use crate::sys::error::{Context, Result};
use crate::sys::power_button;
use crate::sys::wait::timespec;

/// The descriptors.
#[derive(Debug)]
pub(super) struct Signals {
    /// A signalfd(2) for SIGCHLD and for the signals of orders.
    fd: OwnedFd,
    /// The power button, if the machine has one; its press is an order, too.
    button: Option<OwnedFd>,
}

impl Signals {
    /// Opens the descriptors. The power button is one of the `devices`.
    pub(super) fn open(devices: Option<&Devices>) -> Result<Self> {
        let is_wanted =
            |signal| signal == Signal::CHILD.as_raw() || orders::of_signal(signal).is_some();
        let fd = rt::process::signals(&is_wanted).context(format_args!("make a signalfd"))?;
        Ok(Self { fd, button: devices.and_then(power_button::open) })
    }

    /// Waits for a signal, the button or output of `check`, at most for `limit`. Reads the
    /// output, and returns an order.
    pub(super) fn poll(
        &self,
        check: Option<&mut Check>,
        limit: Option<Duration>,
    ) -> Result<Option<RebootCommand>> {
        let button = self.button.as_ref();
        let output = check.as_ref().and_then(|check| check.output.as_ref());
        let mut fds = [Some(&self.fd), button, output]
            .map(|fd| PollFd::new(fd.unwrap_or(&self.fd), PollFlags::IN));
        match poll(&mut fds, limit.map(timespec).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context(format_args!("wait for signals")),
        }
        if let Some(check) = check {
            check.read();
        }
        let is_pressed = button.is_some_and(power_button::is_pressed);
        Ok(orders::take(&self.fd).or(is_pressed.then_some(RebootCommand::PowerOff)))
    }
}
