//! The random pool of the kernel: ioctls that rustix does not offer.
//!
//! Interface: random(4).
//!
//! # Safety
//! Each structure or null pointer is passed to the request that is documented to take it.

#![allow(unsafe_code)]

use core::ffi::{c_int, c_ulong};
use core::ptr;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::ioctl::opcode;

use super::ioctl;

/// Bytes that [`mix`] takes.
const BYTES: u8 = 64;

/// `RNDADDENTROPY` (include/uapi/linux/random.h): `_IOW('R', 0x03, int [2])`.
// The type of a request number differs between C libraries; its bits do not.
#[allow(clippy::cast_lossless, clippy::cast_sign_loss)]
const ADD_ENTROPY: c_ulong = opcode::write::<[c_int; 2]>(b'R', 3) as c_ulong;

/// `RNDRESEEDCRNG`: `_IO('R', 0x07)`.
// As above.
#[allow(clippy::cast_lossless, clippy::cast_sign_loss)]
const RESEED: c_ulong = opcode::none(b'R', 7) as c_ulong;

/// `struct rand_pool_info` with a buffer.
#[repr(C)]
struct PoolInfo {
    /// Entropy of the buffer in bits.
    entropy: c_int,
    /// Bytes in the buffer.
    size: c_int,
    bytes: [u8; BYTES as usize],
}

/// Mixes `bytes`, which nobody else knows, into the pool behind `random`, an open `/dev/random`,
/// and makes the kernel draw a new key from the pool.
///
/// # Errors
/// Errors of ioctl(2). ENOTTY before Linux 4.14, which cannot draw a new key.
pub fn mix(random: &OwnedFd, bytes: [u8; BYTES as usize]) -> Result<(), Errno> {
    let size = c_int::from(BYTES);
    let mut info = PoolInfo { entropy: 8 * size, size, bytes };
    ioctl(random, ADD_ENTROPY, (&raw mut info).cast())?;
    ioctl(random, RESEED, ptr::null_mut())
}
