//! Telling the host, beside the console, why the machine ends.
//!
//! osbuild waits on a virtio-serial port named `ipc.0` for lines of JSON and
//! would wait for ever for a PID 1 that died. The port is found by its name in
//! sysfs (kernel: `drivers/char/virtio_console.c`,
//! `/sys/class/virtio-ports/vport0p1/name`).
//!
//! Invariant: the port is opened only when there is something to say. What the
//! host has sent to it would be lost when it is closed again.

use alloc::ffi::CString;
use alloc::format;
use alloc::vec::Vec;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};

use crate::file;

/// osbuild's port.
const PORT: &[u8] = b"ipc.0";

/// The way to the port: `/sys` and `/dev`, held open, for they move while the
/// machine boots, and a path through a dead virtiofs would block for ever.
#[derive(Debug)]
pub struct Report {
    sys: OwnedFd,
    dev: OwnedFd,
}

impl Report {
    /// Takes hold of `/sys` and `/dev`.
    pub fn prepare() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path| rustix::fs::open(path, flags, Mode::empty());
        Ok(Self { sys: open(c"/sys")?, dev: open(c"/dev")? })
    }

    /// Sends `message` to the port, if there is one and the host listens. It is
    /// not waited for.
    pub fn send(&self, message: &str) -> Result<()> {
        let Some(device) = self.find_port()? else { return Ok(()) };
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let port = rustix::fs::openat(&self.dev, &*device, flags, Mode::empty())?;
        file::write_all(&port, &json_line(message))
    }

    /// The device's name below `/dev`.
    fn find_port(&self) -> Result<Option<CString>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let class = match rustix::fs::openat(&self.sys, c"class/virtio-ports", flags, Mode::empty())
        {
            Err(Errno::NOENT) => return Ok(None),
            class => class?,
        };
        for device in file::names_in(&class, |_| true)? {
            let name = file::join(device.to_bytes(), b"/name")?;
            // Not everything there is a port.
            let is_ours =
                file::read_at(&class, &name).is_ok_and(|name| name.trim_ascii_end() == PORT);
            if is_ours {
                return Ok(Some(device));
            }
        }
        Ok(None)
    }
}

/// The line that osbuild's host side reads: a response that is not `ok`
/// (escapes: RFC 8259 §7).
fn json_line(message: &str) -> Vec<u8> {
    let mut line = b"{\"ok\":false,\"error\":\"init\",\"msg\":\"".to_vec();
    for byte in message.bytes() {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            ..b' ' => line.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => line.push(byte),
        }
    }
    line.extend_from_slice(b"\"}\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_json() {
        assert_eq!(
            json_line("mount \"a\\b\"\n: é"),
            "{\"ok\":false,\"error\":\"init\",\"msg\":\"mount \\\"a\\\\b\\\"\\u000a: é\"}\n"
                .as_bytes()
        );
    }
}
