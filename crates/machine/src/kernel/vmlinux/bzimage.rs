//! Where a bzImage has the compressed kernel.
//!
//! Interface: the setup header (kernel doc: arch/x86/boot.rst). Its fields lie at
//! fixed offsets of the image and are little endian: `setup_sects` at 0x1f1 (one
//! byte; 0 means 4), the magic `HdrS` at 0x202, the protocol's `version` at 0x206
//! (two bytes), `payload_offset` at 0x248 and `payload_length` at 0x24c (four
//! bytes each; since protocol 2.08), and `syssize` at 0x1f4, the size of all that
//! follows the setup sectors (four bytes since 2.04). The offset counts from the end of the setup
//! sectors, which is that of `setup_sects` sectors and the boot sector.

use anyhow::{Context, Result};

/// What is at [`MAGIC`].
const HEADER_MAGIC: &[u8] = b"HdrS";
/// Offset of the magic.
const MAGIC: usize = 0x202;
/// Offset of `version`.
const VERSION: usize = 0x206;
/// Offset of `setup_sects`.
const SETUP_SECTORS: usize = 0x1f1;
/// What a `setup_sects` of 0 means.
const SETUP_SECTORS_DEFAULT: usize = 4;
/// Offset of `payload_offset`, which `payload_length` follows.
const PAYLOAD: usize = 0x248;
/// The first protocol that tells where the payload is.
const PROTOCOL_WITH_PAYLOAD: u16 = 0x208;
/// Bytes.
const SECTOR: usize = 512;
/// Offset of `syssize`: what follows the setup sectors, in paragraphs.
const SIZE: usize = 0x1f4;
/// Bytes of a paragraph.
const PARAGRAPH: u64 = 16;
/// The first protocol whose `syssize` has four bytes.
const PROTOCOL_WITH_SIZE: u16 = 0x204;

/// Where the fields end.
pub const HEADER_END: usize = PAYLOAD + 8;

/// Whether `image`, of which the first bytes do, is a bzImage.
#[must_use]
pub fn is_bzimage(image: &[u8]) -> bool {
    image.get(MAGIC..).is_some_and(|found| found.starts_with(HEADER_MAGIC))
}

/// Whether `image`, of which the first bytes do, is a bzImage that tells where
/// its payload is; Linux does since 2.6.26.
#[must_use]
pub fn has_payload(image: &[u8]) -> bool {
    let version = number(image, VERSION).map(u16::from_le_bytes);
    is_bzimage(image) && version.is_some_and(|version| version >= PROTOCOL_WITH_PAYLOAD)
}

/// The compressed kernel in `image`; `None` where [`has_payload`] is false.
///
/// # Errors
/// It is said to be outside of the image.
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

/// Smallest size in bytes of a bzImage that begins with `image`, by its header; a
/// signature may follow. `None` if the header is cut.
#[must_use]
pub fn size(image: &[u8]) -> Option<u64> {
    let version = u16::from_le_bytes(number(image, VERSION)?);
    image.get(..HEADER_END)?;
    let setup = (setup_sectors(image)? + 1) * SECTOR;
    // Before 2.04 the field had two bytes, and boot loaders wrote into the next two.
    let paragraphs = match version >= PROTOCOL_WITH_SIZE {
        true => u32::from_le_bytes(number(image, SIZE)?),
        false => 0,
    };
    Some(setup as u64 + u64::from(paragraphs) * PARAGRAPH)
}

fn setup_sectors(image: &[u8]) -> Option<usize> {
    Some(match usize::from(*image.get(SETUP_SECTORS)?) {
        0 => SETUP_SECTORS_DEFAULT,
        sectors => sectors,
    })
}

fn number<const N: usize>(image: &[u8], at: usize) -> Option<[u8; N]> {
    image.get(at..)?.first_chunk().copied()
}

/// A bzImage around `payload`, for tests.
///
/// # Panics
/// A payload of more than 4 GiB.
#[must_use]
pub fn wrap(payload: &[u8]) -> Vec<u8> {
    const SECTORS: u8 = 3;
    let mut image = vec![0; (usize::from(SECTORS) + 1) * SECTOR];
    image[SETUP_SECTORS] = SECTORS;
    image[MAGIC..MAGIC + 4].copy_from_slice(HEADER_MAGIC);
    image[VERSION..VERSION + 2].copy_from_slice(&0x20f_u16.to_le_bytes());
    image[PAYLOAD..PAYLOAD + 4].copy_from_slice(&7_u32.to_le_bytes());
    let length = u32::try_from(payload.len()).unwrap();
    image[PAYLOAD + 4..PAYLOAD + 8].copy_from_slice(&length.to_le_bytes());
    image.extend([0xcc; 7]);
    image.extend(payload);
    image.extend(b"crc!");
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_payload_is_where_the_header_says() {
        assert_eq!(payload(&wrap(b"kernel")).unwrap(), Some(&b"kernel"[..]));
    }

    #[test]
    fn what_does_not_tell_has_none() {
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
    fn a_cut_or_lying_image_is_an_error() {
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

    proptest! {
        #[test]
        fn no_header_panics(bytes in prop::collection::vec(any::<u8>(), 0x260)) {
            let mut image = wrap(b"kernel");
            image[..0x260].copy_from_slice(&bytes);
            image[MAGIC..MAGIC + 4].copy_from_slice(HEADER_MAGIC);
            let _ = payload(&image); // whatever it says
        }
    }
}
