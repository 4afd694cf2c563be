//! Device numbers as Linux stores them in 32 bits: 12 bits for the major number, 20 for the
//! minor number (`new_encode_dev`, `include/linux/kdev_t.h`).

use anyhow::{Result, ensure};

/// Packs the numbers of a device.
///
/// # Errors
/// A number that does not fit into its bits.
pub(crate) fn encode(major: u32, minor: u32) -> Result<u32> {
    ensure!(
        major < 1 << 12 && minor < 1 << 20,
        "device {major}:{minor}: there are 12 bits for the first number, 20 for the second"
    );
    Ok(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

/// Unpacks a number that [`encode`] packed.
pub(crate) fn decode(device: u32) -> (u32, u32) {
    (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00)
}
