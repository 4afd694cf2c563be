//! The daemons of a machine that is watched.

use std::process::ExitStatus;
use std::time::Instant;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::outcome::Outcome;
use crate::process::child::{Child, describe};
use crate::process::signals::{SignalReader, is_end};
use crate::process::wait::{self, Awaited};

/// The daemons; dropping this value kills those that still run.
#[derive(Debug)]
pub struct WatchedDaemons(pub Vec<Child>);

impl WatchedDaemons {
    /// Outcome for the first daemon that has ended with a status that `is_wanted` accepts.
    ///
    /// # Errors
    /// waitpid(2) failed.
    pub fn first(&mut self, is_wanted: fn(ExitStatus) -> bool) -> Result<Option<Outcome>> {
        for daemon in &mut self.0 {
            if let Some(status) = daemon.try_wait()?.filter(|status| is_wanted(*status)) {
                let (name, words) = (daemon.name.clone(), daemon.messages());
                return Ok(Some(Outcome::DaemonDied(name, describe(status), words)));
            }
        }
        Ok(None)
    }

    /// Waits until all of them have ended, at most until `deadline`. They end when QEMU closes
    /// their sockets. `signals` wake the wait; returns the first one that asks to end.
    ///
    /// # Errors
    /// A system call failed.
    pub fn let_end(
        &mut self,
        signals: &mut SignalReader,
        deadline: Instant,
    ) -> Result<Option<Signal>> {
        let mut found = None;
        loop {
            found = found.or(signals.take()?.into_iter().find(|signal| is_end(*signal)));
            let mut running = false;
            for daemon in &mut self.0 {
                running |= daemon.try_wait()?.is_none();
            }
            if !running || deadline <= Instant::now() {
                return Ok(found);
            }
            wait::sleep(&[Awaited::readable(signals.fd())], Some(deadline))?;
        }
    }
}
