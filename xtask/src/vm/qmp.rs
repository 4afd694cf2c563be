//! Why a VM ended, from QEMU's machine protocol.
//!
//! Format: one JSON object a line (QEMU doc: interop/qmp-spec). QEMU sends a
//! greeting, we leave the negotiation mode, and from then on events come by
//! themselves. QEMU's own exit status is 0 for a power-off and a panic alike;
//! the SHUTDOWN event tells them apart.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use serde_json::Value;

/// Why QEMU ended the machine (`ShutdownCause`, QEMU doc: interop/qemu-qmp-ref).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// The guest powered off.
    GuestPowerOff,
    /// The guest reset: a panic, a failed boot, or reboot(8).
    GuestReset,
    /// The person at the console, or a management tool.
    Host,
    /// Anything else, in QEMU's word for it.
    Other(String),
}

/// Our end of a QMP connection.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    /// Bytes after the last whole line.
    partial: Vec<u8>,
    shutdown: Option<Shutdown>,
    open: bool,
}

impl Qmp {
    /// A connection, and the end of it that QEMU is to be handed.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (mut ours, theirs) = UnixStream::pair()?;
        ours.write_all(b"{\"execute\":\"qmp_capabilities\"}\n")?;
        ours.set_nonblocking(true)?;
        let qmp = Self { stream: ours, partial: Vec::new(), shutdown: None, open: true };
        Ok((qmp, theirs.into()))
    }

    /// What to wait for; `None` when there is nothing more to come.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.open.then(|| self.stream.as_fd())
    }

    /// Takes in what has arrived.
    pub fn read(&mut self) {
        let mut chunk = [0; 4096];
        while self.open {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.open = false,
                Ok(count) => self.take(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // QEMU is gone; its exit status will say how.
                Err(_) => self.open = false,
            }
        }
    }

    /// Why the machine ended, once it has.
    #[must_use]
    pub fn shutdown(&self) -> Option<&Shutdown> {
        self.shutdown.as_ref()
    }

    fn take(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            // The first event is the cause; later ones are its consequences.
            if self.shutdown.is_none() {
                self.shutdown = parse_shutdown(&line);
            }
        }
    }
}

/// The cause, if `line` is a SHUTDOWN event.
fn parse_shutdown(line: &[u8]) -> Option<Shutdown> {
    let message: Value = serde_json::from_slice(line).ok()?;
    if message.get("event")?.as_str()? != "SHUTDOWN" {
        return None;
    }
    let reason = message.get("data").and_then(|data| data.get("reason")?.as_str());
    Some(match reason.unwrap_or_default() {
        "guest-shutdown" => Shutdown::GuestPowerOff,
        "guest-reset" => Shutdown::GuestReset,
        "host-ui" | "host-qmp-quit" => Shutdown::Host,
        reason => Shutdown::Other(reason.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(reason: &str) -> String {
        format!(
            "{{\"timestamp\": {{\"seconds\": 1}}, \"event\": \"SHUTDOWN\", \
             \"data\": {{\"guest\": true, \"reason\": \"{reason}\"}}}}\r\n"
        )
    }

    #[test]
    fn causes_are_told_apart() {
        for (line, expected) in [
            (event("guest-shutdown"), Some(Shutdown::GuestPowerOff)),
            (event("guest-reset"), Some(Shutdown::GuestReset)),
            (event("host-signal"), Some(Shutdown::Other("host-signal".into()))),
            (event("host-qmp-quit"), Some(Shutdown::Host)),
            ("{\"event\": \"RESET\"}\n".into(), None),
            ("{\"return\": {}}\n".into(), None),
            ("no json\n".into(), None),
        ] {
            assert_eq!(parse_shutdown(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn events_arrive_in_pieces_and_the_first_counts() {
        let (mut qmp, theirs) = Qmp::pair().unwrap();
        let mut theirs = UnixStream::from(theirs);
        let text = event("guest-reset") + &event("guest-shutdown");
        for piece in text.as_bytes().chunks(7) {
            theirs.write_all(piece).unwrap();
            qmp.read();
        }
        drop(theirs);
        qmp.read();
        assert_eq!(qmp.shutdown(), Some(&Shutdown::GuestReset));
        assert!(qmp.fd().is_none());
    }
}
