//! The broker of a machine: it gives ports to other chrootvm processes that want to run a
//! command in the machine (`chrootvm exec`), describes the machine (`chrootvm ps`), and takes
//! orders to end it (`chrootvm stop`).
//!
//! Each client that runs a command gets the ports of a session, plugged in by QMP, and drives
//! its session itself. The broker only plugs and unplugs ports. A client finds out that the
//! machine has ended by the end of its connection.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;

use super::registry;
use crate::plan::ports::STREAMS;
use crate::process::messages::{self, Message, NO_FDS, ReceivedFd};
use crate::process::qmp::Qmp;
use crate::process::wait::Awaited;
use crate::session::channels::{add_ports, are_opened, remove_ports};

/// Request of a client for the description of the machine.
pub const INFO: &[u8] = b"info";

/// Request of a client for a session; the client's four descriptors come with it.
pub const EXEC: &[u8] = b"exec";

/// Request of a client to end the machine, as if its chrootvm got SIGTERM.
pub const STOP: &[u8] = b"stop";

/// Request of a client for the directory of the log files. The answer is its absolute path.
pub const LOGS: &[u8] = b"logs";

/// Answer to [`STOP`].
const STOPPING: &str = "stopping";

/// Start of an answer that reports an error.
pub const ERROR: &str = "error ";

/// Why a machine refuses [`EXEC`] if it runs no command of the host.
const NO_COMMANDS: &str = "it was started without a COMMAND, so its PID 1 takes no further \
    commands; use its console, or start it as `chrootvm --name NAME ROOTFS -- COMMAND`";

/// Why a machine refuses [`LOGS`] if its output goes elsewhere.
const NO_LOGS: &str = "it keeps no log files; start it as `chrootvm --logs DIR ROOTFS -- COMMAND`";

/// Time for the guest to find the ports of one session. Other clients wait meanwhile.
const OPENING_LIMIT: Duration = Duration::from_secs(10);

/// Whether a machine can run further commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FurtherCommands {
    /// `/init` runs a command of the host, and serves further ones.
    Served,
    /// PID 1 is INIT, or supervises a workload.
    Refused,
}

/// State of a client.
#[derive(Debug)]
enum ClientStage {
    /// The client has not asked for a session.
    Connected,
    /// The client waits for its ports; these are its descriptors.
    Waiting(Vec<ReceivedFd>),
    /// The client has the session of this number.
    Served(u32),
}

/// A connected chrootvm process.
#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    stage: ClientStage,
}

/// The broker of a machine.
#[derive(Debug)]
pub struct Broker {
    /// `None` if the machine has no socket.
    listener: Option<UnixListener>,
    clients: Vec<Client>,
    /// Answer to [`INFO`].
    description: String,
    /// Answer to [`LOGS`].
    logs: Vec<u8>,
    further_commands: FurtherCommands,
    /// Signals to chrootvm that clients have asked for since the last [`Broker::take_signals`].
    signals: Vec<Signal>,
    /// Number of the last session.
    last: u32,
    /// The session whose ports the guest has not found yet, and the time limit for that.
    /// QEMU reports new ports to the guest through a queue of 32 messages, and drops a
    /// message if the queue is full. So only one session is opened at a time.
    opening: Option<(u32, Instant)>,
}

impl Broker {
    /// Opens the socket of the machine `name`, or of a machine without a name. A machine
    /// without a name also runs without a socket; then the error is returned beside the
    /// broker.
    ///
    /// # Errors
    /// The name is taken.
    pub fn open(
        name: Option<&str>,
        description: String,
        further_commands: FurtherCommands,
    ) -> Result<(Self, Option<anyhow::Error>)> {
        let (listener, failure) = match name {
            Some(name) => (Some(registry::listen(name)?), None),
            None => match registry::listen_unnamed() {
                Ok(listener) => (Some(listener), None),
                Err(error) => (None, Some(error)),
            },
        };
        let (clients, signals, last, opening) = (Vec::new(), Vec::new(), 0, None);
        let logs = format!("{ERROR}{NO_LOGS}").into();
        let broker =
            Self { listener, clients, description, logs, further_commands, signals, last, opening };
        Ok((broker, failure))
    }

