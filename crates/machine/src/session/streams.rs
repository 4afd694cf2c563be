//! A session's three streams, copied between our descriptors and the guest's
//! ports.
//!
//! A thread each, for what we were given as standard input and output may
//! block, and making it non-blocking would do so to everybody who shares it.
//! The main thread hears of what concerns it by a socket.

use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use files::tell;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::escape::{Escape, Typed};
use super::terminal;

/// Bytes that are moved at once.
const BUFFER: usize = 256 << 10;

/// How often a job in the background looks whether it may read the terminal.
const FOREGROUND_TICK: Duration = Duration::from_millis(200);

/// What the main thread is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// More output was delivered.
    Delivered,
    /// The person at the terminal wants the machine to end.
    Escaped,
    /// After a time in the background the terminal may be used.
    Foreground,
}

/// Where the guest's output goes, and how much of it has arrived there.
#[derive(Debug, Default)]
pub struct Delivery {
    bytes: AtomicU64,
    /// Whether there is nobody any more from whom more could come.
    ended: AtomicBool,
    /// Why no more can be written.
    broken: Mutex<Option<Errno>>,
}

impl Delivery {
    /// Bytes that are through: written, or dropped because writing failed.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Whether no more will come, and the target has reported all errors it had.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Why nothing can be written any more.
    #[must_use]
    pub fn broken(&self) -> Option<Errno> {
        self.broken.lock().ok().and_then(|broken| *broken)
    }

    fn set_broken(&self, errno: Errno) {
        if let Ok(mut broken) = self.broken.lock() {
            broken.get_or_insert(errno);
        }
    }
}

/// The streams under way.
#[derive(Debug)]
pub struct Streams {
    /// Standard output, then standard error.
    pub deliveries: [Arc<Delivery>; 2],
    events: UnixStream,
    /// Our ends of the ports of output and error.
    ports: [UnixStream; 2],
    /// Dropped once the guest has opened its end of standard input.
    unopened: Option<Sender<()>>,
    /// Dropped once a terminal is ready for what is written to it.
    hidden: Vec<Sender<()>>,
}

impl Streams {
    /// Starts to copy. `ports` are our ends of standard input, output and error;
    /// a terminal has no separate error, and shows nothing until [`Streams::show`].
    pub fn start(ports: [OwnedFd; 3], is_terminal: bool) -> Result<Self> {
        Self::start_to(ports, is_terminal, [Box::new(Own::Output), Box::new(Own::Error)])
    }

    /// As [`Streams::start`]; output and error go to `targets`.
    pub fn start_to(
        ports: [OwnedFd; 3],
        is_terminal: bool,
        targets: [Box<dyn Target>; 2],
    ) -> Result<Self> {
        let (events, wake) = UnixStream::pair().context("make a socket")?;
        events.set_nonblocking(true)?;
        let deliveries: [Arc<Delivery>; 2] = Default::default();
        let [input, output, error] = ports.map(UnixStream::from);
        let ports = [output.try_clone()?, error.try_clone()?];
        let mut hidden = Vec::new();
        for ((port, delivery), mut target) in
            [output, error].into_iter().zip(&deliveries).zip(targets)
        {
            let (delivery, wake) = (delivery.clone(), wake.try_clone()?);
            let (hide, shown) = channel();
            hidden.extend(is_terminal.then_some(hide));
            std::thread::spawn(move || {
                // It ends by an error: nothing is ever sent.
                let _ = shown.recv();
                deliver(port, &mut *target, &delivery, &wake);
                delivery.ended.store(true, Ordering::Release);
                let _ = (&wake).write(&[DELIVERED]); // as in `deliver`
            });
        }
        let (unopened, opened) = channel();
        std::thread::spawn(move || {
            feed(&input, is_terminal, &wake);
            // A port that is closed before the guest has opened it is no end of
            // file to it, but a port without a host.
            let _ = opened.recv();
            // Both directions would be a hang-up, on which QEMU drops what it
            // has not read yet. An error: QEMU is gone.
            let _ = input.shutdown(Shutdown::Write);
            // It is QEMU that closes.
            let _ = (&input).read(&mut [0]);
        });
        Ok(Self { deliveries, events, ports, unopened: Some(unopened), hidden })
    }

    /// The guest has opened its ends.
    pub fn opened(&mut self) {
        self.unopened = None;
    }

    /// Ends the deliveries, once all output has arrived.
    pub fn finish(&self) {
        for port in &self.ports {
            let _ = port.shutdown(Shutdown::Read); // an error: QEMU has closed it
        }
    }

    /// The terminal takes what is written to it as it is.
    pub fn show(&mut self) {
        self.hidden.clear();
    }

