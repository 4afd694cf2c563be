//! The network of a machine: always loopback, and QEMU's user network if the run file asks
//! for it.
//!
//! Interfaces: netdevice(7), resolv.conf(5). The addresses of QEMU's user network are the
//! same in every machine (QEMU doc: system/devices/net), so that no DHCP is needed.

use alloc::ffi::CString;
use core::time::Duration;

use proto::settings::Settings;
use proto::text::show;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::report::log;
use crate::root::new_root::NewRoot;
use crate::rt::ifreq::{self, Address};
use crate::sys::devices::Devices;
use crate::sys::error::{Context, ErrnoName, Hints, Result};
use crate::sys::wait;

/// Name of the loopback interface.
const LOOPBACK: &[u8] = b"lo";
/// Address of the guest in QEMU's user network.
const GUEST: Address = [10, 0, 2, 15];
/// That address as text.
const GUEST_TEXT: &[u8] = b"10.0.2.15";
/// Address of the machine's name without that network, as Debian has it.
const OWN_TEXT: &[u8] = b"127.0.1.1";
/// Mask of that network.
const MASK: Address = [255, 255, 255, 0];
/// Address of the host in that network.
const GATEWAY: Address = [10, 0, 2, 2];
/// Contents of `/etc/resolv.conf`: the name server of that network.
const RESOLV_CONF: &[u8] = b"nameserver 10.0.2.3\n";

/// Hints for a missing interface.
#[rustfmt::skip]
const HINTS: Hints = &[
    (Some(Errno::NOENT), "no network interface; the module virtio_net must be packed"),
];

/// Brings loopback up. A kernel without network support is not an error.
pub fn bring_up_loopback() {
    let result = open_socket().and_then(|socket| ifreq::bring_up(&socket, LOOPBACK));
    if let Err(errno) = result {
        log::debug!("no loopback: {}", ErrnoName(errno));
    }
}

/// Gives the first interface its address, and writes the name server to the root.
pub fn set_up(devices: &Devices, new_root: &NewRoot, limit: Duration) -> Result<()> {
    let name = wait::until(limit, &[Errno::NOENT], &mut |_| find_interface(devices))
        .hinted(format_args!("find a network interface"), HINTS)?;
    configure(&name).context(format_args!("set up network interface {}", show(name.to_bytes())))?;
    if let Err(errno) = new_root.provide_file(b"/etc/resolv.conf", c"resolv.conf", RESOLV_CONF) {
        log::warn!(
            "no name resolution: the root has no /etc/resolv.conf to be replaced ({}); make \
             one, or use --overlay",
            ErrnoName(errno)
        );
    }
    Ok(())
}

/// Address of the name of the machine.
#[must_use]
pub fn address(settings: &Settings<'_>) -> &'static [u8] {
    if settings.network { GUEST_TEXT } else { OWN_TEXT }
}

fn find_interface(devices: &Devices) -> Result<CString, Errno> {
    let names = devices.network_interfaces()?;
    names.into_iter().find(|name| name.to_bytes() != LOOPBACK).ok_or(Errno::NOENT)
}

fn configure(name: &CString) -> Result<(), Errno> {
    let socket = open_socket()?;
    ifreq::set_address(&socket, name.to_bytes(), GUEST, MASK)?;
    ifreq::bring_up(&socket, name.to_bytes())?;
    ifreq::add_default_route(&socket, GATEWAY)
}

fn open_socket() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}
