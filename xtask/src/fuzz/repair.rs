//! Corrects check sums after damage, so that readers get past them to the damage.

use image::erofs;
use image::ustar::{self, BLOCK as TAR_BLOCK};

/// Changes nothing, for formats without sums or with sums that readers ignore.
pub(super) fn nothing(_: &mut [u8]) {}

/// Corrects the sum of each header (pax(1), ustar). The size in a header leads to the next
/// header.
pub(super) fn tar(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<TAR_BLOCK>) {
        at += TAR_BLOCK;
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        ustar::seal(block);
        let size = tar::Header::from_byte_slice(block).entry_size().unwrap_or_default();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        at = at.saturating_add(size.checked_next_multiple_of(TAR_BLOCK).unwrap_or(usize::MAX));
    }
}

/// Corrects the sum of each member with the magic `070702` (kernel doc:
/// driver-api/early-userspace/buffer-format.rst). A header has a magic of six bytes, then
/// fields of eight hexadecimal digits. The seventh field is the size of the data, the
/// twelfth the size of the name, the thirteenth the sum of the data's bytes.
pub(super) fn cpio(bytes: &mut [u8]) {
    const HEADER: usize = 110;
    let field = |index: usize| 6 + 8 * index..14 + 8 * index;
    let mut at = 0;
    while let Some(header) = bytes.get(at..).and_then(<[u8]>::first_chunk::<HEADER>) {
        let number = |index| {
            let digits = std::str::from_utf8(&header[field(index)]).ok()?;
            usize::from_str_radix(digits, 16).ok()
        };
        let (Some(size), Some(name_size)) = (number(6), number(11)) else { return };
        let start = (at + HEADER + name_size).next_multiple_of(4);
        let Some(data) = bytes.get(start..start + size) else { return };
        let sum = data.iter().fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
        if header.starts_with(b"070702") {
            let sum = format!("{sum:08x}");
            bytes[at..][field(12)].copy_from_slice(sum.as_bytes());
        }
        at = (start + size).next_multiple_of(4);
    }
}

/// Corrects the sum of the superblock.
pub(super) fn erofs(bytes: &mut [u8]) {
    erofs::seal(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_corrected() {
        let mut header = tar::Header::new_ustar();
        header.set_size(600);
        let mut archive = [header.as_bytes(), &[7; 1024][..], header.as_bytes()].concat();
        tar(&mut archive);
        for at in [0, 1536] {
            let mut again = tar::Header::from_byte_slice(&archive[at..at + 512]).clone();
            again.set_cksum();
            assert_eq!(again.as_bytes()[..], archive[at..at + 512], "{at}");
        }
        // The data of the member are unchanged.
        assert!(archive[512..1536].iter().all(|byte| *byte == 7));

        let fields = "00000003".repeat(11) + "00000002" + "00000000";
        let mut archive = [b"070702", fields.as_bytes(), b"a\0abc\0"].concat();
        cpio(&mut archive);
        assert_eq!(&archive[102..110], b"00000126");
    }

    #[test]
    fn truncated_input_is_left_alone() {
        for repair in [tar, cpio, erofs, nothing] {
            for length in [0, 1, 109, 110, 511, 4095] {
                let mut bytes = vec![b'0'; length];
                repair(&mut bytes);
                assert_eq!(bytes.len(), length);
            }
        }
    }
}
