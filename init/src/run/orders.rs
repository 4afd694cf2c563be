//! Orders to end the machine, which programs of the guest send to PID 1 as signals.
//!
//! Sources: busybox (`init/halt.c`, `init/init.c`), systemd(1) "Signals",
//! sysvinit's init(8), signal(7).

use core::convert::Infallible;
use core::ffi::c_int;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::system::RebootCommand;

use crate::report::log;
use crate::rt;
use crate::sys::children;
use crate::sys::error::{Context, Result};
use crate::sys::file;

/// `SIGRTMIN` of glibc, from which systemd counts. glibc uses signals 32 and 33 itself.
const RTMIN: c_int = 34;

/// Signals, and how each of them ends the machine. On `SIGRTMIN+13` and above,
/// systemd ends the machine at once; here processes get time to end first.
#[rustfmt::skip]
const ORDERS: &[(c_int, RebootCommand)] = &[
    (Signal::TERM.as_raw(),  RebootCommand::Restart),  // reboot(8) of busybox, and `kill 1`
    (Signal::INT.as_raw(),   RebootCommand::Restart),  // Ctrl-Alt-Del
    (Signal::USR1.as_raw(),  RebootCommand::Halt),     // halt(8) of busybox
    (Signal::USR2.as_raw(),  RebootCommand::PowerOff), // poweroff(8) of busybox
    (Signal::POWER.as_raw(), RebootCommand::PowerOff), // the power is about to fail
    (RTMIN + 3,              RebootCommand::Halt),
    (RTMIN + 4,              RebootCommand::PowerOff),
    (RTMIN + 5,              RebootCommand::Restart),
    (RTMIN + 13,             RebootCommand::Halt),
    (RTMIN + 14,             RebootCommand::PowerOff),
    (RTMIN + 15,             RebootCommand::Restart),
];

/// The order that `signal` means, if it means one.
#[must_use]
pub fn of_signal(signal: c_int) -> Option<RebootCommand> {
    ORDERS.iter().find(|(known, _)| *known == signal).map(|(_, order)| *order)
}

/// Makes PID 1 a supervisor: blocks all signals, and makes a signalfd(2) for SIGCHLD and for the
/// signals of orders.
#[inline(never)] // one copy instead of two
pub fn signals() -> Result<OwnedFd> {
    // The kernel never kills PID 1 of a machine, but that of a container. A root without /proc
    // has no such file.
    let _ = file::write(children::OOM_SCORE, b"-1000");
    rt::process::hold_signals();
    let is_wanted = |signal| signal == Signal::CHILD.as_raw() || of_signal(signal).is_some();
    rt::process::signals(&is_wanted).context(format_args!("make a signalfd"))
}

/// Reads all signals that are pending in `fd`, a signalfd(2); returns the first order
/// among them.
pub fn take(fd: &OwnedFd) -> Option<RebootCommand> {
    /// Size of `struct signalfd_siginfo`, whose first field is the number.
    const RECORD: usize = 128;
    let (mut record, mut first) = ([0; RECORD], None);
    while let Ok(RECORD) = rustix::io::read(fd, &mut record) {
        let number = record.first_chunk().map(|bytes| c_int::from_ne_bytes(*bytes));
        first = first.or(number.and_then(of_signal));
    }
    first
}

/// Ends the machine; returns only if that fails.
pub fn carry_out(order: RebootCommand) -> Result<Infallible> {
    if order == RebootCommand::Halt {
        log::warn!("halted, as ordered: the machine stays on until the host ends it");
    }
    Err(rustix::system::reboot(order).err().unwrap_or(Errno::IO))
        .context(format_args!("end the machine"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_has_its_order() {
        use RebootCommand::{Halt, PowerOff, Restart};
        for (signal, order) in [
            (libc::SIGTERM, Some(Restart)),
            (libc::SIGINT, Some(Restart)),
            (libc::SIGUSR1, Some(Halt)),
            (libc::SIGUSR2, Some(PowerOff)),
            (libc::SIGPWR, Some(PowerOff)),
            (libc::SIGRTMIN() + 3, Some(Halt)),
            (libc::SIGRTMIN() + 4, Some(PowerOff)),
            (libc::SIGRTMIN() + 5, Some(Restart)),
            (libc::SIGRTMIN() + 13, Some(Halt)),
            (libc::SIGRTMIN() + 14, Some(PowerOff)),
            (libc::SIGRTMIN() + 15, Some(Restart)),
            (libc::SIGHUP, None),
            (libc::SIGCHLD, None),
            (libc::SIGRTMIN() + 6, None),
            (0, None),
        ] {
            assert_eq!(of_signal(signal), order, "{signal}");
        }
    }
}
