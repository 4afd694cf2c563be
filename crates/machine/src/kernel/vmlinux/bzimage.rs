//! The setup header of a bzImage: recognition, size, version, compressed kernel.
//!
//! Interface: kernel doc arch/x86/boot.rst, `struct setup_header`. The fields lie at fixed
//! offsets of the image and are little endian:
//!
//! | Offset | Bytes | Field | Since protocol |
//! |---|---|---|---|
//! | 0x1f1 | 1 | `setup_sects`; 0 means 4 | |
//! | 0x1f4 | 4 | `syssize`, in units of 16 bytes: all that follows the setup sectors | 2.04 |
//! | 0x202 | 4 | `header`, the magic `HdrS` | 2.00 |
//! | 0x206 | 2 | `version` of the protocol | 2.00 |
//! | 0x20e | 2 | `kernel_version`, the offset of the version's text less 0x200 | 2.00 |
//! | 0x248 | 4 | `payload_offset`, counted from the end of the setup sectors | 2.08 |
//! | 0x24c | 4 | `payload_length` | 2.08 |
//!
//! The setup sectors end after one boot sector and `setup_sects` more sectors.

use anyhow::{Context, Result};

/// Value of `header` (kernel: `HdrS`).
const HEADER_MAGIC: &[u8] = b"HdrS";
/// Offset of `header`.
const MAGIC: usize = 0x202;
/// Offset of `version`.
const VERSION: usize = 0x206;
/// Offset of `kernel_version`.
const KERNEL_VERSION: usize = 0x20e;
/// Bytes to add to `kernel_version` for the offset of the version's text.
const KERNEL_VERSION_BASE: usize = 0x200;
/// Offset of `setup_sects`.
const SETUP_SECTORS: usize = 0x1f1;
/// Meaning of the value 0 of `setup_sects`.
const SETUP_SECTORS_DEFAULT: usize = 4;
/// Offset of `payload_offset`; `payload_length` follows it.
const PAYLOAD: usize = 0x248;
/// First protocol with `payload_offset` (2.08).
const PROTOCOL_WITH_PAYLOAD: u16 = 0x208;
/// Size of a sector in bytes.
const SECTOR: usize = 512;
/// Offset of `syssize`.
const SIZE: usize = 0x1f4;
/// Unit of `syssize` in bytes.
const PARAGRAPH: u64 = 16;
/// First protocol in which `syssize` has four bytes (2.04).
const PROTOCOL_WITH_SIZE: u16 = 0x204;

/// Offset of the end of the fields that are read here.
pub const HEADER_END: usize = PAYLOAD + 8;

/// Whether `image` is a bzImage; its first bytes suffice.
#[must_use]
pub fn is_bzimage(image: &[u8]) -> bool {
    image.get(MAGIC..).is_some_and(|found| found.starts_with(HEADER_MAGIC))
}

/// Whether `image` is a bzImage that tells where its payload is, as Linux does since 2.6.26;
/// its first bytes suffice.
#[must_use]
pub fn has_payload(image: &[u8]) -> bool {
    let version = number(image, VERSION).map(u16::from_le_bytes);
    is_bzimage(image) && version.is_some_and(|version| version >= PROTOCOL_WITH_PAYLOAD)
}

/// The version of a bzImage, such as `6.1.0-56-cloud-amd64`, from its first bytes; `None` if
/// `image` is not a bzImage.
#[must_use]
pub fn version(image: &[u8]) -> Option<String> {
    if !is_bzimage(image) {
        return None;
    }
    let offset = u16::from_le_bytes(number(image, KERNEL_VERSION)?);
    let text = image.get(usize::from(offset) + KERNEL_VERSION_BASE..)?;
    let end = text.iter().position(|byte| byte.is_ascii_whitespace() || *byte == 0)?;
    let version = std::str::from_utf8(text.get(..end)?).ok()?;
    // The version becomes part of a path.
    (!version.is_empty() && !version.starts_with('.') && !version.contains('/'))
        .then(|| version.to_owned())
}

