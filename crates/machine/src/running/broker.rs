//! The broker of a machine: it gives ports to other chrootvm processes that want to run a
//! command in the machine (`chrootvm exec`), describes the machine (`chrootvm ps`), and takes
//! orders to end it or to start its workload again (`chrootvm stop`, `chrootvm restart`).
//!
//! Each client that runs a command gets the ports of a session, plugged in by QMP, and drives
//! its session itself. The broker only plugs and unplugs ports. A client finds out that the
//! machine has ended by the end of its connection.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use files::tell::printable;
use nix::sys::signal::Signal;

use super::registry;
use super::state::{Activity, MachineState};
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

/// Request of a client to end the workload of the machine, and to start it again. The answer comes
/// at once, and [`RESTARTED`] follows.
pub const RESTART: &[u8] = b"restart";

/// Message to a client that the workload has started again.
pub const RESTARTED: &[u8] = b"restarted";

/// Request of a client for the directory of the log files. The answer is its absolute path.
pub const LOGS: &[u8] = b"logs";

/// Answer to [`STOP`].
const STOPPING: &str = "stopping";

/// Answer to [`RESTART`].
const RESTARTING: &str = "restarting";

/// Start of an answer that reports an error.
const ERROR: &str = "error ";

/// Accepts the `answer` of the machine `name`.
///
/// # Errors
/// The machine reports an error.
pub fn accept(name: &str, answer: &[u8]) -> Result<()> {
    match answer.strip_prefix(ERROR.as_bytes()) {
        Some(problem) => bail!("machine \"{name}\": {}", printable(problem)),
        None => Ok(()),
    }
}

/// Why a machine refuses [`EXEC`] if it runs no command of the host.
const NO_COMMANDS: &str = "it was started with INIT or --console, so its PID 1 takes no further \
    commands; use its console, or start it as `chrootvm --name NAME ROOTFS -- COMMAND`";

/// Why a machine refuses [`RESTART`] if it supervises nothing.
const NO_WORKLOAD: &str = "it has no workload, which /init would start again: end it with \
    `chrootvm stop`, and start it once more";

/// Why a machine refuses [`RESTART`] before its guest has reported a workload.
const BOOTS: &str = "it still boots; `chrootvm ps` tells when it runs";

/// Why a machine refuses [`LOGS`] if its output goes elsewhere.
const NO_LOGS: &str = "it keeps no log files; start it as `chrootvm --logs DIR ROOTFS -- COMMAND`";

/// Time for the guest to find the ports of one session. Other clients wait meanwhile.
const OPENING_LIMIT: Duration = Duration::from_secs(10);

/// Whether a machine can run further commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FurtherCommands {
    /// `/init` runs a command of the host, and serves further ones.
    Served,
    /// PID 1 is INIT.
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
    /// The client waits for a run of the workload that starts after this time.
    Restarting(Instant),
}

/// A connected chrootvm process.
#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    stage: ClientStage,
}

/// What a client wants to happen to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// chrootvm gets this signal.
    Signal(Signal),
    /// The workload ends, and starts again.
    Restart,
}

/// The broker of a machine.
#[derive(Debug)]
pub struct Broker {
    /// `None` if the machine has no socket.
    listener: Option<UnixListener>,
    clients: Vec<Client>,
    /// Answer to [`INFO`], to which the line of the state is added.
    description: String,
    /// Answer to [`LOGS`].
    logs: Vec<u8>,
    further_commands: FurtherCommands,
    /// Orders of clients since the last [`Broker::take_orders`].
    orders: Vec<Order>,
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
        let (clients, orders, last, opening) = (Vec::new(), Vec::new(), 0, None);
        let logs = format!("{ERROR}{NO_LOGS}").into();
        let broker =
            Self { listener, clients, description, logs, further_commands, orders, last, opening };
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

    /// Serves all clients of a machine in this `state`. Returns the number of a new session, which
    /// the guest has to be told. Clients wait until the first command runs, as `is_running` tells.
    pub fn serve(&mut self, qmp: &mut Qmp, state: &MachineState, is_running: bool) -> Option<u32> {
        while let Some(socket) = self.listener.as_ref().and_then(registry::accept) {
            self.clients.push(Client { socket, stage: ClientStage::Connected });
        }
        let mut clients = std::mem::take(&mut self.clients);
        clients.retain_mut(|client| self.serve_client(client, qmp, state));
        self.clients = clients;
        if let Some((number, limit)) = self.opening
            && (are_opened(qmp, number) || limit <= Instant::now())
        {
            self.opening = None;
        }
        if is_running && self.opening.is_none() { self.start_next(qmp) } else { None }
    }

