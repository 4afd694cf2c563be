//! The registry of a user's machines: each machine listens at an abstract socket with the
//! machine's name.
//!
//! Interface: unix(7). An abstract socket leaves no file behind, however its owner ends. Its
//! name is no secret and any process may take it, so each side asks the kernel for the user
//! of the other side. The sockets keep the boundaries of messages (`SOCK_SEQPACKET`).

use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::sockopt::{PeerCredentials, SendTimeout};
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr, UnixCredentials,
};
use nix::sys::time::TimeVal;
use nix::unistd::{Uid, User, geteuid};

use crate::process::messages::{self, Message};
use crate::process::wait::{self, Awaited};

/// Start of the names of all machines' sockets.
const PREFIX: &str = "virtinitrd-machine";

/// First character of the name of a machine that the user gave no name. The command line
/// accepts no name that starts with it.
const UNNAMED: char = '~';

/// Maximum number of random names that are tried. There are 2^64 names, so a second attempt
/// is needed only if another process takes names on purpose.
const TRIES: usize = 8;

/// Maximum number of connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// Start of the names of this user's sockets; the machine's name follows.
fn prefix() -> String {
    format!("{PREFIX}-{}-", geteuid())
}

fn address(name: &str) -> Result<UnixAddr> {
    Ok(UnixAddr::new_abstract(format!("{}{name}", prefix()).as_bytes())?)
}

fn make(flags: SockFlag) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | flags;
    socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).context("make a socket")
}

/// Takes the name `name` and listens at its socket.
///
/// # Errors
/// The name is taken; the error names the process and the user.
pub fn listen(name: &str) -> Result<UnixListener> {
    match bind(name)? {
        Some(listener) => Ok(listener),
        None => bail!("--name {name}: {}", taken(holder(name).as_ref())),
    }
}

/// Listens at a random name. If the name were predictable, any user could take it and so keep
/// the machine from being found.
///
/// # Errors
/// The socket cannot be made, or all tried names are taken.
pub fn listen_unnamed() -> Result<UnixListener> {
    // `RandomState` has random keys.
    listen_to_first(|| format!("{UNNAMED}{:016x}", RandomState::new().build_hasher().finish()))
}

fn listen_to_first(mut name: impl FnMut() -> String) -> Result<UnixListener> {
    for _ in 0..TRIES {
        if let Some(listener) = bind(&name())? {
            return Ok(listener);
        }
    }
    bail!("{TRIES} random names of sockets are taken")
}

/// A listening socket with the name `name`; `None` if the name is taken.
fn bind(name: &str) -> Result<Option<UnixListener>> {
    let listener = make(SockFlag::SOCK_NONBLOCK)?;
    match socket::bind(listener.as_raw_fd(), &address(name)?) {
        Err(Errno::EADDRINUSE) => return Ok(None),
        result => result.context("name the machine's socket")?,
    }
    socket::listen(&listener, Backlog::new(BACKLOG)?).context("listen")?;
    Ok(Some(listener.into()))
}

/// Process that listens at the socket `name`; `None` if it does not accept connections.
fn holder(name: &str) -> Option<UnixCredentials> {
    let socket = make(SockFlag::SOCK_NONBLOCK).ok()?;
    socket::connect(socket.as_raw_fd(), &address(name).ok()?).ok()?;
    socket::getsockopt(&socket, PeerCredentials).ok()
}

/// Error text for a name that the process `holder` has taken.
fn taken(holder: Option<&UnixCredentials>) -> String {
    let Some(holder) = holder else {
        return "the name of its socket is taken by a process that accepts nobody".into();
    };
    let (pid, uid) = (holder.pid(), Uid::from_raw(holder.uid()));
    if uid == geteuid() {
        return format!("a machine of that name runs already (process {pid})");
    }
    let user = User::from_uid(uid).ok().flatten().map(|user| format!(" ({})", user.name));
    let user = user.unwrap_or_default();
    format!("process {pid} of user {uid}{user} holds that name; choose another one")
}

