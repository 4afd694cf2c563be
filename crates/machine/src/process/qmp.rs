//! A connection to QEMU's machine protocol (QMP): commands, and the cause of the machine's
//! end.
//!
//! Format: one JSON object per line (QEMU doc: interop/qmp-spec). QEMU sends a greeting;
//! chrootvm ends the negotiation with `qmp_capabilities`; then QEMU sends events without
//! being asked. QEMU exits with status 0 after a power-off as well as after a panic; only
//! the SHUTDOWN event tells them apart.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use super::messages;
use super::wait::{self, Awaited};

/// Cause for which QEMU ended the machine (`ShutdownCause`, QEMU doc: interop/qemu-qmp-ref).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShutdownCause {
    /// The guest powered off.
    GuestPowerOff,
    /// The guest reset the machine: a panic, a failed boot, or reboot(8).
    GuestReset,
    /// The user at QEMU's console or a management tool ended it.
    Host,
    /// Another cause, by QEMU's name.
    Other(String),
}

/// chrootvm's end of a QMP connection.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    /// Start of a line whose end has not arrived yet.
    partial: Vec<u8>,
    shutdown: Option<ShutdownCause>,
    open: bool,
    /// Number (`id`) of the last command.
    last: u64,
    /// Answers that nobody has taken yet, with the numbers of their commands.
    answers: VecDeque<(u64, Result<Value, String>)>,
    /// Ports that the guest has opened since the last [`Qmp::take_opened`].
    opened: Vec<String>,
}

/// Maximum number of reads of 4 KiB in one call. A guest that opens and closes ports
/// without end must not keep chrootvm busy. The reads together exceed the buffer of a
/// socket, so one call reads everything that an ended QEMU has left.
const READS: usize = 256;

/// Maximum length of a line in bytes; QEMU sends no line of this length.
const LINE_MAX: usize = 1 << 20;

/// Maximum number of kept answers: some callers want no answer.
const ANSWERS_MAX: usize = 16;

/// Time for QEMU's answer to a command, the first of which it may get before it has started.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

impl Qmp {
    /// Makes a connection; the second value is QEMU's end.
    ///
    /// # Errors
    /// The sockets cannot be made.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (mut ours, theirs) = UnixStream::pair()?;
        ours.write_all(b"{\"execute\":\"qmp_capabilities\"}\n")?;
        ours.set_nonblocking(true)?;
        let (partial, opened, answers) = (Vec::new(), Vec::new(), VecDeque::new());
        let (shutdown, open, last) = (None, true, 0);
        let qmp = Self { stream: ours, partial, shutdown, open, last, answers, opened };
        Ok((qmp, theirs.into()))
    }

    /// Executes a command and returns its answer; `fd` is sent together with the command.
    ///
    /// # Errors
    /// QEMU refuses the command, does not answer, or has ended.
    pub fn execute(
        &mut self,
        command: &str,
        arguments: &Value,
        fd: Option<&dyn AsRawFd>,
    ) -> Result<Value> {
        let number = self.send(command, arguments, fd)?;
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            self.read();
            if let Some(answer) = self.take_answer(number) {
                return answer.map_err(|why| anyhow!("QEMU refuses {command}: {why}"));
            }
            ensure!(self.open, "QEMU ended before it answered {command}");
            ensure!(Instant::now() < deadline, "QEMU does not answer {command}");
            wait::sleep(&[Awaited::readable(self.stream.as_fd())], Some(deadline))?;
        }
    }

    /// Sends a command and does not wait for its answer. Returns the number of the command.
    ///
    /// # Errors
    /// QEMU has ended.
    pub fn send(
        &mut self,
        command: &str,
        arguments: &Value,
        fd: Option<&dyn AsRawFd>,
    ) -> Result<u64> {
        self.last += 1;
        let line = json!({ "execute": command, "arguments": arguments, "id": self.last });
        let fds: Vec<_> = fd.into_iter().map(AsRawFd::as_raw_fd).collect();
        messages::send(&self.stream, format!("{line}\n").as_bytes(), &fds)
            .with_context(|| format!("ask QEMU for {command}"))?;
        Ok(self.last)
    }

    /// Sends a command of QEMU's monitor; [`Qmp::take_text`] returns the text that the monitor
    /// would show. Returns the number of the command.
    ///
    /// # Errors
    /// QEMU has ended.
    pub fn send_monitor(&mut self, command: &str) -> Result<u64> {
        self.send("human-monitor-command", &json!({ "command-line": command }), None)
    }

    /// Resets the machine. A later reset by the guest ends QEMU as before (`-no-reboot`).
    ///
    /// # Errors
    /// QEMU has ended, or is older than 6.0.
    pub fn reset(&mut self) -> Result<()> {
        self.execute("set-action", &json!({ "reboot": "reset" }), None)?;
        self.send("system_reset", &json!({}), None)?;
        self.send("set-action", &json!({ "reboot": "shutdown" }), None).map(drop)
    }

    /// Ids of the ports that the guest has opened since the last call.
    pub fn take_opened(&mut self) -> Vec<String> {
        std::mem::take(&mut self.opened)
    }

    /// Text that the command `number` returned, once it has arrived; empty if QEMU refused it.
    pub fn take_text(&mut self, number: u64) -> Option<String> {
        match self.take_answer(number)? {
            Ok(Value::String(text)) => Some(text),
            _ => Some(String::new()),
        }
    }

    fn take_answer(&mut self, number: u64) -> Option<Result<Value, String>> {
        let at = self.answers.iter().position(|(id, _)| *id == number)?;
        self.answers.remove(at).map(|(_, answer)| answer)
    }

    /// Descriptor to wait for; `None` if QEMU has closed the connection.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.open.then(|| self.stream.as_fd())
    }

    /// Reads and handles everything that has arrived.
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
                // QEMU is gone; its exit status tells why.
                Err(_) => self.open = false,
            }
        }
    }

    /// Cause of the end of the machine; `None` while the machine runs.
    #[must_use]
    pub fn shutdown(&self) -> Option<&ShutdownCause> {
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
                Some(answer) => {
                    self.answers.push_back(answer);
                    self.answers.drain(..self.answers.len().saturating_sub(ANSWERS_MAX));
                }
                None => self.note_opened(parse_opened(&line)),
            }
        }
        if self.partial.len() > LINE_MAX {
            self.partial.clear();
        }
    }

    /// Adds an opened port to the list, but each only once: a guest may open a port any
    /// number of times. The host chooses the ids, so the list stays short.
    fn note_opened(&mut self, id: Option<String>) {
        self.opened.extend(id.filter(|id| !self.opened.contains(id)));
    }
}

