//! The relay of a machine that runs INIT: two threads copy between chrootvm's standard streams
//! and the console of the guest.
//!
//! Interfaces: unix(7); termios(3) for the end of input; `-chardev mux=on` of qemu(1), which
//! handles Ctrl-A X and Ctrl-A C before the guest gets the keys.
//!
//! The bytes of the console reach a pipe or a file unchanged. On a terminal, the page of a panic
//! is held back that follows the end of PID 1 ([`PanicPage`]).

use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use files::tell;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use super::input::{self, BUFFER, Escapes, InputEvent};
use super::panic_page::{PanicPage, Pid1End};
use super::streams::{Delivery, OutputTarget, OwnStream};
use crate::process::wait::{self, Awaited};

/// Time to hold back text that may become the first line of a panic. A serial line is slower on
/// a busy host.
const LINE_LIMIT: Duration = Duration::from_millis(100);

/// Time for the guest's kernel to reset the machine after the first line of a panic. If it does
/// not, the text is no panic, or the kernel waits (`panic=`); then the text is shown.
const PAGE_LIMIT: Duration = Duration::from_secs(5);

/// Time for the end of the console's text to be written after the machine was ended.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Fate of the page of a panic that follows the end of PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageDisplay {
    /// The page is shown like any other text.
    Shown,
    /// The page is hidden if the machine resets after it.
    Hidden,
}

/// Whether the guest has reset its machine, as a kernel does after a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestReset {
    /// It has.
    Yes,
    /// The machine has ended in another way.
    No,
}

/// The relay.
#[derive(Debug)]
pub struct ConsoleRelay {
    delivery: Arc<Delivery>,
    events: UnixStream,
    /// Dropped when the guest has opened its console.
    unopened: Option<Sender<()>>,
    /// Tells the thread of the output how the machine has ended.
    verdict: Option<Sender<GuestReset>>,
    /// End of PID 1, sent when the thread of the output ends.
    result: Receiver<Option<Pid1End>>,
}

impl ConsoleRelay {
    /// Starts to copy; the second value is QEMU's end of the console. Input that is no terminal
    /// waits for [`ConsoleRelay::opened`].
    ///
    /// # Errors
    /// The sockets cannot be made.
    pub fn start(page: PageDisplay) -> Result<(Self, OwnedFd)> {
        let (port, qemus_end) = UnixStream::pair().context("make a socket for the console")?;
        let (events, wake) = UnixStream::pair().context("make a socket")?;
        events.set_nonblocking(true)?;
        let delivery = Arc::new(Delivery::default());
        let (unopened, opened) = channel();
        let (verdict, machine_end) = channel();
        let (ended, result) = channel();
        let (their_port, their_wake) = (port.try_clone()?, wake.try_clone()?);
        std::thread::spawn(move || feed(&their_port, &opened, &their_wake));
        let their_delivery = delivery.clone();
        std::thread::spawn(move || {
            let mut target = OwnStream::Output;
            let mut screen = Screen::new(&mut target, &their_delivery, &wake);
            let end = show(&port, page, &machine_end, &mut screen);
            let _ = ended.send(end); // an error means that nobody waits for it
            screen.close();
        });
        let unopened = Some(unopened);
        let relay = Self { delivery, events, unopened, verdict: Some(verdict), result };
        Ok((relay, qemus_end.into()))
    }

    /// Descriptor that is readable if there are events.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Handles events. Returns whether chrootvm has returned to the foreground of its terminal.
    pub fn take_foreground(&mut self) -> bool {
        let mut bytes = [0; 64];
        let count = std::io::Read::read(&mut self.events, &mut bytes).unwrap_or(0);
        bytes[..count].contains(&FOREGROUND)
    }

    /// Whether input waits until the guest has opened its console.
    #[must_use]
    pub fn is_unopened(&self) -> bool {
        self.unopened.is_some()
    }

    /// Lets input through. To be called when the guest has opened its console: until then, a
    /// serial port loses what it gets.
    pub fn opened(&mut self) {
        self.unopened = None;
    }

    /// Error of writing the output; a closed pipe is no error.
    #[must_use]
    pub fn broken(&self) -> Option<Errno> {
        self.delivery.broken().filter(|errno| *errno != Errno::EPIPE)
    }

