//! The random pool of the kernel: ioctls that rustix does not offer.
//!
//! Interface: random(4).

#![allow(unsafe_code)]

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;

/// Bytes that [`mix`] takes.
pub const BYTES: usize = 64;

/// `RNDADDENTROPY` (include/uapi/linux/random.h): `_IOW('R', 0x03, int [2])`.
const ADD_ENTROPY: u32 = 0x4008_5203;

/// `RNDRESEEDCRNG`: `_IO('R', 0x07)`.
const RESEED: u32 = 0x5207;

/// `struct rand_pool_info` with a buffer.
#[repr(C)]
struct PoolInfo {
    /// Entropy of the buffer in bits.
    entropy: i32,
    /// Bytes in the buffer.
    size: i32,
    bytes: [u8; BYTES],
}

/// Mixes `bytes`, which nobody else knows, into the pool behind `random`, an open `/dev/random`,
/// and makes the kernel draw a new key from the pool.
///
/// # Errors
/// Errors of ioctl(2); ENOTTY before Linux 4.14, which has no such key.
pub fn mix(random: &OwnedFd, bytes: [u8; BYTES]) -> Result<(), Errno> {
    let info = PoolInfo { entropy: 8 * BYTES as i32, size: BYTES as i32, bytes };
    // SAFETY: the first request reads the structure, which has the size that its field says; the
    // second one takes no argument. The type of a request number differs between C libraries; its
    // bits do not.
    let results = unsafe {
        [
            libc::ioctl(random.as_raw_fd(), ADD_ENTROPY as _, &raw const info),
            libc::ioctl(random.as_raw_fd(), RESEED as _, 0),
        ]
    };
    match results {
        [0, 0] => Ok(()),
        // SAFETY: the location is this thread's own and always valid.
        _ => Err(Errno::from_raw_os_error(unsafe { *libc::__errno_location() })),
    }
}
