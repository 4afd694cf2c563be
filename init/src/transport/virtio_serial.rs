//! virtio-serial ports, found by their names.
//!
//! Interface: `drivers/char/virtio_console.c` of the kernel;
//! `/sys/class/virtio-ports/vport0p1/name`. After its driver was loaded, a port appears,
//! gets its name, and is connected, in this order and with delays. Until it is connected,
//! a read returns 0 as at an end of file.

use alloc::ffi::CString;
use core::ffi::CStr;
use core::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::{Errno, Result};

use crate::sys::devices::Devices;
use crate::sys::{file, wait};

/// Directory below `/sys` with one entry for each port.
const CLASS: &CStr = c"class/virtio-ports";

/// Whether the kernel has a driver for ports.
#[must_use]
pub fn has_driver(devices: &Devices) -> bool {
    devices.open_class(CLASS).is_ok()
}

/// Opens the port `name` for reading and writing, without blocking, as soon as the host is
/// connected to it.
///
/// # Errors
/// ENOENT: there is no such port after `limit`; EAGAIN: the host is not connected; EBUSY:
/// another process has the port open.
pub fn open(devices: &Devices, name: &[u8], limit: Duration) -> Result<OwnedFd> {
    // The kernel drops what the host has sent when a port is closed, so this opens it only once.
    let mut opened = None;
    wait::until(limit, &[Errno::NOENT, Errno::AGAIN], &mut |_| {
        let port = opened.take().map_or_else(|| open_now(devices, name), Ok)?;
        if is_connected(&port)? {
            return Ok(port);
        }
        opened = Some(port);
        Err(Errno::AGAIN)
    })
}

/// Opens the port `name` even if the host is not connected to it any more: the host may
/// have sent all its data and closed its end.
///
/// A port that was made later must be connected already. The host reports connections in
/// the order of the ports, so this port has been connected as well.
///
/// # Errors
/// As for [`open`], except EAGAIN.
pub fn open_input(devices: &Devices, name: &[u8], limit: Duration) -> Result<OwnedFd> {
    wait::until(limit, &[Errno::NOENT], &mut |_| open_now(devices, name))
}

/// Whether the host has its end of the port open.
pub fn is_connected(port: impl AsFd) -> Result<bool> {
    const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(&port, PollFlags::empty())];
    poll(&mut fds, Some(&NOW))?;
    Ok(fds.iter().all(|fd| !fd.revents().contains(PollFlags::HUP)))
}

fn open_now(devices: &Devices, name: &[u8]) -> Result<OwnedFd> {
    devices.open_node(&find(devices, name)?, OFlags::RDWR | OFlags::NONBLOCK)
}

/// The name below `/dev` of the port `name`.
fn find(devices: &Devices, name: &[u8]) -> Result<CString> {
    let class = devices.open_class(CLASS)?;
    for device in file::names_in(&class, &|_| true)? {
        let path = file::c_string(&[device.to_bytes(), b"/name"])?;
        // An entry without this file is no port.
        let found = file::read_at(class.as_fd(), &path);
        if found.is_ok_and(|found| found.trim_ascii_end() == name) {
            return Ok(device);
        }
    }
    Err(Errno::NOENT)
}
