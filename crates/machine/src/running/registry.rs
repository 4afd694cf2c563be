//! How the machines of a user find each other: by abstract sockets.
//!
//! Interface: unix(7). Such a socket leaves nothing behind, however its owner
//! ends. Its name is no secret and anybody may take it, so each side asks the
//! kernel who the other is. One message is one packet.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr, UnixCredentials,
};
use nix::unistd::{Uid, User, geteuid};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use super::watch;

/// What the names of our sockets begin with.
const PREFIX: &str = "virtinitrd-machine";

/// Bytes of the longest message; what follows is lost.
pub const MESSAGE_MAX: usize = 4 << 10;

/// Descriptors that come with a message at the most.
const FDS_MAX: usize = 4;

/// First character of the socket name of a machine without `--name`; no `--name` starts
/// with it (`crate::plan::options::parse_name`).
const UNNAMED: char = '~';

/// Most random names that are tried. There are 2^64 names, so a second try is needed
/// only if somebody takes names on purpose.
const TRIES: usize = 8;

/// How many may wait to be heard.
const BACKLOG: i32 = 16;

/// The names of this user's sockets, up to the machine's own name.
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

/// Takes `name`: a socket at which others ask.
///
/// # Errors
/// The name is taken; says by which process and user.
pub fn listen(name: &str) -> Result<OwnedFd> {
    match bind(name)? {
        Some(listener) => Ok(listener),
        None => bail!("--name {name}: {}", taken(holder(name).as_ref())),
    }
}

/// Listens at a random name. If the name could be known before, any user could take it
/// and keep the machine from running.
///
/// # Errors
/// Those of socket(2), or that all names are taken.
pub fn listen_unnamed() -> Result<OwnedFd> {
    // `RandomState` has random keys.
    listen_to_first(|| format!("{UNNAMED}{:016x}", RandomState::new().build_hasher().finish()))
}

fn listen_to_first(mut name: impl FnMut() -> String) -> Result<OwnedFd> {
    for _ in 0..TRIES {
        if let Some(listener) = bind(&name())? {
            return Ok(listener);
        }
    }
    bail!("{TRIES} random names of sockets are taken")
}

/// A socket of that name; `None` where the name is taken.
fn bind(name: &str) -> Result<Option<OwnedFd>> {
    let listener = make(SockFlag::SOCK_NONBLOCK)?;
    match socket::bind(listener.as_raw_fd(), &address(name)?) {
        Err(Errno::EADDRINUSE) => return Ok(None),
        result => result.context("name the machine's socket")?,
    }
    socket::listen(&listener, Backlog::new(BACKLOG)?).context("listen")?;
    Ok(Some(listener))
}

/// Who listens at the socket `name`, if anybody does.
fn holder(name: &str) -> Option<UnixCredentials> {
    let socket = make(SockFlag::SOCK_NONBLOCK).ok()?;
    socket::connect(socket.as_raw_fd(), &address(name).ok()?).ok()?;
    socket::getsockopt(&socket, PeerCredentials).ok()
}

/// Error for a name that `holder` has taken.
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

/// The next who asks, if it is this user.
#[must_use]
pub fn accept(listener: &OwnedFd) -> Option<OwnedFd> {
    let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
    let peer = rustix::net::accept_with(listener, flags).ok()?;
    is_this_user(&peer).then_some(peer)
}

/// How long a machine's chrootvm may take to be reached, or to tell of itself. It
/// may be stopped, and a name may be held by somebody who accepts nobody.
const PATIENCE: Duration = Duration::from_secs(2);

/// Connects to the machine `name`, or, if `name` is a process id, to the machine
/// without a name of that process.
///
/// # Errors
/// Those of [`connect`].
pub fn find(name: &str) -> Result<OwnedFd> {
    let connected = connect(name);
    let Ok(pid) = name.parse::<i32>() else { return connected };
    connected.or_else(|error| {
        let unnamed = names()?.into_iter().filter(|name| is_unnamed(name));
        let mut sockets = unnamed.filter_map(|name| connect(&name).ok());
        sockets.find(|socket| peer_pid(socket) == Some(pid)).ok_or(error)
    })
}

/// The process that listens at the other side of `socket`.
#[must_use]
pub fn peer_pid(socket: &OwnedFd) -> Option<i32> {
    Some(socket::getsockopt(socket, PeerCredentials).ok()?.pid())
}

/// Connects to the machine `name`.
///
/// # Errors
/// Where there is none, or it does not answer.
pub fn connect(name: &str) -> Result<OwnedFd> {
    let socket = make(SockFlag::empty())?;
    // It holds for connect too.
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE)).context("set a timeout")?;
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