    /// To be called when QEMU has ended. Returns whether all text is written.
    pub fn conclude(&mut self, reset: GuestReset) -> bool {
        if let Some(verdict) = self.verdict.take() {
            let _ = verdict.send(reset); // an error means that the thread has ended
        }
        self.delivery.has_ended()
    }

    /// End of PID 1, if the machine has ended because of it. Waits a moment for the last text.
    #[must_use]
    pub fn finish(mut self) -> Option<Pid1End> {
        self.conclude(GuestReset::No);
        self.result.recv_timeout(LAST_WAIT).ok().flatten()
    }
}

/// Byte on the socket of events if chrootvm has returned to the foreground of its terminal.
const FOREGROUND: u8 = b'f';
/// Byte on the socket of events if writing has failed or ended.
const WRITTEN: u8 = b'>';

/// Copies standard input to the console. At the end of an input that is no terminal, types
/// Ctrl-D until the machine ends, for each program in the guest that reads its terminal. An input
/// without any bytes, such as /dev/null, has no end.
fn feed(port: &UnixStream, opened: &Receiver<()>, mut wake: &UnixStream) {
    let is_terminal = std::io::stdin().is_terminal();
    if !is_terminal {
        // Waits until `unopened` is dropped; nothing is ever sent.
        let _ = opened.recv();
    }
    let last = input::copy(port, Escapes::Never, &mut |event| {
        if event == InputEvent::Foreground {
            let _ = wake.write(&[FOREGROUND]); // a full socket wakes the main thread as well
        }
    });
    let Some(last) = last.filter(|_| !is_terminal) else { return };
    // Within a line, Ctrl-D does not end the input.
    let rest: &[u8] = if matches!(last, b'\n' | b'\r') { b"" } else { b"\n" };
    input::type_end(port, rest);
}

/// Copies the console to `screen` until QEMU ends. Returns how PID 1 has ended, if that has
/// ended the machine.
fn show(
    port: &UnixStream,
    display: PageDisplay,
    machine_end: &Receiver<GuestReset>,
    screen: &mut Screen<'_>,
) -> Option<Pid1End> {
    let mut page = PanicPage::default();
    let mut deadline: Option<Instant> = None;
    let mut buffer = vec![0; BUFFER];
    loop {
        let received = recv(port.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT);
        let was_found = page.found().is_some();
        let free = match received {
            // QEMU is gone, which the main thread reports.
            Ok(0) | Err(Errno::ECONNRESET) => break,
            Ok(count) => match display {
                PageDisplay::Hidden => page.take(&buffer[..count]),
                PageDisplay::Shown => {
                    page.take(&buffer[..count]);
                    buffer[..count].to_vec()
                }
            },
            // Text that has arrived meanwhile counts, so look at the time only now.
            Err(Errno::EAGAIN) if deadline.is_some_and(|end| end <= Instant::now()) => {
                let held = page.release();
                if display == PageDisplay::Hidden { held } else { Vec::new() }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {
                if wait::sleep(&[Awaited::readable(port.as_fd())], deadline).is_err() {
                    break;
                }
                continue;
            }
            Err(_) => break,
        };
        screen.write(&free);
        deadline = match (page.holds(), page.found()) {
            (false, _) => None,
            (true, Some(_)) if was_found => deadline,
            (true, Some(_)) => Some(Instant::now() + PAGE_LIMIT),
            (true, None) => Some(Instant::now() + LINE_LIMIT),
        };
    }
    let end = page.found().filter(|_| machine_end.recv() == Ok(GuestReset::Yes));
    if display == PageDisplay::Hidden {
        match end {
            Some(_) => screen.end_line(),
            None => screen.write(&page.release()),
        }
    }
    end
}

/// Standard output, and the place in the line that was written last.
struct Screen<'a> {
    target: &'a mut dyn OutputTarget,
    delivery: &'a Delivery,
    wake: &'a UnixStream,
    is_in_line: bool,
}

impl<'a> Screen<'a> {
    fn new(target: &'a mut dyn OutputTarget, delivery: &'a Delivery, wake: &'a UnixStream) -> Self {
        Self { target, delivery, wake, is_in_line: false }
    }

    /// Writes `bytes`. After an error, all bytes are dropped.
    fn write(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        self.is_in_line = *last != b'\n';
        // The text would begin behind the line about the boot.
        tell::end_status();
        if self.delivery.broken().is_none()
            && let Err(errno) = self.target.write(bytes)
        {
            self.fail(errno);
        }
    }

