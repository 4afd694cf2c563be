//! The relay of a session: three threads copy between chrootvm's standard streams and the
//! ports of the guest.
//!
//! Each stream has a thread, because reading or writing it may block. Making a stream
//! non-blocking would change it for every process that shares it. The threads wake the main
//! thread through a socket.

use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use files::tell;
use nix::errno::Errno;

use super::input::{self, BUFFER, Escapes, InputEvent};

/// Event that a relay reports to the main thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// More output was written.
    Delivered,
    /// The user typed the escape sequence.
    Escaped,
    /// chrootvm has returned to the foreground of its terminal.
    Foreground,
}

/// Progress of an output stream: bytes written, and the first error.
#[derive(Debug, Default)]
pub struct Delivery {
    bytes: AtomicU64,
    /// Whether the thread that writes has ended.
    ended: AtomicBool,
    /// First error of writing.
    broken: Mutex<Option<Errno>>,
}

impl Delivery {
    /// Number of bytes that were written, or dropped after an error.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Whether no more output follows. All errors of the target are known then.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// First error of writing; `None` if there was none.
    #[must_use]
    pub fn broken(&self) -> Option<Errno> {
        self.broken.lock().ok().and_then(|broken| *broken)
    }

    /// Records an error of writing.
    pub(super) fn set_broken(&self, errno: Errno) {
        if let Ok(mut broken) = self.broken.lock() {
            broken.get_or_insert(errno);
        }
    }

    /// Records that the thread that writes has ended.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}

/// The relays of a session.
#[derive(Debug)]
pub struct Streams {
    /// Standard output, then standard error.
    pub deliveries: [Arc<Delivery>; 2],
    events: UnixStream,
    /// chrootvm's ends of the ports of output and error.
    ports: [UnixStream; 2],
    /// Dropped when the guest has opened its end of standard input.
    unopened: Option<Sender<()>>,
    /// Dropped when output may be written.
    hidden: Vec<Sender<()>>,
}

impl Streams {
    /// Starts to copy. `ports` are chrootvm's ends of standard input, output and error. Output
    /// waits for [`Streams::show`].
    ///
    /// # Errors
    /// The sockets cannot be made.
    pub fn start(ports: [OwnedFd; 3], is_terminal: bool) -> Result<Self> {
        Self::start_to(
            ports,
            is_terminal,
            [Box::new(OwnStream::Output), Box::new(OwnStream::Error)],
        )
    }

    /// Like [`Streams::start`], but output and error go to `targets`.
    ///
    /// # Errors
    /// As [`Streams::start`].
    pub fn start_to(
        ports: [OwnedFd; 3],
        is_terminal: bool,
        targets: [Box<dyn OutputTarget>; 2],
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
            hidden.push(hide);
            std::thread::spawn(move || {
                // Waits until `hidden` is dropped; nothing is ever sent.
                let _ = shown.recv();
                deliver(port, &mut *target, &delivery, &wake);
                delivery.end();
                let _ = (&wake).write(&[DELIVERED]); // as in `deliver`
            });
        }
        let (unopened, opened) = channel();
        std::thread::spawn(move || {
            let escapes = if is_terminal { Escapes::Typed } else { Escapes::Never };
            let last = input::copy(&input, escapes, &mut |event| {
                let byte = match event {
                    InputEvent::Escaped => ESCAPED,
                    InputEvent::Foreground => FOREGROUND,
                };
                // A full socket is rare; an error means that the session is over.
                let _ = (&wake).write(&[byte]);
            });
            // If the port is closed before the guest has opened it, the guest sees a port
            // without a host instead of end of file.
            let _ = opened.recv();
            if is_terminal && !std::io::stdin().is_terminal() {
                let is_within_line = last.is_some_and(|byte| byte != b'\n');
                input::type_end(&input, if is_within_line { input::END_OF_INPUT } else { b"" });
                return;
            }
            // Shutting down both directions would be a hang-up, and QEMU would drop the
            // bytes that it has not read yet. An error means that QEMU is gone.
            let _ = input.shutdown(Shutdown::Write);
            // Wait until QEMU closes its end.
            let _ = (&input).read(&mut [0]);
        });
        Ok(Self { deliveries, events, ports, unopened: Some(unopened), hidden })
    }