/// What to say of a machine that is silent.
#[must_use]
pub fn no_answer(name: &str) -> String {
    format!("machine \"{name}\" does not answer: its chrootvm may be stopped")
}

/// Waits for an answer that a machine gives at once; `None` where it does not.
pub fn wait_and_receive(socket: &OwnedFd) -> Result<Option<Message>> {
    watch::sleep(&[(socket.as_fd(), false)], Some(Instant::now() + PATIENCE))?;
    receive(socket)
}

/// The names of this user's machines, sorted (`/proc/net/unix`, proc(5)).
pub fn names() -> Result<Vec<String>> {
    let table = std::fs::read("/proc/net/unix").context("read /proc/net/unix")?;
    Ok(names_in(&String::from_utf8_lossy(&table), &prefix()))
}

fn names_in(table: &str, prefix: &str) -> Vec<String> {
    let path = |line: &str| line.split_whitespace().nth(7).map(str::to_owned);
    let name = |path: String| path.strip_prefix('@')?.strip_prefix(prefix).map(str::to_owned);
    // Connections made at the socket have its name too.
    let mut names: Vec<_> = table.lines().filter_map(path).filter_map(name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn is_this_user(peer: &OwnedFd) -> bool {
    let peer = socket::getsockopt(peer, PeerCredentials);
    peer.is_ok_and(|peer| Uid::from_raw(peer.uid()) == geteuid())
}

/// Sends a message with descriptors.
pub fn send(socket: impl AsFd, message: &[u8], fds: &[impl AsFd]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    ensure!(
        fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(&fds)),
        "too many descriptors in a message"
    );
    // A peer that has gone is an error, not a signal.
    let flags = SendFlags::NOSIGNAL;
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(message)], &mut control, flags);
    ensure!(sent.context("send a message")? == message.len(), "a message was cut");
    Ok(())
}

/// A message and its descriptors.
pub type Message = (Vec<u8>, Vec<OwnedFd>);

/// Receives a message without waiting for it; empty where the other side has gone, `None` where nothing
/// is there yet.
pub fn receive(socket: impl AsFd) -> Result<Option<Message>> {
    let mut bytes = [0; MESSAGE_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = rustix::net::recvmsg(socket, &mut parts, &mut control, flags);
    let length = match received {
        Ok(received) => received.bytes,
        Err(rustix::io::Errno::AGAIN) => return Ok(None),
        Err(rustix::io::Errno::CONNRESET) => 0,
        Err(errno) => return Err(errno).context("receive a message"),
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            fds.extend(more);
        }
    }
    Ok(Some((bytes.get(..length).unwrap_or_default().to_vec(), fds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_found_by_their_names() {
        let name = format!("test-{}", std::process::id());
        assert!(connect(&name).unwrap_err().to_string().contains("no machine"));
        let listener = listen(&name).unwrap();
        assert!(names().unwrap().contains(&name));
        let error = listen(&name).unwrap_err().to_string();
        let holder = format!("runs already (process {})", std::process::id());
        assert!(error.starts_with(&format!("--name {name}: ")) && error.contains(&holder));

        // The second `listen` has connected to find the holder, and left.
        assert_eq!(receive(accept(&listener).unwrap()).unwrap().unwrap().0, b"");
        let client = connect(&name).unwrap();
        let server = accept(&listener).unwrap();
        assert!(receive(&server).unwrap().is_none());
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        send(&client, b"exec", &[theirs]).unwrap();
        let (message, fds) = receive(&server).unwrap().unwrap();
        assert_eq!((&message[..], fds.len()), (&b"exec"[..], 1));
        drop((fds, ours));
        drop(client);
        assert_eq!(receive(&server).unwrap().unwrap().0, b"");
        drop((listener, server));
        assert!(!names().unwrap().contains(&name));
    }

    #[test]
    fn a_name_that_nobody_asked_for_is_tried_again() {
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
    fn the_holder_of_a_name_is_told() {
        let name = format!("bound-{}", std::process::id());
        let socket = make(SockFlag::empty()).unwrap();
        socket::bind(socket.as_raw_fd(), &address(&name).unwrap()).unwrap();
        let error = listen(&name).unwrap_err().to_string();
        assert!(error.contains("accepts nobody"), "{error}");
    }

    #[test]
    fn a_machine_that_is_silent_is_not_waited_for() {
        let name = format!("silent-{}", std::process::id());
        let _listener = listen(&name).unwrap();
        let mut clients = Vec::new();
        // The backlog and one.
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
