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
use core::time::Duration;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};

use crate::{file, wait};

/// osbuild's port.
const PORT: &[u8] = b"ipc.0";

/// How long the port is waited for where the driver is loaded.
const PORT_DELAY: Duration = Duration::from_secs(1);

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

    /// Sends `message` to the port, if there is one and the host listens.
    pub fn send(&self, message: &str) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let ports = c"class/virtio-ports";
        let class = match rustix::fs::openat(&self.sys, ports, flags, Mode::empty()) {
            // No driver, so no port.
            Err(Errno::NOENT) => return Ok(()),
            class => class?,
        };
        let line = json_line(message);
        // A port comes, gets its name and is connected some time after its
        // driver was loaded.
        wait::until(PORT_DELAY, &[Errno::NOENT, Errno::AGAIN], |_| {
            let device = find_port(&class)?;
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let port = rustix::fs::openat(&self.dev, &*device, flags, Mode::empty())?;
            file::write_all(&port, &line)
        })
    }
}

/// The name below `/dev` of the port called [`PORT`].
fn find_port(class: &OwnedFd) -> Result<CString> {
    for device in file::names_in(class, |_| true)? {
        let name = file::join(device.to_bytes(), b"/name")?;
        // Not everything there is a port.
        let is_ours = file::read_at(class, &name).is_ok_and(|name| name.trim_ascii_end() == PORT);
        if is_ours {
            return Ok(device);
        }
    }
    Err(Errno::NOENT)
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
