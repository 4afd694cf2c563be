//! Ending machines early: if one stage of a build fails, those that run beside it are of no use.

use std::process::ChildStdin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use anyhow::{Result, ensure};

/// The standard input of a machine, whose end ends the machine.
pub(in crate::image_command::recipe) type Hold = Mutex<Option<ChildStdin>>;

/// All machines of a build.
#[derive(Debug, Default)]
pub(in crate::image_command::recipe) struct Halt {
    is_halted: AtomicBool,
    holds: Mutex<Vec<Weak<Hold>>>,
    terminal: Mutex<()>,
}

impl Halt {
    /// Adds a machine.
    pub(in crate::image_command::recipe) fn add(&self, hold: &Arc<Hold>) {
        lock(&self.holds).push(Arc::downgrade(hold));
        if self.is_halted.load(Ordering::SeqCst) {
            self.halt();
        }
    }

    /// Ends all machines.
    pub(in crate::image_command::recipe) fn halt(&self) {
        self.is_halted.store(true, Ordering::SeqCst);
        for hold in lock(&self.holds).iter().filter_map(Weak::upgrade) {
            drop(lock(&hold).take());
        }
    }

    /// Waits for the terminal. It is free again when the result is dropped.
    pub(in crate::image_command::recipe) fn turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.terminal)
    }

    /// Fails once [`Self::halt`] was called.
    ///
    /// # Errors
    /// Another stage has failed.
    pub(in crate::image_command::recipe) fn check(&self) -> Result<()> {
        ensure!(!self.is_halted.load(Ordering::SeqCst), "another stage has failed");
        Ok(())
    }
}

/// Locks a value. A thread that panicked while it held the lock leaves it whole.
pub(in crate::image_command::recipe) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_end_whenever_they_are_added() {
        let start = || {
            let child =
                std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn();
            let mut child = child.unwrap();
            (Arc::new(Mutex::new(child.stdin.take())), child)
        };
        let halt = Halt::default();
        let (hold, mut before) = start();
        halt.add(&hold);
        assert!(halt.check().is_ok());
        halt.halt();
        assert!(before.wait().unwrap().success());
        assert!(halt.check().is_err());
        let (hold, mut after) = start();
        halt.add(&hold);
        assert!(after.wait().unwrap().success());
    }
}
