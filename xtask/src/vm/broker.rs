//! Serving those who want to run more commands in a machine that runs.
//!
//! Each gets ports of its own, plugged in by QMP (QEMU doc:
//! interop/qemu-qmp-ref: getfd, chardev-add, device_add), and drives its session
//! itself; here they are only plugged and unplugged.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use virtinitrd_init::session::port_name;

use super::plan::SERIAL_BUS;
use super::qmp::Qmp;
use super::registry;
use super::session::STREAMS;

/// Somebody who asks.
#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    /// The number of its session, once it has one.
    session: Option<u32>,
}

/// The door of a machine.
#[derive(Debug)]
pub struct Broker {
    listener: OwnedFd,
    clients: Vec<Client>,
    /// What `chrootvm ps` shows.
    description: String,
    last: u32,
}

impl Broker {
    /// Opens the machine `name`, or one of our process id.
    pub fn open(name: Option<&str>, description: String) -> Result<Self> {
        let id = std::process::id().to_string();
        let listener = registry::listen(name.unwrap_or(&id))?;
        Ok(Self { listener, clients: Vec::new(), description, last: 0 })
    }

    /// What to wait for.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let clients = self.clients.iter().map(|client| client.socket.as_fd());
        [self.listener.as_fd()].into_iter().chain(clients)
    }

    /// Serves whoever asks; the numbers of the sessions that the guest is to be
    /// told of.
    pub fn serve(&mut self, qmp: &mut Qmp) -> Vec<u32> {
        while let Some(socket) = registry::accept(&self.listener) {
            self.clients.push(Client { socket, session: None });
        }
        let mut sessions = Vec::new();
        let mut clients = std::mem::take(&mut self.clients);
        clients.retain_mut(|client| match registry::receive(&client.socket) {
            Ok(None) => true,
            Ok(Some((message, fds))) if !message.is_empty() => {
                let answer = self.answer(&message, fds, client, qmp);
                if answer.starts_with("session ") {
                    sessions.extend(client.session);
                }
                registry::send(&client.socket, answer.as_bytes(), NO_FDS).is_ok()
            }
            Ok(_) | Err(_) => {
                if let Some(number) = client.session {
                    unplug(qmp, number);
                }
                false
            }
        });
        self.clients = clients;
        sessions
    }

    fn answer(
        &mut self,
        message: &[u8],
        fds: Vec<OwnedFd>,
        client: &mut Client,
        qmp: &mut Qmp,
    ) -> String {
        match message {
            INFO => self.description.clone(),
            EXEC if client.session.is_none() => {
                self.last += 1;
                let number = self.last;
                match plug(qmp, number, fds) {
                    Ok(()) => {
                        client.session = Some(number);
                        format!("session {number}")
                    }
                    Err(error) => {
                        unplug(qmp, number);
                        format!("{ERROR}{error:#}")
                    }
                }
            }
            _ => format!("{ERROR}the request is not known to this machine's chrootvm"),
        }
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
    ensure!(fds.len() == STREAMS.len(), "a session has {} descriptors", STREAMS.len());
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
        let _ = qmp.execute("device_del", &id, None);
        let _ = qmp.execute("chardev-remove", &id, None);
    }
}