    /// Ends the line, so that messages follow at the start of a line.
    fn end_line(&mut self) {
        if self.is_in_line {
            self.write(b"\r\n");
        }
    }

    fn close(self) {
        if self.delivery.broken().is_none()
            && let Err(errno) = self.target.close()
        {
            self.delivery.set_broken(errno);
        }
        self.delivery.end();
        self.notify();
    }

    fn fail(&self, errno: Errno) {
        self.delivery.set_broken(errno);
        self.notify();
    }

    fn notify(&self) {
        let mut wake = self.wake;
        let _ = wake.write(&[WRITTEN]); // a full socket wakes the main thread as well
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "[ 1.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000300\r\n";

    /// Target that passes all bytes on, and may report an error.
    struct Passed(Sender<Vec<u8>>, Option<Errno>);

    impl OutputTarget for Passed {
        fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
            self.0.send(bytes.to_vec()).unwrap();
            self.1.map_or(Ok(()), Err)
        }

        fn close(&mut self) -> Result<(), Errno> {
            Ok(())
        }
    }

    /// Text that is shown, and the end of PID 1, of a console with `text`.
    fn shown(text: &str, display: PageDisplay, reset: GuestReset) -> (String, Option<Pid1End>) {
        let (port, mut qemus_end) = UnixStream::pair().unwrap();
        let (_events, wake) = UnixStream::pair().unwrap();
        let (verdict, machine_end) = channel();
        verdict.send(reset).unwrap();
        qemus_end.write_all(text.as_bytes()).unwrap();
        drop(qemus_end);
        let (written, bytes) = channel();
        let (mut target, delivery) = (Passed(written, None), Delivery::default());
        let mut screen = Screen::new(&mut target, &delivery, &wake);
        let end = show(&port, display, &machine_end, &mut screen);
        screen.close();
        assert!(delivery.has_ended() && delivery.broken().is_none());
        drop(target);
        (String::from_utf8(bytes.iter().flatten().collect()).unwrap(), end)
    }

    #[test]
    fn only_the_page_of_a_reset_is_hidden() {
        use PageDisplay::{Hidden, Shown};
        let end = Some(Pid1End::Exited(3));
        let page = format!("# {LINE}CPU: 0\r\n");
        let start = "text\n[ 1.0] Kernel pan".to_owned();
        for (name, text, display, reset, expected, pid_1) in [
            ("reset", &page, Hidden, GuestReset::Yes, "# \r\n", end),
            ("power-off", &page, Hidden, GuestReset::No, &*page, None),
            ("unchanged", &page, Shown, GuestReset::Yes, &*page, end),
            ("unchanged power-off", &page, Shown, GuestReset::No, &*page, None),
            ("start of a line", &start, Hidden, GuestReset::Yes, &*start, None),
        ] {
            assert_eq!(shown(text, display, reset), (expected.to_owned(), pid_1), "{name}");
        }
    }

    #[test]
    fn text_that_looks_like_a_panic_is_shown_after_a_while() {
        let (port, mut qemus_end) = UnixStream::pair().unwrap();
        let (_events, wake) = UnixStream::pair().unwrap();
        let (_verdict, machine_end) = channel();
        let (written, bytes) = channel();
        let thread = std::thread::spawn(move || {
            let (mut target, delivery) = (Passed(written, None), Delivery::default());
            let mut screen = Screen::new(&mut target, &delivery, &wake);
            show(&port, PageDisplay::Hidden, &machine_end, &mut screen)
        });
        for part in ["[ 1", LINE] {
            qemus_end.write_all(part.as_bytes()).unwrap();
            // Without the release, this would wait for ever.
            assert_eq!(bytes.recv_timeout(Duration::from_secs(60)).unwrap(), part.as_bytes());
        }
        drop(qemus_end);
        assert_eq!(thread.join().unwrap(), None);
    }

    #[test]
    fn an_error_of_writing_is_kept() {
        let (_events, wake) = UnixStream::pair().unwrap();
        let (written, bytes) = channel();
        let (mut target, delivery) = (Passed(written, Some(Errno::ENOSPC)), Delivery::default());
        let mut screen = Screen::new(&mut target, &delivery, &wake);
        screen.write(b"a");
        screen.write(b"b");
        screen.close();
        drop(target);
        let written: Vec<u8> = bytes.iter().flatten().collect();
        assert_eq!((&*written, delivery.broken()), (&b"a"[..], Some(Errno::ENOSPC)));
    }
}
