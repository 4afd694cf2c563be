//! Running a plan: starting its programs, watching them, ending them all.
//!
//! Interfaces: signalfd(2), poll(2).
//!
//! Nothing is ever put into the file system: the initrd is a memfd, sockets are
//! abstract and already connected when a program gets its end. So there is
//! nothing to clean up, however we end; the programs end by [`super::child`].

use std::fs::File;
use std::os::fd::AsFd;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::child::{Child, Role, describe};
use super::handover::{FIRST_FD, Numbered, connected_listener, memory_file};
use super::plan::{Console, Plan, Wiring};
use super::qmp::{Qmp, Shutdown};
use super::userns::UserNamespace;
use super::virtiofsd::{Guard, Socket};

/// How long QEMU may take to end after SIGTERM.
const QEMU_GRACE: Duration = Duration::from_secs(2);

/// How long a daemon may take to end once QEMU is gone.
const DAEMON_GRACE: Duration = Duration::from_millis(500);

/// How a machine came to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// QEMU ended by itself.
    Ended {
        /// Its exit status, described where it is not success.
        failure: Option<String>,
        /// What QMP said.
        shutdown: Option<Shutdown>,
    },
    /// A daemon ended while the machine ran: its name, its end, its last words.
    DaemonDied(String, String, String),
    /// We were asked to stop.
    Stopped(Signal),
}

/// Runs `plan` to its end.
pub fn run(plan: &Plan, kernel: File, initrd: &[u8]) -> Result<Outcome> {
    let signals = block_signals()?;
    let _terminal = super::terminal::Saved::new();

    let mut daemons = Vec::new();
    let mut fds = Numbered::default();
    let mut wiring = Wiring {
        kernel: fds.path(kernel.into()),
        initrd: fds.path(memory_file(initrd)?),
        qmp: None,
        shares: Vec::new(),
    };
    let (virtiofsd, namespace) = plan.virtiofsd.housed()?;
    for share in &plan.shares {
        let (listener, connected) = connected_listener().context("make a socket for virtiofsd")?;
        wiring.shares.push(Socket::Fd(fds.add(connected)));
        let arguments = virtiofsd.arguments(share, &Socket::Fd(FIRST_FD));
        let guard = virtiofsd.guard(share);
        if guard == Guard::GuestOnly {
            eprintln!(
                "warning: nothing on this host keeps the guest from writing to {}: {} cannot \
                 export read-only, and mounting is not allowed here",
                share.source.display(),
                virtiofsd.program.display()
            );
        }
        daemons.push(Child::spawn(
            format!("virtiofsd for tag \"{}\"", share.tag),
            &virtiofsd.program,
            &arguments,
            vec![(listener, FIRST_FD)],
            Role::Daemon {
                read_only: (guard == Guard::Mount).then(|| share.source.clone()),
                user_namespace: namespace.as_ref().map(UserNamespace::path),
            },
        )?);
    }
    let (qmp, qemus_end) = Qmp::pair().context("make a socket for QMP")?;
    wiring.qmp = Some(fds.add(qemus_end));
    let arguments = plan.qemu_arguments(&wiring);
    let role = match plan.console {
        Console::Terminal => Role::Terminal,
        Console::Stream => Role::Piped,
    };
    let qemu = Child::spawn("QEMU".into(), &plan.qemu, &arguments, fds.into_mappings(), role)?;
    Watch { signals, qmp, qemu, daemons, deadline: None }.until_the_end()
}

/// The signals that end a program, and SIGCHLD, as a descriptor. One that our
/// caller ignores (nohup(1), a shell's background job) stays ignored. SIGTTOU is
/// held back too: a background process may then still restore the terminal.
fn block_signals() -> Result<SignalFd> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ends = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
    let ends = ends.into_iter().filter(|signal| !is_ignored(*signal, &status));
    let watched: SigSet = ends.chain([Signal::SIGCHLD]).collect();
    let mut blocked = watched;
    blocked.add(Signal::SIGTTOU);
    blocked.thread_block()?;
    Ok(SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Whether `SigIgn` of a `/proc/PID/status` has the signal (proc_pid_status(5)).
fn is_ignored(signal: Signal, status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal as i32 - 1) & 1 == 1
}

/// The running programs.
struct Watch {
    signals: SignalFd,
    qmp: Qmp,
    qemu: Child,
    daemons: Vec<Child>,
    /// When patience ends with whom we are waiting for.
    deadline: Option<Instant>,
}

impl Watch {
    fn until_the_end(mut self) -> Result<Outcome> {
        let mut outcome = None;
        let status = loop {
            self.wait()?;
            self.qmp.read();
            if let Some(signal) = self.pending_stop()? {
                outcome.get_or_insert(Outcome::Stopped(signal));
                self.stop_qemu();
            }
            if let Some(status) = self.qemu.try_wait()? {
                break status;
            }
            // At a machine's end its daemons may be quicker than QEMU.
            if self.qmp.shutdown().is_none()
                && self.qmp.fd().is_some()
                && let Some(dead) = self.dead_daemon()?
                && self.still_runs()
            {
                outcome.get_or_insert(dead);
                self.stop_qemu();
            }
            if self.is_overdue() {
                self.qemu.signal(Signal::SIGKILL);
            }
        };
        self.qmp.read();
        self.let_daemons_end()?;
        let shutdown = self.qmp.shutdown().cloned();
        if outcome.is_none() && shutdown.is_none() && !status.success() {
            // QEMU may have failed because a daemon did, which then knows why.
            outcome = self.failed_daemon()?;
        }
        Ok(outcome.unwrap_or_else(|| ended(status, shutdown)))
    }

