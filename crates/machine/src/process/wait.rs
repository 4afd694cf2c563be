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

/// Whether nobody reads any more what is written to `fd`: a pipe, a socket or a terminal whose other
/// side is closed. A file always has a reader.
#[must_use]
pub fn is_reader_gone(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::empty())];
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
    poll(&mut fds, PollTimeout::ZERO) == Ok(1)
        && fds.iter().any(|fd| fd.revents().is_some_and(|events| events.intersects(gone)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_closed_reader_is_noticed() {
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(!is_reader_gone(writer.as_fd()));
        drop(reader);
        assert!(is_reader_gone(writer.as_fd()));
        let null = std::fs::File::options().write(true).open("/dev/null").unwrap();
        assert!(!is_reader_gone(null.as_fd()));
    }
}