/// Whether `name` is that of a machine without `--name`.
#[must_use]
pub fn is_unnamed(name: &str) -> bool {
    name.starts_with(UNNAMED)
}

/// Next connection of this user; `None` if there is none, or if another user connects.
#[must_use]
pub fn accept(listener: &UnixListener) -> Option<OwnedFd> {
    let (peer, _) = listener.accept().ok()?;
    peer.set_nonblocking(true).ok()?;
    let peer = OwnedFd::from(peer);
    is_this_user(&peer).then_some(peer)
}

/// Time for connecting to a machine and for its answer. The machine's chrootvm may be
/// stopped, or a foreign process may hold the name and accept no connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// Connects to the machine `name`. If `name` is a process id, the machine of that process
/// without a name is tried, too.
///
/// # Errors
/// As [`connect`].
pub fn find(name: &str) -> Result<OwnedFd> {
    let connected = connect(name);
    let Ok(pid) = name.parse::<i32>() else { return connected };
    connected.or_else(|error| {
        let unnamed = names()?.into_iter().filter(|name| is_unnamed(name));
        let mut sockets = unnamed.filter_map(|name| connect(&name).ok());
        sockets.find(|socket| peer_pid(socket) == Some(pid)).ok_or(error)
    })
}

/// Id of the process at the other side of `socket`.
#[must_use]
pub fn peer_pid(socket: &OwnedFd) -> Option<i32> {
    Some(socket::getsockopt(socket, PeerCredentials).ok()?.pid())
}

/// Connects to the machine `name`.
///
/// # Errors
/// The machine does not exist, does not answer, or belongs to another user.
pub fn connect(name: &str) -> Result<OwnedFd> {
    let socket = make(SockFlag::empty())?;
    // This timeout also applies to connect(2).
    let seconds = i64::try_from(PATIENCE.as_secs())?;
    socket::setsockopt(&socket, SendTimeout, &TimeVal::new(seconds, 0)).context("set a timeout")?;
    match socket::connect(socket.as_raw_fd(), &address(name)?) {
        Err(Errno::ECONNREFUSED) => {
            bail!("no machine \"{name}\" of yours runs; `chrootvm ps` lists them")
        }
        Err(Errno::EAGAIN) => bail!(no_answer(name)),
        result => result.with_context(|| format!("reach machine \"{name}\""))?,
    }
    ensure!(is_this_user(&socket), "machine \"{name}\" is not yours");
    Ok(socket)
}

/// Error text for a machine that does not answer.
#[must_use]
pub fn no_answer(name: &str) -> String {
    format!("machine \"{name}\" does not answer: its chrootvm may be stopped")
}

/// Waits for the answer to [`INFO`], which a machine sends at once; `None` if the answer does not
/// arrive in time.
///
/// # Errors
/// The answer cannot be received.
///
/// [`INFO`]: super::broker::INFO
pub fn wait_and_receive(socket: &OwnedFd) -> Result<Option<Message>> {
    wait::sleep(&[Awaited::readable(socket.as_fd())], Some(Instant::now() + PATIENCE))?;
    messages::receive(socket)
}

/// Names of this user's machines, sorted (`/proc/net/unix`, proc(5)).
///
/// # Errors
/// The table of sockets cannot be read.
pub fn names() -> Result<Vec<String>> {
    let table = std::fs::read("/proc/net/unix").context("read /proc/net/unix")?;
    Ok(names_in(&String::from_utf8_lossy(&table), &prefix()))
}