    /// Readable when there are events.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// What has happened since it was asked last.
    pub fn events(&mut self) -> Vec<Event> {
        let mut bytes = [0; 64];
        let count = self.events.read(&mut bytes).unwrap_or(0);
        let event = |&byte: &u8| match byte {
            ESCAPED => Event::Escaped,
            FOREGROUND => Event::Foreground,
            _ => Event::Delivered,
        };
        bytes[..count].iter().map(event).collect()
    }
}

const ESCAPED: u8 = b'.';
const FOREGROUND: u8 = b'f';
const DELIVERED: u8 = b'>';

/// Destination of an output stream of the guest.
pub trait Target: Send {
    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// Those of write(2).
    fn write(&mut self, bytes: &[u8]) -> Result<(), Errno>;

    /// Asks for errors that write(2) did not report; network file systems tell some of
    /// them only at close(2).
    ///
    /// # Errors
    /// Those of close(2).
    fn close(&mut self) -> Result<(), Errno>;
}

/// One of our own streams.
#[derive(Clone, Copy, Debug)]
enum Own {
    Output,
    Error,
}

impl Own {
    /// Calls `body` with the descriptor, without the locks of the standard library: a
    /// thread that is stuck here must not block the messages of others.
    fn with<T>(self, body: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match self {
            Self::Output => body(std::io::stdout().as_fd()),
            Self::Error => body(std::io::stderr().as_fd()),
        }
    }
}

impl Target for Own {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        self.with(|fd| tell::write_all(fd, bytes))
    }

    fn close(&mut self) -> Result<(), Errno> {
        // A file system flushes and reports when any descriptor of the file is
        // closed. Without a copy there is nothing to ask.
        let Ok(copy) = self.with(|fd| fd.try_clone_to_owned()) else { return Ok(()) };
        match nix::unistd::close(copy) {
            Err(Errno::EINTR) => Ok(()),
            result => result,
        }
    }
}

/// Copies `port` to `target` until the guest's end is closed, or [`Streams::finish`]
/// was called. After an error the rest is read and dropped. Bytes are counted after
/// they were written, and after an error was noted.
fn deliver(
    mut port: UnixStream,
    target: &mut dyn Target,
    delivery: &Delivery,
    mut wake: &UnixStream,
) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match port.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // QEMU is gone; whoever watches it will say so.
            Err(_) => break,
        };
        if delivery.broken().is_none()
            && let Err(errno) = target.write(&buffer[..count])
        {
            delivery.set_broken(errno);
        }
        delivery.bytes.fetch_add(count as u64, Ordering::Release);
        let _ = wake.write(&[DELIVERED]); // full of wake-ups is as good
    }
    if delivery.broken().is_none()
        && let Err(errno) = target.close()
    {
        delivery.set_broken(errno);
    }
}

/// Copies our standard input to the port, to its end.
fn feed(mut port: &UnixStream, is_terminal: bool, mut wake: &UnixStream) {
    let stdin = std::io::stdin();
    // What is piped into a command's terminal is data, whatever it looks like.
    let may_escape = is_terminal && stdin.is_terminal();
    let mut escape = Escape::default();
    let mut buffer = vec![0; BUFFER];
    loop {
        if wait_for_foreground(stdin.as_fd()) {
            let _ = wake.write(&[FOREGROUND]); // full: rare, and SIGCONT does the same
        }
        let count = match nix::unistd::read(&stdin, &mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => {
                let readable = PollFd::new(stdin.as_fd(), PollFlags::POLLIN);
                let _ = poll(&mut [readable], PollTimeout::NONE); // read will tell
                continue;
            }
            // It moved to the background just now, where SIGTTIN would have
            // stopped us, were it not blocked.
            Err(Errno::EIO) if terminal::is_background(stdin.as_fd()) => continue,
            // A closed or hung-up input is at its end.
            Err(_) => break,
        };
        let typed = match may_escape {
            true => escape.take(&buffer[..count]),
            false => Typed { bytes: buffer[..count].to_vec(), ends: false },
        };
        if typed.ends {
            let _ = wake.write(&[ESCAPED]); // nobody is left to care otherwise
        }
        if port.write_all(&typed.bytes).is_err() {
            return;
        }
    }
    let _ = port.write_all(escape.rest()); // as in the loop
}

/// A job in the background cannot read its terminal. Whether it had to wait.
fn wait_for_foreground(stdin: BorrowedFd<'_>) -> bool {
    let waits = terminal::is_background(stdin);
    while terminal::is_background(stdin) {
        std::thread::sleep(FOREGROUND_TICK);
    }
    waits
}