    /// To be called when the guest has opened its ends of the ports.
    pub fn opened(&mut self) {
        self.unopened = None;
    }

    /// Ends the relays of output and error. To be called when all output has arrived.
    pub fn finish(&self) {
        for port in &self.ports {
            let _ = port.shutdown(Shutdown::Read); // an error: QEMU has closed it
        }
    }

    /// Starts to write output. To be called when the line about the boot is erased, and the
    /// terminal of the command is raw.
    pub fn show(&mut self) {
        self.hidden.clear();
    }

    /// Descriptor that is readable if there are events.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Events since the last call.
    pub fn events(&mut self) -> Vec<StreamEvent> {
        let mut bytes = [0; 64];
        let count = self.events.read(&mut bytes).unwrap_or(0);
        let event = |&byte: &u8| match byte {
            ESCAPED => StreamEvent::Escaped,
            FOREGROUND => StreamEvent::Foreground,
            _ => StreamEvent::Delivered,
        };
        bytes[..count].iter().map(event).collect()
    }
}

/// Byte on the wake-up socket for [`StreamEvent::Escaped`].
const ESCAPED: u8 = b'.';
/// Byte on the wake-up socket for [`StreamEvent::Foreground`].
const FOREGROUND: u8 = b'f';
/// Byte on the wake-up socket for [`StreamEvent::Delivered`].
const DELIVERED: u8 = b'>';

/// Destination of an output stream of the guest.
pub trait OutputTarget: Send {
    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// write(2) failed.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Errno>;

    /// Asks for errors that write(2) did not report; network file systems report some of them
    /// only at close(2).
    ///
    /// # Errors
    /// close(2) reported an error of an earlier write.
    fn close(&mut self) -> Result<(), Errno>;
}

/// One of chrootvm's own output streams.
#[derive(Clone, Copy, Debug)]
pub enum OwnStream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

impl OwnStream {
    /// Calls `body` with the descriptor, without the standard library's lock: a thread that
    /// hangs in a write must not block the messages of other threads.
    fn with<T>(self, body: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match self {
            Self::Output => body(std::io::stdout().as_fd()),
            Self::Error => body(std::io::stderr().as_fd()),
        }
    }
}

impl OutputTarget for OwnStream {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        self.with(|fd| tell::write_all(fd, bytes))
    }

    fn close(&mut self) -> Result<(), Errno> {
        // A file system flushes and reports errors when any descriptor of the file is closed,
        // so close a copy. If there is no copy, no error can be found.
        self.with(|fd| fd.try_clone_to_owned()).map_or(Ok(()), close)
    }
}

/// Closes `file`, and returns the errors of writing that are reported only then.
pub(super) fn close(file: OwnedFd) -> Result<(), Errno> {
    match nix::unistd::close(file) {
        Err(Errno::EINTR) => Ok(()),
        result => result,
    }
}

/// Copies `port` to `target` until the guest's end is closed or [`Streams::finish`] is called.
/// After an error the rest is read and dropped. Bytes are counted after they were written,
/// and after an error was stored.
fn deliver(
    mut port: UnixStream,
    target: &mut dyn OutputTarget,
    delivery: &Delivery,
    mut wake: &UnixStream,
) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match port.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // QEMU is gone, which the main thread reports.
            Err(_) => break,
        };
        if delivery.broken().is_none()
            && let Err(errno) = target.write(&buffer[..count])
        {
            delivery.set_broken(errno);
        }
        delivery.bytes.fetch_add(count as u64, Ordering::Release);
        let _ = wake.write(&[DELIVERED]); // a full socket wakes the main thread as well
    }
    if delivery.broken().is_none()
        && let Err(errno) = target.close()
    {
        delivery.set_broken(errno);
    }
}