    /// This broker of a machine with log files in the directory `dir`, an absolute path; `None` if
    /// the machine has no log files.
    #[must_use]
    pub fn with_log_dir(mut self, dir: Option<&Path>) -> Self {
        if let Some(dir) = dir {
            self.logs = dir.as_os_str().as_bytes().to_vec();
        }
        self
    }

    /// Descriptors to wait for before the next [`Broker::serve`].
    pub fn awaited(&self) -> impl Iterator<Item = Awaited<'_>> {
        let clients = self.clients.iter().map(|client| client.socket.as_fd());
        self.listener.iter().map(AsFd::as_fd).chain(clients).map(Awaited::readable)
    }

    /// Serves all clients. Returns the number of a new session, which the guest has to be
    /// told. Clients wait until the first command runs, as `is_running` tells.
    pub fn serve(&mut self, qmp: &mut Qmp, is_running: bool) -> Option<u32> {
        while let Some(socket) = self.listener.as_ref().and_then(registry::accept) {
            self.clients.push(Client { socket, stage: ClientStage::Connected });
        }
        let mut clients = std::mem::take(&mut self.clients);
        clients.retain_mut(|client| self.serve_client(client, qmp));
        self.clients = clients;
        if let Some((number, limit)) = self.opening
            && (are_opened(qmp, number) || limit <= Instant::now())
        {
            self.opening = None;
        }
        if is_running && self.opening.is_none() { self.start_next(qmp) } else { None }
    }

    /// Signals that clients have sent to chrootvm since the last call.
    pub fn take_signals(&mut self) -> Vec<Signal> {
        std::mem::take(&mut self.signals)
    }

    /// Handles a message of a client. Returns false if the client is gone.
    fn serve_client(&mut self, client: &mut Client, qmp: &mut Qmp) -> bool {
        let answer = match messages::receive(&client.socket) {
            Ok(None) => return true,
            Ok(Some(Message { text, fds })) => match (&text[..], &client.stage) {
                (b"", _) => String::new(),
                (INFO, _) => self.description.clone(),
                (LOGS, _) => {
                    // If the client is gone, the next message shows that.
                    let _ = messages::send(&client.socket, &self.logs, NO_FDS);
                    return true;
                }
                (STOP, _) => {
                    self.signals.push(Signal::SIGTERM);
                    STOPPING.into()
                }
                (EXEC, _) if self.further_commands == FurtherCommands::Refused => {
                    format!("{ERROR}{NO_COMMANDS}")
                }
                (EXEC, ClientStage::Connected) if fds.len() == STREAMS.len() => {
                    client.stage = ClientStage::Waiting(fds);
                    return true;
                }
                _ => format!("{ERROR}the request is not known to this machine's chrootvm"),
            },
            Err(_) => String::new(),
        };
        let is_there =
            !answer.is_empty() && messages::send(&client.socket, answer.as_bytes(), NO_FDS).is_ok();
        if let (false, ClientStage::Served(number)) = (is_there, &client.stage) {
            remove_ports(qmp, *number);
            self.opening = self.opening.filter(|(opening, _)| opening != number);
        }
        is_there
    }

    /// Gives its ports to the first client that waits.
    fn start_next(&mut self, qmp: &mut Qmp) -> Option<u32> {
        let is_waiting = |client: &&mut Client| matches!(client.stage, ClientStage::Waiting(_));
        let client = self.clients.iter_mut().find(is_waiting)?;
        let stage = std::mem::replace(&mut client.stage, ClientStage::Connected);
        let ClientStage::Waiting(fds) = stage else { return None };
        self.last += 1;
        let number = self.last;
        let added = add_ports(qmp, number, &fds);
        let answer = match &added {
            Ok(()) => format!("session {number}"),
            Err(error) => format!("{ERROR}{error:#}"),
        };
        // If the client is gone, the next message shows that.
        let _ = messages::send(&client.socket, answer.as_bytes(), NO_FDS);
        if added.is_err() {
            remove_ports(qmp, number);
            return None;
        }
        client.stage = ClientStage::Served(number);
        self.opening = Some((number, Instant::now() + OPENING_LIMIT));
        Some(number)
    }
}
