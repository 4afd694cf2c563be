//! The channels of a session: three streams and a control channel, by name.

use core::time::Duration;

use proto::port::port_name;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::sys::devices::Devices;
use crate::sys::error::{Context, Hints, Result};
use crate::transport::virtio_serial;

/// Hints for a port that cannot be opened.
const HINTS: Hints = &[
    (Some(Errno::NOENT), "no such virtio-serial port; the module virtio_console must be packed"),
    (Some(Errno::AGAIN), "the host is not connected to it"),
];

/// Opens the channel `stream` of session `number`; waits for it up to `limit`.
pub fn open(devices: &Devices, number: u32, stream: &str, limit: Duration) -> Result<OwnedFd> {
    let name = port_name(number, stream);
    let port = virtio_serial::open(devices, name.as_bytes(), limit);
    port.hinted(format_args!("open port {name}"), HINTS)
}

/// Opens the standard input of session `number`. Its standard output must be open already.
pub fn open_input(devices: &Devices, number: u32, limit: Duration) -> Result<OwnedFd> {
    let name = port_name(number, "stdin");
    let port = virtio_serial::open_input(devices, name.as_bytes(), limit);
    port.hinted(format_args!("open port {name}"), HINTS)
}

/// Whether the host has its end of `channel` open.
#[must_use]
pub fn is_connected(channel: &OwnedFd) -> bool {
    virtio_serial::is_connected(channel).unwrap_or(false)
}
