//! A session's three streams, copied between our descriptors and the guest's
//! ports.
//!
//! A thread each, for what we were given as standard input and output may
//! block, and making it non-blocking would do so to everybody who shares it.
//! The main thread hears of what concerns it by a socket.

use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
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
    /// Bytes that are through.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Whether no more will come.
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
    /// Dropped once the guest has opened its end of standard input.
    unopened: Option<Sender<()>>,
    /// Dropped once a terminal is ready for what is written to it.
    hidden: Vec<Sender<()>>,
}

impl Streams {
    /// Starts to copy. `ports` are our ends of standard input, output and error;
    /// a terminal has no separate error, and shows nothing until [`Streams::show`].
    pub fn start(ports: [OwnedFd; 3], is_terminal: bool) -> Result<Self> {
        let (events, wake) = UnixStream::pair().context("make a socket")?;
        events.set_nonblocking(true)?;
        let deliveries: [Arc<Delivery>; 2] = Default::default();
        let [input, output, error] = ports.map(UnixStream::from);
        let mut hidden = Vec::new();
        for (port, delivery, target) in
            [(output, &deliveries[0], Target::Output), (error, &deliveries[1], Target::Error)]
        {
            let (delivery, wake) = (delivery.clone(), wake.try_clone()?);
            let (hide, shown) = channel();
            hidden.extend(is_terminal.then_some(hide));
            std::thread::spawn(move || {
                // It ends by an error: nothing is ever sent.
                let _ = shown.recv();
                deliver(port, target, &delivery, &wake);
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
            let _ = input.shutdown(std::net::Shutdown::Write);
            // It is QEMU that closes.
            let _ = (&input).read(&mut [0]);
        });
        Ok(Self { deliveries, events, unopened: Some(unopened), hidden })
    }

    /// The guest has opened its ends.
    pub fn opened(&mut self) {
        self.unopened = None;
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

/// One of our own descriptors.
#[derive(Clone, Copy, Debug)]
enum Target {
    Output,
    Error,
}

/// Copies `port` to one of our descriptors until the guest's end is closed. What
/// can no longer be written is read all the same, and dropped.
fn deliver(mut port: UnixStream, target: Target, delivery: &Delivery, mut wake: &UnixStream) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match port.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // QEMU is gone; whoever watches it will say so.
            Err(_) => return,
        };
        if delivery.broken().is_none()
            && let Err(errno) = write_all(target, &buffer[..count])
        {
            delivery.set_broken(errno);
        }
        delivery.bytes.fetch_add(count as u64, Ordering::Release);
        let _ = wake.write(&[DELIVERED]); // full of wake-ups is as good
    }
}

fn write_all(target: Target, mut bytes: &[u8]) -> Result<(), Errno> {
    let (output, error) = (std::io::stdout(), std::io::stderr());
    let fd = match target {
        Target::Output => output.as_fd(),
        Target::Error => error.as_fd(),
    };
    while !bytes.is_empty() {
        match nix::unistd::write(fd, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            // Somebody who shares it made it non-blocking.
            Err(Errno::EAGAIN) => {
                poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::NONE)?;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
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