/// Number of a command and its answer; `None` if `line` is not an answer.
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

/// Id of the port that the guest has opened; `None` if `line` is another event
/// (`VSERPORT_CHANGE`, QEMU doc: interop/qemu-qmp-ref).
fn parse_opened(line: &[u8]) -> Option<String> {
    let message: Value = serde_json::from_slice(line).ok()?;
    let data = message.get("data").filter(|_| message["event"] == "VSERPORT_CHANGE")?;
    let id = data.get("id").filter(|_| data["open"] == true)?;
    id.as_str().map(str::to_owned)
}

/// Cause of a shutdown; `None` if `line` is no SHUTDOWN event.
fn parse_shutdown(line: &[u8]) -> Option<ShutdownCause> {
    let message: Value = serde_json::from_slice(line).ok()?;
    if message.get("event")?.as_str()? != "SHUTDOWN" {
        return None;
    }
    let reason = message.get("data").and_then(|data| data.get("reason")?.as_str());
    Some(match reason.unwrap_or_default() {
        "guest-shutdown" => ShutdownCause::GuestPowerOff,
        "guest-reset" => ShutdownCause::GuestReset,
        "host-ui" | "host-qmp-quit" => ShutdownCause::Host,
        reason => ShutdownCause::Other(reason.to_owned()),
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
    fn shutdown_causes_are_parsed() {
        for (line, expected) in [
            (event("guest-shutdown"), Some(ShutdownCause::GuestPowerOff)),
            (event("guest-reset"), Some(ShutdownCause::GuestReset)),
            (event("host-signal"), Some(ShutdownCause::Other("host-signal".into()))),
            (event("host-qmp-quit"), Some(ShutdownCause::Host)),
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
        qmp.send("chardev-remove", &json!({}), None).unwrap();
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
    fn each_question_has_its_own_answer() {
        let (mut qmp, theirs) = Qmp::pair().unwrap();
        let mut theirs = UnixStream::from(theirs);
        let first = qmp.send_monitor("info a").unwrap();
        let second = qmp.send_monitor("info b").unwrap();
        assert_eq!(qmp.take_text(first), None);
        theirs.write_all(b"{\"return\": \"b\", \"id\": 2}\n{\"error\": {}, \"id\": 1}\n").unwrap();
        qmp.read();
        assert_eq!(qmp.take_text(second).as_deref(), Some("b"));
        assert_eq!(qmp.take_text(first).as_deref(), Some(""));
        assert_eq!(qmp.take_text(first), None);
        for _ in 0..100 {
            theirs.write_all(b"{\"return\": \"x\", \"id\": 3}\n").unwrap();
            qmp.read();
            assert!(qmp.answers.len() <= ANSWERS_MAX);
        }
    }

    #[test]
    fn only_an_event_of_opening_gives_a_port() {
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
    fn a_guest_cannot_fill_the_memory_with_events() {
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
    fn an_event_may_arrive_in_pieces_and_the_first_shutdown_counts() {
        let (mut qmp, theirs) = Qmp::pair().unwrap();
        let mut theirs = UnixStream::from(theirs);
        let text = event("guest-reset") + &event("guest-shutdown");
        for piece in text.as_bytes().chunks(7) {
            theirs.write_all(piece).unwrap();
            qmp.read();
        }
        drop(theirs);
        qmp.read();
        assert_eq!(qmp.shutdown(), Some(&ShutdownCause::GuestReset));
        assert!(qmp.fd().is_none());
    }
}
