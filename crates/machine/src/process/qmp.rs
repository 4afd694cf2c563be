//! Why a VM ended, from QEMU's machine protocol.
//!
//! Format: one JSON object a line (QEMU doc: interop/qmp-spec). QEMU sends a
//! greeting, we leave the negotiation mode, and from then on events come by
//! themselves. QEMU's own exit status is 0 for a power-off and a panic alike;
//! the SHUTDOWN event tells them apart.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::running::{registry, watch};

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
    /// Number of the last command that was sent.
    last: u64,
    /// The answer to that command, once it is there.
    answer: Option<Result<Value, String>>,
    /// Devices that the guest has opened and nobody has asked for yet.
    opened: Vec<String>,
}

/// Most reads of 4 KiB in one call: a guest that opens and closes ports without end
/// must not keep chrootvm from everything else. Together they are more than a socket
/// holds, so one call reads all that QEMU left at its end.
const READS: usize = 256;

/// Bytes of the longest line that is read; QEMU sends no line of this length.
const LINE_MAX: usize = 1 << 20;

/// How long QEMU may take to answer a command.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

impl Qmp {
    /// A connection, and the end of it that QEMU is to be handed.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (mut ours, theirs) = UnixStream::pair()?;
        ours.write_all(b"{\"execute\":\"qmp_capabilities\"}\n")?;
        ours.set_nonblocking(true)?;
        let (partial, opened, answer) = (Vec::new(), Vec::new(), None);
        let (shutdown, open, last) = (None, true, 0);
        let qmp = Self { stream: ours, partial, shutdown, open, last, answer, opened };
        Ok((qmp, theirs.into()))
    }

    /// Executes a command, handing over `fd` with it, and waits for its answer.
    ///
    /// # Errors
    /// What QEMU has against it.
    pub fn execute(&mut self, command: &str, arguments: &Value, fd: Option<OwnedFd>) -> Result<()> {
        self.tell(command, arguments, fd)?;
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            self.read();
            if let Some(answer) = self.answer.take() {
                return match answer {
                    Ok(_) => Ok(()),
                    Err(why) => Err(anyhow!("QEMU refuses {command}: {why}")),
                };
            }
            ensure!(self.open, "QEMU ended before it answered {command}");
            ensure!(Instant::now() < deadline, "QEMU does not answer {command}");
            watch::sleep(&[(self.stream.as_fd(), false)], Some(deadline))?;
        }
    }

    /// As [`Qmp::execute`], whatever the answer.
    pub fn tell(&mut self, command: &str, arguments: &Value, fd: Option<OwnedFd>) -> Result<()> {
        self.last += 1;
        self.answer = None;
        let line = json!({ "execute": command, "arguments": arguments, "id": self.last });
        let fds: Vec<OwnedFd> = fd.into_iter().collect();
        registry::send(&self.stream, format!("{line}\n").as_bytes(), &fds)
            .with_context(|| format!("ask QEMU for {command}"))
    }

    /// Resets the machine, whose own resets end it (`-no-reboot`) afterwards as before.
    ///
    /// # Errors
    /// QEMU has ended, or is older than 6.0.
    pub fn reset(&mut self) -> Result<()> {
        self.execute("set-action", &json!({ "reboot": "reset" }), None)?;
        self.tell("system_reset", &json!({}), None)?;
        self.tell("set-action", &json!({ "reboot": "shutdown" }), None)
    }

    /// The ports that the guest has opened since it was asked last, by their ids.
    pub fn take_opened(&mut self) -> Vec<String> {
        std::mem::take(&mut self.opened)
    }

    /// The text that the last command returned, if it is there.
    pub fn take_text(&mut self) -> Option<String> {
        match self.answer.take()? {
            Ok(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// What to wait for; `None` when there is nothing more to come.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.open.then(|| self.stream.as_fd())
    }

    /// Takes in what has arrived.
    pub fn read(&mut self) {
        let mut chunk = [0; 4096];
        for _ in 0..READS {
            if !self.open {
                break;
            }
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
            match parse_answer(&line) {
                Some((id, answer)) if id == self.last => self.answer = Some(answer),
                _ => self.note_opened(parse_opened(&line)),
            }
        }
        if self.partial.len() > LINE_MAX {
            self.partial.clear();
        }
    }

    /// Notes an opened port once: a guest may open it any number of times, but the host
    /// chooses the ids.
    fn note_opened(&mut self, id: Option<String>) {
        self.opened.extend(id.filter(|id| !self.opened.contains(id)));
    }
}

/// The number of a command and its answer, if `line` is one.
fn parse_answer(line: &[u8]) -> Option<(u64, Result<Value, String>)> {
    let mut message: Value = serde_json::from_slice(line).ok()?;
    let id = message.get("id")?.as_u64()?;
    let refusal = message.get("error").map(|error| {
        let words = error.get("desc").and_then(Value::as_str);
        words.unwrap_or("it does not say why").to_owned()
    });
    let returned = message.get_mut("return").map(Value::take).unwrap_or_default();
    Some((id, refusal.map_or(Ok(returned), Err)))
}

/// The id of a port, if `line` says that the guest has opened it
/// (`VSERPORT_CHANGE`, QEMU doc: interop/qemu-qmp-ref).
fn parse_opened(line: &[u8]) -> Option<String> {
    let message: Value = serde_json::from_slice(line).ok()?;
    let data = message.get("data").filter(|_| message["event"] == "VSERPORT_CHANGE")?;
    let id = data.get("id").filter(|_| data["open"] == true)?;
    id.as_str().map(str::to_owned)
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
    fn a_command_waits_for_its_own_answer() {
        let (mut qmp, theirs) = Qmp::pair().unwrap();
        let mut theirs = UnixStream::from(theirs);
        theirs.write_all(b"{\"return\": {}}\n{\"return\": {}, \"id\": 1}\n").unwrap();
        assert!(qmp.execute("getfd", &json!({}), None).is_ok());
        let refusal = "{\"error\": {\"class\": \"x\", \"desc\": \"no such bus\"}, \"id\": 3}\n";
        qmp.tell("chardev-remove", &json!({}), None).unwrap();
        theirs.write_all(b"{\"return\": {}, \"id\": 2}\n").unwrap();
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            theirs.write_all(refusal.as_bytes()).unwrap();
            theirs
        });
        let error = qmp.execute("device_add", &json!({}), None).unwrap_err().to_string();
        assert_eq!(error, "QEMU refuses device_add: no such bus");
        let theirs = late.join().unwrap();
        drop(theirs);
        assert!(qmp.execute("getfd", &json!({}), None).is_err());
    }

    #[test]
    fn opened_ports_are_told_by_their_ids() {
        let event = |open| {
            format!(
                "{{\"event\": \"VSERPORT_CHANGE\", \"data\": {{\"open\": {open}, \"id\": \"p\"}}}}"
            )
        };
        assert_eq!(parse_opened(event(true).as_bytes()), Some("p".into()));
        assert_eq!(parse_opened(event(false).as_bytes()), None);
        assert_eq!(parse_opened(b"{\"event\": \"RESET\"}"), None);
    }

    #[test]
    fn what_a_guest_repeats_is_kept_once() {
        let (mut qmp, theirs) = Qmp::pair().unwrap();
        let mut theirs = UnixStream::from(theirs);
        let opened = |id: &str| {
            let data = format!("{{\"open\": true, \"id\": \"{id}\"}}");
            format!("{{\"event\": \"VSERPORT_CHANGE\", \"data\": {data}}}\n")
        };
        for _ in 0..500 {
            theirs.write_all((opened("a") + &opened("b")).as_bytes()).unwrap();
            qmp.read();
        }
        assert_eq!(qmp.take_opened(), ["a", "b"]);
        let flood = vec![b'x'; 64 << 10];
        for _ in 0..40 {
            theirs.write_all(&flood).unwrap();
            qmp.read();
            assert!(qmp.partial.len() <= LINE_MAX);
        }
        theirs.write_all(format!("\n{}", opened("c")).as_bytes()).unwrap();
        qmp.read();
        assert_eq!(qmp.take_opened(), ["c"]);
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