/// The compressed kernel in `image`; `None` if [`has_payload`] is false.
///
/// # Errors
/// According to the header, the payload ends behind the image.
pub fn payload(image: &[u8]) -> Result<Option<&[u8]>> {
    if !has_payload(image) {
        return Ok(None);
    }
    let range = || {
        let offset = u32::from_le_bytes(number(image, PAYLOAD)?) as usize;
        let length = u32::from_le_bytes(number(image, PAYLOAD + 4)?) as usize;
        let start = (setup_sectors(image)? + 1) * SECTOR + offset;
        image.get(start..start + length)
    };
    range().map(Some).context("the image is cut: its compressed kernel ends behind it")
}

/// Smallest size in bytes of the bzImage that begins with `image`, according to its header.
/// A signature may follow. `None` if the header is cut.
#[must_use]
pub fn size(image: &[u8]) -> Option<u64> {
    let version = u16::from_le_bytes(number(image, VERSION)?);
    image.get(..HEADER_END)?;
    let setup = (setup_sectors(image)? + 1) * SECTOR;
    // Before protocol 2.04 the field had two bytes, and boot loaders wrote into the next two.
    let paragraphs = match version >= PROTOCOL_WITH_SIZE {
        true => u32::from_le_bytes(number(image, SIZE)?),
        false => 0,
    };
    Some(setup as u64 + u64::from(paragraphs) * PARAGRAPH)
}

/// Number of setup sectors, without the boot sector.
fn setup_sectors(image: &[u8]) -> Option<usize> {
    Some(match usize::from(*image.get(SETUP_SECTORS)?) {
        0 => SETUP_SECTORS_DEFAULT,
        sectors => sectors,
    })
}

/// The `N` bytes at offset `at`.
fn number<const N: usize>(image: &[u8], at: usize) -> Option<[u8; N]> {
    image.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::super::samples::bzimage as wrap;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_header_tells_where_the_payload_is() {
        assert_eq!(payload(&wrap(b"kernel")).unwrap(), Some(&b"kernel"[..]));
    }

    #[test]
    fn other_images_have_no_payload() {
        let mut old = wrap(b"kernel");
        old[VERSION] = 7;
        let mut unmarked = wrap(b"kernel");
        unmarked[MAGIC] = b'h';
        for (name, image) in [
            ("old", &old[..]),
            ("unmarked", &unmarked),
            ("empty", b""),
            ("short", &old[..=VERSION]),
            ("ELF", b"\x7fELF"),
        ] {
            assert_eq!(payload(image).unwrap(), None, "{name}");
        }
    }

    #[test]
    fn a_payload_outside_of_the_image_is_an_error() {
        let image = wrap(b"kernel");
        let end = image.len() - b"crc!".len();
        assert!(payload(&image[..end]).is_ok());
        let mut far = image.clone();
        far[PAYLOAD..PAYLOAD + 8].copy_from_slice(&[0xff; 8]);
        for (name, image) in [
            ("cut", &image[..end - 1]),
            ("cut in the header", &image[..PAYLOAD + 5]),
            ("far", &far),
        ] {
            let error = payload(image).unwrap_err().to_string();
            assert!(error.contains("is cut"), "{name}: {error}");
        }
    }

    #[test]
    fn the_version_is_read_from_the_image() {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x300..0x30f].copy_from_slice(b"6.1.0-9 (me) #1");
        assert_eq!(version(&image).unwrap(), "6.1.0-9");
        image[0x300..0x303].copy_from_slice(b"../");
        assert_eq!(version(&image), None);
        assert_eq!(version(&image[..0x2ff]), None);
        assert_eq!(version(b"\x7fELF"), None);
    }

    proptest! {
        #[test]
        fn no_header_panics(bytes in prop::collection::vec(any::<u8>(), 0x260)) {
            let mut image = wrap(b"kernel");
            image[..0x260].copy_from_slice(&bytes);
            image[MAGIC..MAGIC + 4].copy_from_slice(HEADER_MAGIC);
            let _ = payload(&image); // any result is fine
        }
    }
}
