//! Serving those who want to run more commands in a machine that runs.
//!
//! Each gets ports of its own, plugged in by QMP (QEMU doc:
//! interop/qemu-qmp-ref: getfd, chardev-add, device_add), and drives its session
//! itself; here they are only plugged and unplugged.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use virtinitrd_proto::port::port_name;

use super::registry;
use crate::plan::SERIAL_BUS;
use crate::process::qmp::Qmp;
use crate::session::channels::STREAMS;

/// How far somebody who asks has got.
#[derive(Debug)]
enum Stage {
    /// Has not asked for a session.
    Silent,
    /// Waits for its turn, with its descriptors.
    Waiting(Vec<OwnedFd>),
    /// Has the session of this number.
    Served(u32),
}

/// Somebody who asks.
#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    stage: Stage,
}

/// The door of a machine.
#[derive(Debug)]
pub struct Broker {
    /// `None` if the machine has no socket.
    listener: Option<OwnedFd>,
    clients: Vec<Client>,
    /// What `chrootvm ps` shows.
    description: String,
    last: u32,
    /// The session whose ports the guest is about to find, and how long others
    /// wait for that. QEMU tells the guest of ports by a queue of 32 messages,
    /// and drops what does not fit.
    opening: Option<(u32, Instant)>,
}

/// How long others wait for one session's ports to be found.
const OPENING_LIMIT: Duration = Duration::from_secs(10);

impl Broker {
    /// Opens the socket of the machine `name`, or of a machine without a name. A
    /// machine without a name also runs without a socket; then the error is returned
    /// beside the broker.
    ///
    /// # Errors
    /// The name is taken.
    pub fn open(name: Option<&str>, description: String) -> Result<(Self, Option<anyhow::Error>)> {
        let (listener, failure) = match name {
            Some(name) => (Some(registry::listen(name)?), None),
            None => match registry::listen_unnamed() {
                Ok(listener) => (Some(listener), None),
                Err(error) => (None, Some(error)),
            },
        };
        let (clients, last, opening) = (Vec::new(), 0, None);
        Ok((Self { listener, clients, description, last, opening }, failure))
    }

    /// What to wait for.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let clients = self.clients.iter().map(|client| client.socket.as_fd());
        self.listener.iter().map(AsFd::as_fd).chain(clients)
    }

    /// Serves whoever asks; the number of a session that the guest is to be told
    /// of. As long as the first command does not run, all wait.
    pub fn serve(&mut self, qmp: &mut Qmp, runs: bool) -> Option<u32> {
        while let Some(socket) = self.listener.as_ref().and_then(registry::accept) {
            self.clients.push(Client { socket, stage: Stage::Silent });
        }
        let mut clients = std::mem::take(&mut self.clients);
        clients.retain_mut(|client| self.hear(client, qmp));
        self.clients = clients;
        if let Some((number, limit)) = self.opening {
            let is_open = qmp.take_opened().contains(&port_name(number, STREAMS[0]));
            if is_open || limit <= Instant::now() {
                self.opening = None;
            }
        }
        if runs && self.opening.is_none() { self.start_next(qmp) } else { None }
    }

    /// Takes what a client says. False where it has gone.
    fn hear(&mut self, client: &mut Client, qmp: &mut Qmp) -> bool {
        let answer = match registry::receive(&client.socket) {
            Ok(None) => return true,
            Ok(Some((message, fds))) => match (&message[..], &client.stage) {
                (b"", _) => String::new(),
                (INFO, _) => self.description.clone(),
                (EXEC, Stage::Silent) if fds.len() == STREAMS.len() => {
                    client.stage = Stage::Waiting(fds);
                    return true;
                }
                _ => format!("{ERROR}the request is not known to this machine's chrootvm"),
            },
            Err(_) => String::new(),
        };
        let heard =
            !answer.is_empty() && registry::send(&client.socket, answer.as_bytes(), NO_FDS).is_ok();
        if let (false, Stage::Served(number)) = (heard, &client.stage) {
            unplug(qmp, *number);
            self.opening = self.opening.filter(|(opening, _)| opening != number);
        }
        heard
    }

    /// Gives the first who waits its ports.
    fn start_next(&mut self, qmp: &mut Qmp) -> Option<u32> {
        let is_waiting = |client: &&mut Client| matches!(client.stage, Stage::Waiting(_));
        let client = self.clients.iter_mut().find(is_waiting)?;
        let Stage::Waiting(fds) = std::mem::replace(&mut client.stage, Stage::Silent) else {
            return None;
        };
        self.last += 1;
        let number = self.last;
        let plugged = plug(qmp, number, fds);
        let answer = match &plugged {
            Ok(()) => format!("session {number}"),
            Err(error) => format!("{ERROR}{error:#}"),
        };
        // One that has gone is noticed when it is heard next.
        let _ = registry::send(&client.socket, answer.as_bytes(), NO_FDS);
        if plugged.is_err() {
            unplug(qmp, number);
            return None;
        }
        client.stage = Stage::Served(number);
        self.opening = Some((number, Instant::now() + OPENING_LIMIT));
        Some(number)
    }
}

/// Asks what the machine is.
pub const INFO: &[u8] = b"info";

/// Asks for a session; comes with its four descriptors.
pub const EXEC: &[u8] = b"exec";

/// Begins an answer that is an error.
pub const ERROR: &str = "error ";

/// For messages without descriptors.
pub const NO_FDS: &[OwnedFd] = &[];

/// Gives the machine the ports of session `number`.
fn plug(qmp: &mut Qmp, number: u32, fds: Vec<OwnedFd>) -> Result<()> {
    for (stream, fd) in STREAMS.iter().zip(fds) {
        let name = port_name(number, stream);
        qmp.execute("getfd", &json!({ "fdname": name }), Some(fd))?;
        let address = json!({ "type": "fd", "data": { "str": name } });
        let data = json!({ "addr": address, "server": false });
        let chardev = json!({ "id": name, "backend": { "type": "socket", "data": data } });
        qmp.execute("chardev-add", &chardev, None)?;
        let device = json!({
            "driver": "virtserialport", "bus": SERIAL_BUS, "id": name, "chardev": name, "name": name
        });
        qmp.execute("device_add", &device, None)
            .context("add a port; a machine has room for six commands beside its first")?;
    }
    Ok(())
}

/// Takes them away again, as far as they are there.
fn unplug(qmp: &mut Qmp, number: u32) {
    for stream in STREAMS {
        let id = json!({ "id": port_name(number, stream) });
        // A machine that is about to end refuses, and needs it no more.
        let _ = qmp.tell("device_del", &id, None);
        let _ = qmp.tell("chardev-remove", &id, None);
    }
}
