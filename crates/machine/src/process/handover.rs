//! Descriptors that a child inherits, so that its files and sockets need no names.
//!
//! Interface: unix(7).

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::Result;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};

/// Number of the first descriptor that a child inherits besides its standard streams.
pub const FIRST_FD: i32 = 3;

/// Descriptors for a child, with the numbers under which it inherits them.
#[derive(Debug, Default)]
pub struct ChildDescriptors(Vec<(OwnedFd, i32)>);

impl ChildDescriptors {
    /// Adds `fd` and returns its number in the child.
    pub fn add(&mut self, fd: OwnedFd) -> i32 {
        let number = self.0.last().map_or(FIRST_FD, |(_, last)| last + 1);
        self.0.push((fd, number));
        number
    }

    /// Adds `fd` and returns a path by which the child can open it.
    pub fn path(&mut self, fd: OwnedFd) -> OsString {
        format!("/dev/fd/{}", self.add(fd)).into()
    }

    /// The descriptors and their numbers in the child.
    #[must_use]
    pub fn into_mappings(self) -> Vec<(OwnedFd, i32)> {
        self.0
    }
}

/// A listening socket for a daemon, and a connection in its queue for QEMU.
///
/// The socket has an abstract name, so any process could connect. But the name has 128
/// random bits, and the queue holds one connection: once ours is in the queue, the daemon
/// accepts ours.
///
/// # Errors
/// A socket cannot be made.
pub fn connected_listener() -> Result<(OwnedFd, OwnedFd)> {
    let mut random = [0; 16];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random))?;
    let name = format!("virtinitrd-{:032x}", u128::from_ne_bytes(random));
    let address = UnixAddr::new_abstract(name.as_bytes())?;
    let make = |flags| {
        let flags = SockFlag::SOCK_CLOEXEC | flags;
        socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)
    };
    let listener = make(SockFlag::empty())?;
    socket::bind(listener.as_raw_fd(), &address)?;
    socket::listen(&listener, Backlog::new(0)?)?;
    // If the queue were full, a blocking connect(2) would wait for ever.
    let connected = make(SockFlag::SOCK_NONBLOCK)?;
    socket::connect(connected.as_raw_fd(), &address)?;
    fcntl(&connected, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok((listener, connected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use std::io::Write;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn no_other_process_can_connect_to_a_daemons_socket() {
        let (listener, connected) = connected_listener().unwrap();
        let listener = UnixListener::from(listener);
        let intruder = socket::socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        let address: UnixAddr = socket::getsockname(listener.as_raw_fd()).unwrap();
        assert_eq!(socket::connect(intruder.as_raw_fd(), &address), Err(Errno::EAGAIN));

        let (mut accepted, _) = listener.accept().unwrap();
        UnixStream::from(connected).write_all(b"ours").unwrap();
        let mut text = String::new();
        accepted.read_to_string(&mut text).unwrap();
        assert_eq!(text, "ours");
    }
}
