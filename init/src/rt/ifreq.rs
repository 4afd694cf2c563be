//! Addresses and flags of network interfaces, and the default route.
//!
//! Interface: netdevice(7), `SIOCADDRT` of `include/uapi/linux/route.h`.
//!
//! # Safety
//! All structures are valid when zeroed. Safe code fills them in, and each is passed to the
//! request that is documented to take it.

#![allow(unsafe_code)]

use core::ffi::c_char;
use core::mem;

use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::ioctl;

/// An IPv4 address.
pub type Address = [u8; 4];

/// Gives the interface `name` an address and a network mask.
pub fn set_address(
    socket: &OwnedFd,
    name: &[u8],
    address: Address,
    mask: Address,
) -> Result<(), Errno> {
    for (request, address) in [(libc::SIOCSIFADDR, address), (libc::SIOCSIFNETMASK, mask)] {
        let mut interface = interface(name)?;
        interface.ifr_ifru.ifru_addr = internet(address);
        ioctl(socket, request, (&raw mut interface).cast())?;
    }
    Ok(())
}

/// Brings the interface `name` up.
pub fn bring_up(socket: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let mut interface = interface(name)?;
    ioctl(socket, libc::SIOCGIFFLAGS, (&raw mut interface).cast())?;
    // SAFETY: the request has just filled in this member; any bits are a value.
    let flags = unsafe { interface.ifr_ifru.ifru_flags };
    // The flag is bit 0 of 16.
    #[allow(clippy::cast_possible_truncation)]
    let up = libc::IFF_UP as i16;
    interface.ifr_ifru.ifru_flags = flags | up;
    ioctl(socket, libc::SIOCSIFFLAGS, (&raw mut interface).cast())
}

/// Adds `gateway` as the default route.
pub fn add_default_route(socket: &OwnedFd, gateway: Address) -> Result<(), Errno> {
    // SAFETY: numbers and pointers, all of which may be zero.
    let mut route: libc::rtentry = unsafe { mem::zeroed() };
    route.rt_dst = internet([0; 4]);
    route.rt_genmask = internet([0; 4]);
    route.rt_gateway = internet(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    ioctl(socket, libc::SIOCADDRT, (&raw mut route).cast())
}

fn interface(name: &[u8]) -> Result<libc::ifreq, Errno> {
    // SAFETY: numbers and bytes, all of which may be zero.
    let mut interface: libc::ifreq = unsafe { mem::zeroed() };
    // The last byte stays NUL.
    if name.len() >= interface.ifr_name.len() {
        return Err(Errno::NAMETOOLONG);
    }
    for (slot, byte) in interface.ifr_name.iter_mut().zip(name) {
        *slot = c_char::from_ne_bytes([*byte]);
    }
    Ok(interface)
}

/// A `sockaddr` that is a `sockaddr_in` (ip(7)).
fn internet(address: Address) -> libc::sockaddr {
    const PORT_BYTES: usize = 2;
    let mut data = [0; 14];
    for (slot, byte) in data.iter_mut().skip(PORT_BYTES).zip(address) {
        *slot = c_char::from_ne_bytes([byte]);
    }
    // The family is 2.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let family = libc::AF_INET as libc::sa_family_t;
    libc::sockaddr { sa_family: family, sa_data: data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lie_behind_the_port() {
        let address = internet([10, 0, 2, 15]);
        assert_eq!(address.sa_data[..7], [0, 0, 10, 0, 2, 15, 0]);
    }

    #[test]
    fn names_fit_with_their_nul() {
        assert!(interface(b"eth0").is_ok_and(|interface| interface.ifr_name[4] == 0));
        assert_eq!(interface(&[b'x'; 16]).err(), Some(Errno::NAMETOOLONG));
    }
}
