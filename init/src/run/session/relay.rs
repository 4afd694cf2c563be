//! Relays: copying one stream of a session without blocking on either end.
//!
//! Interfaces: read(2), write(2), splice(2).

use alloc::vec::Vec;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

/// Bytes that are copied at once; a pipe holds as many by default.
const BUFFER: usize = 64 << 10;

/// Capacity in bytes of the command's output pipes. It is larger than the default, so that
/// the command waits less often, but not much: a port queues up to 128 full pipes in the
/// guest's memory if the host reads slowly.
pub const PIPE_CAPACITY: usize = 128 << 10;

/// Bytes that are spliced at once, more than any pipe holds. The driver sends as many pages
/// as the pipe has; those beyond a smaller number would be uninitialised
/// (`port_fops_splice_write()`, drivers/char/virtio_console.c).
const ALL: usize = 1 << 30;

/// Ctrl-D, which a terminal takes as the end of its input.
const END_OF_INPUT: u8 = 4;

/// Method of copying bytes from one end to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CopyMethod {
    /// Through a buffer.
    Copy,
    /// Through a buffer, to a terminal; the end of the stream becomes Ctrl-D.
    CopyToTerminal,
    /// By splice(2) from a pipe to a port, which takes the pages of the pipe as they are.
    /// `blocked`: the port took none.
    Splice { blocked: bool },
}

/// One stream. Both descriptors are non-blocking.
#[derive(Debug)]
pub struct Relay {
    from: Option<OwnedFd>,
    to: Option<OwnedFd>,
    method: CopyMethod,
    buffer: Vec<u8>,
    /// Start and end of the part of the buffer that is still to be written.
    start: usize,
    end: usize,
    total: u64,
    lost: bool,
}

impl Relay {
    /// A relay that copies `from` to `to`.
    #[must_use]
    pub fn new(from: OwnedFd, to: OwnedFd) -> Self {
        Self::by(CopyMethod::Copy, from, to)
    }

    /// A relay that splices the pipe `from` to the port `to`.
    #[must_use]
    pub fn splice(from: OwnedFd, to: OwnedFd) -> Self {
        Self::by(CopyMethod::Splice { blocked: false }, from, to)
    }

    /// A relay that copies `from` to the master of a terminal.
    #[must_use]
    pub fn to_terminal(from: OwnedFd, to: OwnedFd) -> Self {
        Self::by(CopyMethod::CopyToTerminal, from, to)
    }

    fn by(method: CopyMethod, from: OwnedFd, to: OwnedFd) -> Self {
        let buffer = match method {
            CopyMethod::Splice { .. } => Vec::new(),
            CopyMethod::Copy | CopyMethod::CopyToTerminal => alloc::vec![0; BUFFER],
        };
        let (from, to) = (Some(from), Some(to));
        Self { from, to, method, buffer, start: 0, end: 0, total: 0, lost: false }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether bytes were lost because the machine had no memory.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.lost
    }

