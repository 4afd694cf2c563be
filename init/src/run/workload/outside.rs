//! What connects PID 1 with the world outside while it supervises a command: the console, or a
//! host that has its streams.

use core::time::Duration;

use proto::workload::WorkloadState;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitStatus};
use rustix::system::RebootCommand;

use super::check::Check;
use crate::run::session::Output;
use crate::run::session::stdio::ProcessSession;
use crate::run::session::user::User;

/// Something that PID 1 is to do with the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// End the machine in this way.
    End(RebootCommand),
    /// End the command by this signal, and with it the machine.
    Stop(Signal),
    /// End the command, and start it again.
    Restart,
}

/// What PID 1 hears from the world outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An order.
    Order(Order),
    /// A signal for the command.
    Signal(Signal),
}

/// A world outside.
pub trait Outside {
    /// Gives this process, which will be one of `user`, its standard streams.
    ///
    /// # Errors
    /// A system call failed.
    fn take_streams(&self, user: &User<'_>) -> Result<ProcessSession, Errno>;

    /// Waits for a signal, an order or output of `check`, at most for `limit`. Reads the output,
    /// and returns what it has heard.
    ///
    /// # Errors
    /// The outside is gone, or a system call failed.
    fn poll(
        &mut self,
        check: Option<&mut Check>,
        limit: Option<Duration>,
    ) -> Result<Option<Heard>, Errno>;

    /// Tells the state of the workload; for the first time when the first process runs.
    fn tell(&mut self, state: WorkloadState);

    /// Hears of the end of a process that is neither the command nor a check.
    fn note_end(&mut self, pid: Pid, status: WaitStatus);

    /// Whether output is on its way. No further command starts.
    fn output(&mut self) -> Output;
}
