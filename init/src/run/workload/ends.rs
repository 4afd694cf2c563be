//! The end of a command, and that of all processes.
//!
//! Interfaces: signal(7), kill(2).

use rustix::io::Errno;
use rustix::process::Signal;
use rustix::system::RebootCommand;

use proto::workload::Phase;

use super::outside::Order;
use super::{LAST_GRACE, Supervisor};
use crate::rt;
use crate::rt::process::{time_until, uptime_after};
use crate::run::session::Output;
use crate::sys::children;
use crate::sys::wait::{self, Pauses};

impl Supervisor<'_> {
    /// The signal that asks the command to end, if it has one of its own.
    pub(super) fn stop_signal(&self) -> Option<Signal> {
        self.command.stop_signal.and_then(rt::process::signal)
    }

    /// Ends the child as `order` says. Returns how the machine ends, if it does. An order to end
    /// the machine ends the command first if it has a stop signal: the other processes may still
    /// be needed, because databases write out what they hold.
    pub(super) fn obey(&mut self, order: Order) -> Result<Option<RebootCommand>, Errno> {
        let own = self.stop_signal();
        let (signal, end) = match order {
            Order::End(end) => (own, Some(end)),
            Order::Stop(signal) => (Some(signal), Some(RebootCommand::PowerOff)),
            Order::Restart => (own.or(Some(Signal::TERM)), None),
        };
        if let Some(signal) = signal {
            self.end_command(signal)?;
        }
        Ok(end)
    }

    /// Sends `signal` to the command and waits for its end; kills all processes if it does not
    /// end in time.
    pub(super) fn end_command(&mut self, signal: Signal) -> Result<(), Errno> {
        self.check = None;
        self.tell(Phase::Stopping, None);
        self.signal(signal);
        self.signal(Signal::CONT);
        for limit in [self.state.stop_timeout, LAST_GRACE] {
            let deadline = uptime_after(limit);
            while self.child.is_some() && !time_until(deadline).is_zero() {
                self.reap();
                if self.child.is_some() {
                    self.poll(Some(time_until(deadline)))?;
                }
            }
            if self.child.is_none() {
                break;
            }
            children::signal_all(Signal::KILL);
        }
        self.child = None;
        Ok(())
    }

    /// Ends the command after its outside has gone.
    pub(super) fn hang_up(&mut self) {
        for signal in [Signal::HUP, Signal::KILL] {
            self.signal(signal);
            self.signal(Signal::CONT);
            for pause in Pauses::within(LAST_GRACE) {
                self.reap();
                if self.child.is_none() {
                    return;
                }
                wait::sleep(pause);
            }
        }
    }

    /// Ends all processes but PID 1, and lets the rest of their output out.
    pub(super) fn end_processes(&mut self) -> Result<(), Errno> {
        self.tell(Phase::Stopping, None);
        for (signal, grace) in [(Signal::TERM, self.state.stop_timeout), (Signal::KILL, LAST_GRACE)]
        {
            children::signal_all(signal);
            let deadline = uptime_after(grace);
            loop {
                let any_left = self.reap();
                let output = self.outside.output();
                if !any_left && output == Output::Finished {
                    return Ok(());
                }
                let left = time_until(deadline);
                // Wait for a host that reads slowly, but not for a process that does not end.
                if left.is_zero() && (signal == Signal::TERM || output != Output::Waiting) {
                    break;
                }
                self.poll((!left.is_zero()).then_some(left))?;
            }
        }
        Ok(())
    }
}