    /// Whether the stream is at its end, and all bytes were written.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.to.is_none() || (self.from.is_none() && self.start == self.end)
    }

    /// Whether bytes wait until the other side takes them.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let is_full = self.start < self.end || self.method == CopyMethod::Splice { blocked: true };
        self.to.is_some() && is_full
    }

    /// Closes both ends.
    pub fn close(&mut self) {
        (self.from, self.to) = (None, None);
    }

    /// The event to wait for.
    #[must_use]
    pub fn interest(&self) -> Option<PollFd<'_>> {
        match self.is_full() {
            false => Some(PollFd::new(self.from.as_ref()?, PollFlags::IN)),
            true => Some(PollFd::new(self.to.as_ref()?, PollFlags::OUT)),
        }
    }

    /// Copies up to one buffer, if possible without blocking. `events` are the events of
    /// [`Relay::interest`].
    pub fn step(&mut self, events: PollFlags) {
        // Nobody will read the port or pipe again.
        if self.is_full() && events.intersects(PollFlags::HUP | PollFlags::ERR) {
            self.close();
        }
        if let CopyMethod::Splice { blocked } = self.method {
            self.move_pages(blocked, events);
        } else if self.write() && self.read() {
            self.write();
        }
        if self.from.is_none() && self.start == self.end {
            self.to = None;
        }
    }

    /// Splices once. On an empty pipe, splice(2) returns 0 or EAGAIN, whether the pipe is at
    /// its end or not; only the events of poll(2) tell the two apart.
    fn move_pages(&mut self, was_blocked: bool, events: PollFlags) {
        let (Some(from), Some(to)) = (&self.from, &self.to) else { return };
        let spliced = rustix::pipe::splice(from, None, to, None, ALL, SpliceFlags::NONBLOCK);
        let was_ready = events.contains(if was_blocked { PollFlags::OUT } else { PollFlags::IN });
        let blocked = spliced == Err(Errno::AGAIN) && was_blocked != was_ready;
        self.method = CopyMethod::Splice { blocked };
        match spliced {
            Ok(count @ 1..) => self.total += count as u64,
            // The driver had no memory for its list of pages, and has dropped them.
            Ok(_) if !was_blocked && was_ready => self.lost = true,
            Ok(_) if !was_blocked && events.contains(PollFlags::HUP) => self.from = None,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::NOMEM) => {}
            Err(_) => self.close(),
        }
    }

    /// Writes the buffer; returns whether nothing is left.
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

    /// Reads into the buffer; returns whether there is something to write.
    fn read(&mut self) -> bool {
        let Some(from) = &self.from else { return false };
        let last = self.buffer.get(..self.end).and_then(<[u8]>::last).copied();
        (self.start, self.end) = (0, 0);
        match rustix::io::read(from, &mut self.buffer[..]) {
            Ok(count @ 1..) => {
                self.end = count;
                true
            }
            Err(Errno::INTR | Errno::AGAIN) => false,
            // The end of the stream. A terminal reports it as EIO.
            Ok(_) | Err(_) => {
                self.from = None;
                if self.method == CopyMethod::CopyToTerminal {
                    // Within a line, the first Ctrl-D only ends the line.
                    let keys = if last.is_none_or(|byte| byte == b'\n') { 1 } else { 2 };
                    self.buffer.iter_mut().take(keys).for_each(|slot| *slot = END_OF_INPUT);
                    self.end = keys;
                }
                self.end > 0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
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
        let mut relay = Relay::new(from, to);
        relay.step(PollFlags::empty());
        assert!(!relay.is_done() && relay.interest().is_some());
        rustix::io::write(&source, b"hello").unwrap();
        relay.step(PollFlags::IN);
        assert_eq!((read(&sink), relay.total()), (b"hello".to_vec(), 5));
        drop(source);
        relay.step(PollFlags::HUP);
        assert!(relay.is_done() && relay.interest().is_none());
        assert_eq!(read(&sink), b"");
    }

    #[test]
    fn a_slow_reader_holds_the_bytes_back() {
        let ((from, source), (sink, to)) = (pipe(), pipe());
        let mut relay = Relay::new(from, to);
        let block = alloc::vec![7; BUFFER];
        for _ in 0..2 {
            rustix::io::write(&source, &block).unwrap();
            relay.step(PollFlags::IN);
        }
        assert!(relay.is_full() && !relay.is_done());
        drop(source);
        assert_eq!(read(&sink).len(), BUFFER);
        relay.step(PollFlags::OUT);
        assert_eq!(read(&sink).len(), BUFFER);
        assert!(relay.is_done());
        assert_eq!(relay.total(), 2 * BUFFER as u64);
    }

    /// One step with the events of poll(2), as in a session.
    fn run(relay: &mut Relay) {
        let Some(fd) = relay.interest() else { return };
        let mut fds = [fd];
        rustix::event::poll(&mut fds, None).unwrap();
        let events = fds[0].revents();
        relay.step(events);
    }

    #[test]
    fn pages_and_the_end_are_spliced() {
        let (from, source) = pipe();
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let (to, sink) = pair.unwrap();
        let mut relay = Relay::splice(from, to);
        rustix::io::write(&source, b"hello").unwrap();
        run(&mut relay);
        assert_eq!(read(&sink), b"hello");
        let block = alloc::vec![7; BUFFER];
        let mut written = 0;
        while !relay.is_full() {
            written += rustix::io::write(&source, &block).unwrap();
            run(&mut relay);
        }
        drop(source);
        while written > 0 {
            written -= read(&sink).len();
            relay.step(PollFlags::OUT);
        }
        run(&mut relay);
        assert!(relay.is_done());
        assert_eq!(read(&sink), b"");
    }

    #[test]
    fn a_reader_that_has_gone_ends_the_source() {
        let ((from, source), (sink, to)) = (pipe(), pipe());
        let mut relay = Relay::new(from, to);
        drop(sink);
        rustix::io::write(&source, b"x").unwrap();
        relay.step(PollFlags::IN);
        assert!(relay.is_done());
        assert_eq!(rustix::io::write(&source, b"x"), Err(Errno::PIPE));
    }

    #[test]
    fn a_terminals_input_ends_in_band() {
        for (typed, arrives) in
            [(&b""[..], &b"\x04"[..]), (b"a\n", b"a\n\x04"), (b"a", b"a\x04\x04")]
        {
            let ((from, source), (sink, to)) = (pipe(), pipe());
            let mut relay = Relay::to_terminal(from, to);
            rustix::io::write(&source, typed).unwrap();
            drop(source);
            while !relay.is_done() {
                relay.step(PollFlags::HUP);
            }
            assert_eq!(read(&sink), arrives);
        }
    }
}
