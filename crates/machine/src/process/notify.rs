//! Messages to a service manager.
//!
//! Interface: sd_notify(3). `NOTIFY_SOCKET` names a datagram socket by a path, or by an abstract
//! name after `@`; each message is `NAME=VALUE`. Nothing depends on whether somebody reads them.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use anyhow::{Context, Result, bail};

/// Variable that names the socket. No child of chrootvm gets it: the socket takes what any process
/// says about the service.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// A socket of a service manager.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// The socket with this name, the value of [`NOTIFY_SOCKET`].
    ///
    /// # Errors
    /// The name is none of a Unix socket, or no socket can be made.
    pub fn new(name: &OsStr) -> Result<Self> {
        let parse = || -> Result<SocketAddr> {
            Ok(match name.as_bytes() {
                [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
                [b'/', ..] => SocketAddr::from_pathname(name)?,
                _ => bail!("neither a path nor a name after @"),
            })
        };
        let address = parse().with_context(|| format!("{NOTIFY_SOCKET}={}", name.display()))?;
        let socket = UnixDatagram::unbound().context("make a socket")?;
        // A service manager that does not read must not stop the machine.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }

    /// Sends a message, such as `READY=1`.
    pub fn send(&self, message: &str) {
        if let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.address) {
            log::debug!("send {message} to {NOTIFY_SOCKET}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_at_any_kind_of_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("virtinitrd-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, name) in [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}").into()),
        ] {
            let notifier = Notifier::new(&name).unwrap();
            notifier.send("READY=1");
            let mut message = [0; 64];
            let length = socket.recv(&mut message).unwrap();
            assert_eq!(&message[..length], b"READY=1");
            drop(socket);
            notifier.send("STOPPING=1"); // nobody gets it
        }
    }

    #[test]
    fn a_name_of_another_kind_is_an_error() {
        for name in ["", "notify", "vsock:2:1234", "unix:/x"] {
            let error = Notifier::new(OsStr::new(name)).unwrap_err().to_string();
            assert!(error.starts_with("NOTIFY_SOCKET="), "{error}");
        }
    }
}