fn names_in(table: &str, prefix: &str) -> Vec<String> {
    let path = |line: &str| line.split_whitespace().nth(7).map(str::to_owned);
    let name = |path: String| path.strip_prefix('@')?.strip_prefix(prefix).map(str::to_owned);
    // Accepted connections have the name of the socket, too.
    let mut names: Vec<_> = table.lines().filter_map(path).filter_map(name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn is_this_user(peer: &OwnedFd) -> bool {
    let peer = socket::getsockopt(peer, PeerCredentials);
    peer.is_ok_and(|peer| Uid::from_raw(peer.uid()) == geteuid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::messages::{receive, send};

    #[test]
    fn machines_are_found_by_their_names() {
        let name = format!("test-{}", std::process::id());
        assert!(connect(&name).unwrap_err().to_string().contains("no machine"));
        let listener = listen(&name).unwrap();
        assert!(names().unwrap().contains(&name));
        let error = listen(&name).unwrap_err().to_string();
        let holder = format!("runs already (process {})", std::process::id());
        assert!(error.starts_with(&format!("--name {name}: ")) && error.contains(&holder));

        // To find the holder, the second `listen` has connected and closed its socket.
        assert_eq!(receive(&accept(&listener).unwrap()).unwrap().unwrap().text, b"");
        let client = connect(&name).unwrap();
        let server = accept(&listener).unwrap();
        assert!(receive(&server).unwrap().is_none());
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        send(&client, b"exec", &[theirs]).unwrap();
        let message = receive(&server).unwrap().unwrap();
        assert_eq!((&message.text[..], message.fds.len()), (&b"exec"[..], 1));
        drop((message, ours));
        drop(client);
        assert_eq!(receive(&server).unwrap().unwrap().text, b"");
        drop((listener, server));
        assert!(!names().unwrap().contains(&name));
    }

    #[test]
    fn another_random_name_is_tried_if_the_first_is_taken() {
        let names = [1, 2].map(|n| format!("{UNNAMED}test-{}-{n}", std::process::id()));
        let taken = bind(&names[0]).unwrap().unwrap();
        let mut asked = names.iter().cloned();
        let listener = listen_to_first(|| asked.next().unwrap()).unwrap();
        assert!(super::names().unwrap().contains(&names[1]));
        let error = listen_to_first(|| names[1].clone()).unwrap_err().to_string();
        assert!(error.contains("taken"), "{error}");
        drop((taken, listener));
    }

    #[test]
    fn a_machine_without_a_name_is_found_by_its_process() {
        let listener = listen_unnamed().unwrap();
        let pid = std::process::id().to_string();
        let client = find(&pid).unwrap();
        assert_eq!(peer_pid(&client).unwrap().to_string(), pid);
        assert!(accept(&listener).is_some());
        // No process has this id: `PID_MAX_LIMIT` is 2^22.
        assert!(find("4194305").unwrap_err().to_string().contains("no machine"));
    }

    #[test]
    fn a_holder_that_accepts_no_connection_is_told() {
        let name = format!("bound-{}", std::process::id());
        let socket = make(SockFlag::empty()).unwrap();
        socket::bind(socket.as_raw_fd(), &address(&name).unwrap()).unwrap();
        let error = listen(&name).unwrap_err().to_string();
        assert!(error.contains("accepts nobody"), "{error}");
    }

    #[test]
    fn a_machine_that_does_not_answer_is_an_error() {
        let name = format!("silent-{}", std::process::id());
        let _listener = listen(&name).unwrap();
        let mut clients = Vec::new();
        // The queue takes one connection more than its size.
        let error = loop {
            match connect(&name) {
                Ok(client) => clients.push(client),
                Err(error) => break error,
            }
            assert!(clients.len() <= 2 * usize::try_from(BACKLOG).unwrap());
        };
        assert!(error.to_string().contains("does not answer"), "{error:#}");
        assert!(wait_and_receive(&clients[0]).unwrap().is_none());
    }

    #[test]
    fn other_users_machines_are_not_listed() {
        let table = "Num RefCount Protocol Flags Type St Inode Path\n\
            0: 2 0 0 5 1 11 @virtinitrd-machine-7-b\n0: 2 0 0 5 1 12 @virtinitrd-machine-7-a\n\
            0: 2 0 0 5 3 13 @virtinitrd-machine-7-a\n0: 2 0 0 5 1 14 @virtinitrd-machine-77-c\n\
            0: 2 0 0 1 1 15 /run/x\n0: 2 0 0 1 1 16\n";
        assert_eq!(names_in(table, "virtinitrd-machine-7-"), ["a", "b"]);
    }
}