    /// Whether QEMU has not said meanwhile that the machine ended.
    fn still_runs(&mut self) -> bool {
        self.qmp.read();
        self.qmp.shutdown().is_none() && self.qmp.fd().is_some()
    }

    fn stop_qemu(&mut self) {
        if self.deadline.is_none() {
            self.qemu.signal(Signal::SIGTERM);
            self.deadline = Some(Instant::now() + QEMU_GRACE);
        }
    }

    fn is_overdue(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Daemons end with their connection, and wait for children of their own;
    /// one that does not is killed when it is dropped.
    fn let_daemons_end(&mut self) -> Result<()> {
        self.deadline = Some(Instant::now() + DAEMON_GRACE);
        loop {
            self.pending_stop()?;
            let mut running = false;
            for daemon in &mut self.daemons {
                running |= daemon.try_wait()?.is_none();
            }
            if !running || self.is_overdue() {
                return Ok(());
            }
            self.wait()?;
        }
    }

    /// Sleeps until something happens.
    fn wait(&self) -> Result<()> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.qmp.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let timeout = match self.deadline {
            None => PollTimeout::NONE,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                // Rounded up, so that the deadline has passed afterwards.
                PollTimeout::try_from(left + Duration::from_millis(1))?
            }
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno).context("poll"),
        }
    }

    /// The first of the signals that ask us to stop.
    fn pending_stop(&mut self) -> Result<Option<Signal>> {
        let mut stop = None;
        while let Some(info) = self.signals.read_signal().context("read signals")? {
            let signal = Signal::try_from(i32::try_from(info.ssi_signo)?)?;
            if signal != Signal::SIGCHLD {
                stop.get_or_insert(signal);
            }
        }
        Ok(stop)
    }

    fn dead_daemon(&mut self) -> Result<Option<Outcome>> {
        self.first_daemon(|_| true)
    }

    fn failed_daemon(&mut self) -> Result<Option<Outcome>> {
        self.first_daemon(|status| status.code().is_some_and(|code| code != 0))
    }

    fn first_daemon(&mut self, is_it: fn(ExitStatus) -> bool) -> Result<Option<Outcome>> {
        for daemon in &mut self.daemons {
            if let Some(status) = daemon.try_wait()?.filter(|status| is_it(*status)) {
                let (name, words) = (daemon.name.clone(), daemon.messages());
                return Ok(Some(Outcome::DaemonDied(name, describe(status), words)));
            }
        }
        Ok(None)
    }
}

fn ended(status: ExitStatus, shutdown: Option<Shutdown>) -> Outcome {
    Outcome::Ended { failure: (!status.success()).then(|| describe(status)), shutdown }
}

impl Outcome {
    /// The signal, or what went wrong.
    ///
    /// # Errors
    /// Every end but a power-off by the guest or a quit at the console.
    pub fn check(self) -> Result<Option<Signal>> {
        match self {
            Outcome::Stopped(signal) => return Ok(Some(signal)),
            Outcome::DaemonDied(name, end, words) => {
                let words = if words.is_empty() { words } else { format!(": {words}") };
                bail!("{name} ended while the machine ran ({end}){words}");
            }
            Outcome::Ended { failure, shutdown } => {
                if let Some(failure) = failure {
                    bail!("QEMU failed: {failure}");
                }
                match shutdown {
                    Some(Shutdown::GuestPowerOff | Shutdown::Host) => {}
                    Some(Shutdown::GuestReset) => bail!(
                        "the guest reset instead of powering off: its kernel panicked (as it does \
                         when PID 1 exits), /init gave up, or it was rebooted; the console tells \
                         which"
                    ),
                    Some(Shutdown::Other(reason)) => {
                        bail!("QEMU ended the machine: {reason}")
                    }
                    None => bail!("QEMU ended without saying why"),
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_in_the_mask() {
        let status = "SigBlk:\t0000000000004002\nSigIgn:\t0000000000001001\n";
        assert!(is_ignored(Signal::SIGHUP, status));
        assert!(!is_ignored(Signal::SIGINT, status) && !is_ignored(Signal::SIGTERM, status));
        assert!(!is_ignored(Signal::SIGHUP, ""));
    }

    #[test]
    fn only_a_wanted_end_is_success() {
        let ended = |failure: Option<&str>, shutdown| {
            Outcome::Ended { failure: failure.map(String::from), shutdown }.check()
        };
        assert!(ended(None, Some(Shutdown::GuestPowerOff)).is_ok());
        assert!(ended(None, Some(Shutdown::Host)).is_ok());
        for (failure, shutdown, expected) in [
            (None, Some(Shutdown::GuestReset), "guest reset"),
            (None, Some(Shutdown::Other("host-signal".into())), "host-signal"),
            (None, None, "without saying why"),
            (Some("signal 9"), Some(Shutdown::GuestPowerOff), "QEMU failed: signal 9"),
        ] {
            let error = ended(failure, shutdown).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(Outcome::Stopped(Signal::SIGINT).check().unwrap(), Some(Signal::SIGINT));
        let died = Outcome::DaemonDied("virtiofsd".into(), "signal 9".into(), String::new());
        assert!(died.check().unwrap_err().to_string().ends_with("ran (signal 9)"));
    }
}
