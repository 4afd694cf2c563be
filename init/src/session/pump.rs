//! Copying one stream of a session, without ever blocking on either end.

use alloc::vec::Vec;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

/// Bytes that are moved at once: what a pipe holds.
const BUFFER: usize = 64 << 10;

/// What a terminal takes for the end of its input: Ctrl-D.
const END_OF_INPUT: u8 = 4;

/// A stream under way. Both descriptors are non-blocking.
#[derive(Debug)]
pub struct Pump {
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
    /// Whether the end of `from` is told to `to` in band.
    to_terminal: bool,
    buffer: Vec<u8>,
    /// The part of the buffer that is still to be written.
    start: usize,
    end: usize,
    total: u64,
}

impl Pump {
    /// Copies `from` to `to`.
    #[must_use]
    pub fn new(from: OwnedFd, to: OwnedFd) -> Self {
        let buffer = alloc::vec![0; BUFFER];
        let to_terminal = false;
        Self { from: Some(from), to: Some(to), to_terminal, buffer, start: 0, end: 0, total: 0 }
    }

    /// Copies `from` to the master of a terminal, whose input ends by Ctrl-D.
    #[must_use]
    pub fn to_terminal(from: OwnedFd, to: OwnedFd) -> Self {
        Self { to_terminal: true, ..Self::new(from, to) }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether nothing more will come.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.to.is_none() || (self.from.is_none() && self.start == self.end)
    }

    /// Whether bytes wait for the other side to take them.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.to.is_some() && self.start < self.end
    }

    /// Closes both ends, without a word to either.
    pub fn close(&mut self) {
        (self.from, self.to) = (None, None);
    }

    /// What to wait for.
    #[must_use]
    pub fn interest(&self) -> Option<PollFd<'_>> {
        match self.start == self.end {
            true => Some(PollFd::new(self.from.as_ref()?, PollFlags::IN)),
            false => Some(PollFd::new(self.to.as_ref()?, PollFlags::OUT)),
        }
    }

    /// Copies a buffer full, where that is possible now; `events` is what has
    /// happened.
    pub fn step(&mut self, events: PollFlags) {
        // A port or pipe that nobody will read again.
        if self.is_full() && events.intersects(PollFlags::HUP | PollFlags::ERR) {
            self.close();
        }
        if self.write() && self.read() {
            self.write();
        }
        if self.from.is_none() && self.start == self.end {
            self.to = None;
        }
    }

    /// Whether nothing is left to be written.
    fn write(&mut self) -> bool {
        while let Some(to) = self.to.as_ref().filter(|_| self.start < self.end) {
            match rustix::io::write(to, self.buffer.get(self.start..self.end).unwrap_or_default()) {
                Ok(count) => {
                    self.start += count;
                    self.total += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                Err(_) => self.close(),
            }
        }
        true
    }

    /// Whether something was read.
    fn read(&mut self) -> bool {
        let Some(from) = &self.from else { return false };
        (self.start, self.end) = (0, 0);
        match rustix::io::read(from, &mut self.buffer[..]) {
            Ok(count @ 1..) => {
                self.end = count;
                true
            }
            Err(Errno::INTR | Errno::AGAIN) => false,
            // The end; EIO is that of a terminal.
            Ok(_) | Err(_) => {
                self.from = None;
                if let Some(slot) = self.buffer.first_mut().filter(|_| self.to_terminal) {
                    *slot = END_OF_INPUT;
                    self.end = 1;
                }
                self.end > 0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap()
    }

    fn read(from: &OwnedFd) -> Vec<u8> {
        let mut bytes = alloc::vec![0; 2 * BUFFER];
        let count = rustix::io::read(from, &mut bytes[..]).unwrap();
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn bytes_and_the_end_go_through() {
        let ((from, source), (sink, to)) = (pipe(), pipe());
        let mut pump = Pump::new(from, to);
        pump.step(PollFlags::empty());
        assert!(!pump.is_done() && pump.interest().is_some());
        rustix::io::write(&source, b"hello").unwrap();
        pump.step(PollFlags::IN);
        assert_eq!((read(&sink), pump.total()), (b"hello".to_vec(), 5));
        drop(source);
        pump.step(PollFlags::HUP);
        assert!(pump.is_done() && pump.interest().is_none());
        assert_eq!(read(&sink), b"");
    }

    #[test]
    fn a_slow_reader_holds_the_bytes_back() {
        let ((from, source), (sink, to)) = (pipe(), pipe());
        let mut pump = Pump::new(from, to);
        let block = alloc::vec![7; BUFFER];
        for _ in 0..2 {
            rustix::io::write(&source, &block).unwrap();
            pump.step(PollFlags::IN);
        }
        assert!(pump.is_full() && !pump.is_done());
        drop(source);
        assert_eq!(read(&sink).len(), BUFFER);
        pump.step(PollFlags::OUT);
        assert_eq!(read(&sink).len(), BUFFER);
        assert!(pump.is_done());
        assert_eq!(pump.total(), 2 * BUFFER as u64);
    }

    #[test]
    fn a_reader_that_has_gone_ends_the_source() {
        let ((from, source), (sink, to)) = (pipe(), pipe());
        let mut pump = Pump::new(from, to);
        drop(sink);
        rustix::io::write(&source, b"x").unwrap();
        pump.step(PollFlags::IN);
        assert!(pump.is_done());
        assert_eq!(rustix::io::write(&source, b"x"), Err(Errno::PIPE));
    }

    #[test]
    fn a_terminals_input_ends_in_band() {
        let ((from, source), (sink, to)) = (pipe(), pipe());
        let mut pump = Pump::to_terminal(from, to);
        drop(source);
        pump.step(PollFlags::HUP);
        assert_eq!(read(&sink), [END_OF_INPUT]);
        assert!(pump.is_done());
    }
}
