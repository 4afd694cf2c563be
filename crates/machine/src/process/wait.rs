//! Waiting for descriptors, with a deadline.
//!
//! Interface: poll(2).

use std::os::fd::BorrowedFd;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A descriptor to wait for.
#[derive(Clone, Copy, Debug)]
pub struct Awaited<'a> {
    fd: BorrowedFd<'a>,
    events: PollFlags,
}

impl<'a> Awaited<'a> {
    /// Waits until `fd` is readable.
    #[must_use]
    pub fn readable(fd: BorrowedFd<'a>) -> Self {
        Self { fd, events: PollFlags::POLLIN }
    }

    /// Waits until `fd` is readable or writable.
    #[must_use]
    pub fn readable_or_writable(fd: BorrowedFd<'a>) -> Self {
        Self { fd, events: PollFlags::POLLIN | PollFlags::POLLOUT }
    }
}

/// Sleeps until one of `fds` is ready, the deadline has passed, or a signal handler ran.
/// The caller finds out which.
///
/// # Errors
/// poll(2) failed.
pub fn sleep(fds: &[Awaited<'_>], deadline: Option<Instant>) -> Result<()> {
    let mut fds: Vec<_> =
        fds.iter().map(|awaited| PollFd::new(awaited.fd, awaited.events)).collect();
    let timeout = match deadline {
        None => PollTimeout::NONE,
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            // Round up, so that the deadline has passed after the sleep.
            let millis = left.as_millis().saturating_add(1).min(i32::MAX as u128);
            PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
        }
    };
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno).context("poll"),
    }
}
