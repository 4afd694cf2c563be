//! Reporting a fatal error to osbuild.
//!
//! osbuild reads lines of JSON from a virtio-serial port named `ipc.0`. Without a report it
//! would wait for ever for a PID 1 that died.
//!
//! Invariant: the port is opened only to send a report. Closing it loses all data that the
//! host has sent to it.

use alloc::vec::Vec;
use core::time::Duration;

use rustix::io::Result;

use crate::sys::devices::Devices;
use crate::sys::file;
use crate::transport::virtio_serial;

/// Name of osbuild's port.
const PORT: &[u8] = b"ipc.0";

/// Time limit of the wait for the port if its driver is loaded.
const PORT_DELAY: Duration = Duration::from_secs(1);

/// Sends `message` to the port, if there is one and the host listens.
pub fn send(devices: &Devices, message: &str) -> Result<()> {
    // Without a driver there is no port, and no reason to wait for it.
    if !virtio_serial::has_driver(devices) {
        return Ok(());
    }
    let port = virtio_serial::open(devices, PORT, PORT_DELAY)?;
    file::write_all(&port, &json_line(message))
}

/// The report as osbuild's host side reads it: a JSON object in one line, whose `ok` is
/// false (escapes: RFC 8259 §7).
fn json_line(message: &str) -> Vec<u8> {
    let mut line = b"{\"ok\":false,\"error\":\"init\",\"msg\":\"".to_vec();
    for byte in message.bytes() {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            ..b' ' => {
                let digit =
                    |number: u8| if number < 10 { b'0' + number } else { b'a' - 10 + number };
                line.extend_from_slice(b"\\u00");
                line.extend([byte >> 4, byte & 15].map(digit));
            }
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