    /// Orders of clients since the last call.
    pub fn take_orders(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.orders)
    }

    /// Handles a message of a client, and tells it if its workload has started again. Returns
    /// false if the client is gone.
    fn serve_client(&mut self, client: &mut Client, qmp: &mut Qmp, state: &MachineState) -> bool {
        if let ClientStage::Restarting(asked) = client.stage
            && state.activity == Activity::Running
            && state.since.is_some_and(|since| since > asked)
        {
            client.stage = ClientStage::Connected;
            // If the client is gone, the next message shows that.
            let _ = messages::send(&client.socket, RESTARTED, NO_FDS);
        }
        let answer = match messages::receive(&client.socket) {
            Ok(None) => return true,
            Ok(Some(Message { text, fds })) => match (&text[..], &client.stage) {
                (b"", _) => String::new(),
                (INFO, _) => format!("{}\n{}", self.description, state.to_line(Instant::now())),
                (LOGS, _) => {
                    // If the client is gone, the next message shows that.
                    let _ = messages::send(&client.socket, &self.logs, NO_FDS);
                    return true;
                }
                (STOP, _) => {
                    self.orders.push(Order::Signal(Signal::SIGTERM));
                    STOPPING.into()
                }
                (RESTART, ClientStage::Connected) => match refusal(state) {
                    Some(why) => format!("{ERROR}{why}"),
                    None => {
                        client.stage = ClientStage::Restarting(Instant::now());
                        self.orders.push(Order::Restart);
                        RESTARTING.into()
                    }
                },
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

/// Why a machine in this `state` cannot start its workload again; `None` if it can.
fn refusal(state: &MachineState) -> Option<&'static str> {
    match (state.has_workload(), state.activity) {
        (true, _) => None,
        (false, Activity::Booting) => Some(BOOTS),
        (false, _) => Some(NO_WORKLOAD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_learns_that_a_workload_has_started_again() {
        let name = format!("broker-{}", std::process::id());
        let served = FurtherCommands::Served;
        let (mut broker, _) = Broker::open(Some(&name), "7\n/r\nhttpd".into(), served).unwrap();
        let (mut qmp, _qemu) = Qmp::pair().unwrap();
        let client = registry::connect(&name).unwrap();
        let ask = |request| messages::send(&client, request, NO_FDS).unwrap();
        let told = || {
            let message = messages::receive(&client).unwrap();
            message.map(|message| String::from_utf8(message.text).unwrap())
        };
        let first = Instant::now();
        let running = |since, restarts| MachineState {
            activity: Activity::Running,
            restarts: Some(restarts),
            since: Some(since),
            ..MachineState::BOOTING
        };
        let mut serve = |state: MachineState| {
            assert_eq!(broker.serve(&mut qmp, &state, true), None);
            broker.take_orders()
        };
        ask(RESTART);
        assert_eq!(serve(running(first, 0)), [Order::Restart]);
        assert_eq!(told().as_deref(), Some(RESTARTING));
        let stopping = MachineState { activity: Activity::Stopping, ..running(first, 0) };
        for state in [running(first, 0), stopping] {
            assert_eq!((serve(state), told()), (vec![], None), "{state:?}");
        }
        assert_eq!(serve(running(Instant::now(), 1)), []);
        assert_eq!(told().map(String::into_bytes).as_deref(), Some(RESTARTED));
        ask(INFO);
        assert_eq!(serve(MachineState { since: None, ..running(first, 1) }), []);
        assert_eq!(told().as_deref(), Some("7\n/r\nhttpd\nrunning restarts=1"));
        ask(STOP);
        assert_eq!(serve(running(first, 1)), [Order::Signal(Signal::SIGTERM)]);
    }

    #[test]
    fn only_a_workload_starts_again() {
        let state =
            |activity, restarts| MachineState { activity, restarts, ..MachineState::BOOTING };
        for (activity, restarts, expected) in [
            (Activity::Booting, None, Some(BOOTS)),
            (Activity::Running, None, Some(NO_WORKLOAD)),
            (Activity::Stopping, None, Some(NO_WORKLOAD)),
            (Activity::Before, Some(0), None),
            (Activity::Running, Some(3), None),
            (Activity::Stopping, Some(3), None),
        ] {
            assert_eq!(refusal(&state(activity, restarts)), expected, "{activity:?}");
        }
    }
}
