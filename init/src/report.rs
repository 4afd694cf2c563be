//! Telling the host, beside the console, why the machine ends.
//!
//! osbuild waits on a virtio-serial port named `ipc.0` for lines of JSON and
//! would wait for ever for a PID 1 that died.
//!
//! Invariant: the port is opened only when there is something to say. What the
//! host has sent to it would be lost when it is closed again.

use alloc::vec::Vec;
use core::time::Duration;

use rustix::io::Result;
use virtinitrd_proto::text::compose;

use crate::file;
use crate::ports::Ports;

/// osbuild's port.
const PORT: &[u8] = b"ipc.0";

/// How long the port is waited for where the driver is loaded.
const PORT_DELAY: Duration = Duration::from_secs(1);

/// Sends `message` to the port, if there is one and the host listens.
pub fn send(ports: &Ports, message: &str) -> Result<()> {
    // Without a driver there is no port.
    if !ports.has_driver() {
        return Ok(());
    }
    let port = ports.open(PORT, PORT_DELAY)?;
    file::write_all(&port, &json_line(message))
}

/// The line that osbuild's host side reads: a response that is not `ok`
/// (escapes: RFC 8259 §7).
fn json_line(message: &str) -> Vec<u8> {
    let mut line = b"{\"ok\":false,\"error\":\"init\",\"msg\":\"".to_vec();
    for byte in message.bytes() {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            ..b' ' => line.extend_from_slice(compose(format_args!("\\u{byte:04x}")).as_bytes()),
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
