//! The end of a template's file: which parts of it have data, and digests of them.
//!
//! All numbers are little endian. The file is as long as its parts together:
//!
//! | Part | Length | Content |
//! |---|---|---|
//! | memory | M | the memory of the machine; pages of zeros are holes |
//! | state | S | the state of the devices, as QEMU migrates it |
//! | table | 32 × N | for each extent of the memory: offset (8), length (8), checksum (16) |
//! | end | 128 | see below |
//!
//! | Offset | Length | Field of the end |
//! |---|---|---|
//! | 0 | 8 | `MAGIC` |
//! | 8 | 4 | `VERSION` |
//! | 12 | 4 | N |
//! | 16 | 8 | M |
//! | 24 | 8 | S |
//! | 32 | 32 | the key of the template |
//! | 64 | 32 | digest of the state |
//! | 96 | 32 | digest of the table and of the end up to here |
//!
//! Extents are sorted, do not overlap, have at most `EXTENT_MAX` bytes each, and consist of
//! whole pages. Everything else of the memory is zero. The digests are BLAKE3 hashes. The
//! checksums are XXH3 with 128 bits, which takes a fifth of the time. Both find damage only:
//! whoever can write to the file can make either fit.

use anyhow::{Context, Result, ensure};
use twox_hash::XxHash3_128;

/// First bytes of the end.
const MAGIC: &[u8; 8] = b"VIRTWARM";
/// Version of this format.
pub(super) const VERSION: u32 = 2;
/// Length in bytes of the end.
pub(super) const END: usize = 128;
/// Length in bytes of an entry of the table.
const ENTRY: usize = 32;
/// Length in bytes of a digest.
const DIGEST: usize = blake3::OUT_LEN;
/// Bytes of the end that its own digest covers.
const DIGESTED: usize = END - DIGEST;

/// Bytes of a page of the guest.
pub(super) const PAGE: u64 = 4096;
/// Most bytes of an extent.
pub(super) const EXTENT_MAX: u64 = 4 << 20;
/// Most bytes of memory that have data. A machine that waits for its orders has about 90 MB.
pub(super) const DATA_MAX: u64 = 1 << 30;
/// Most extents: each page of [`DATA_MAX`] alone.
const EXTENTS_MAX: u64 = DATA_MAX / PAGE;
/// Most bytes of the state of devices, which has about 150 KB.
pub const STATE_MAX: u64 = 16 << 20;

/// A part of the memory that has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Offset in bytes.
    pub(super) offset: u64,
    /// Length in bytes.
    pub(super) length: u64,
    /// Checksum of the bytes.
    pub(super) checksum: u128,
}

/// What follows the memory and the state in a template's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    /// Length of the memory.
    pub(super) memory: u64,
    /// Length of the state.
    pub(super) state: u64,
    /// The key of the template.
    pub(super) key: blake3::Hash,
    /// Digest of the state.
    pub(super) state_digest: blake3::Hash,
    /// The parts of the memory that have data.
    pub(super) extents: Vec<Extent>,
}

impl Footer {
    /// Table and end as bytes.
    ///
    /// # Errors
    /// There are too many extents.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.extents.len() * ENTRY + END);
        for Extent { offset, length, checksum } in &self.extents {
            bytes.extend(offset.to_le_bytes());
            bytes.extend(length.to_le_bytes());
            bytes.extend(checksum.to_le_bytes());
        }
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(u32::try_from(self.extents.len())?.to_le_bytes());
        bytes.extend(self.memory.to_le_bytes());
        bytes.extend(self.state.to_le_bytes());
        bytes.extend(self.key.as_bytes());
        bytes.extend(self.state_digest.as_bytes());
        bytes.extend(blake3::hash(&bytes).as_bytes());
        Ok(bytes)
    }

    /// Length of table and end, from the last bytes of a file.
    ///
    /// # Errors
    /// They are not the end of a template, or of one of another version.
    pub(super) fn length(end: &[u8; END]) -> Result<u64> {
        let mut fields = Fields(end);
        ensure!(&fields.array()? == MAGIC, "it is not a template");
        let version = fields.u32()?;
        ensure!(version == VERSION, "its version is {version}, and not {VERSION}");
        let extents = u64::from(fields.u32()?);
        ensure!(extents <= EXTENTS_MAX, "{extents} extents are too many");
        Ok(extents * ENTRY as u64 + END as u64)
    }

    /// Reads table and end of a file that has `length` bytes.
    ///
    /// # Errors
    /// They are damaged, or do not fit the file.
    pub(super) fn parse(bytes: &[u8], length: u64) -> Result<Self> {
        let (table, end) = bytes.split_last_chunk::<END>().context("its end is missing")?;
        ensure!(Self::length(end)? == bytes.len() as u64, "its table has a wrong length");
        let (digested, digest) = bytes.split_at(table.len() + DIGESTED);
        ensure!(blake3::hash(digested).as_bytes() == digest, "its table is damaged");
        let mut fields = Fields(&end[16..]);
        let (memory, state) = (fields.u64()?, fields.u64()?);
        let (key, state_digest) = (fields.digest()?, fields.digest()?);
        ensure!(state <= STATE_MAX, "{state} bytes of state are too many");
        let sum = memory.checked_add(state).and_then(|sum| sum.checked_add(bytes.len() as u64));
        ensure!(sum == Some(length), "it has {length} bytes, and its parts have others");
        let (entries, _) = table.as_chunks::<ENTRY>();
        let extents = entries.iter().map(|entry| {
            let mut fields = Fields(entry);
            let (offset, length) = (fields.u64()?, fields.u64()?);
            Ok(Extent { offset, length, checksum: u128::from_le_bytes(fields.array()?) })
        });
        let extents = extents.collect::<Result<Vec<_>>>()?;
        check(&extents, memory)?;
        Ok(Self { memory, state, key, state_digest, extents })
    }
}

/// Corrects the digests and checksums of a template's file after a change of other bytes.
pub fn seal(file: &mut [u8]) {
    let Some(table_end) = file.len().checked_sub(END) else { return };
    let mut end = Fields(&file[table_end + 12..]);
    let (Ok(count), Ok(memory), Ok(state)) = (end.u32(), end.u64(), end.u64()) else { return };
    let table_length = (count as usize).saturating_mul(ENTRY);
    let Some(table) = table_end.checked_sub(table_length) else { return };
    let part = |file: &[u8], offset: u64, length: u64| {
        let (start, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
        Some(file.get(start..start.checked_add(length)?)?.to_vec())
    };
    for entry in (table..table_end).step_by(ENTRY) {
        let mut fields = Fields(&file[entry..]);
        let (Ok(offset), Ok(length)) = (fields.u64(), fields.u64()) else { return };
        if let Some(bytes) = part(file, offset, length) {
            let checksum = XxHash3_128::oneshot(&bytes).to_le_bytes();
            file[entry + 16..entry + ENTRY].copy_from_slice(&checksum);
        }
    }
    if let Some(bytes) = part(file, memory, state) {
        let digest = blake3::hash(&bytes);
        file[table_end + 64..table_end + DIGESTED].copy_from_slice(digest.as_bytes());
    }
    let sum = blake3::hash(&file[table..table_end + DIGESTED]);
    file[table_end + DIGESTED..].copy_from_slice(sum.as_bytes());
}

/// Checks that `extents` are sorted parts of so many bytes of memory.
fn check(extents: &[Extent], memory: u64) -> Result<()> {
    let (mut end, mut data) = (0, 0);
    for Extent { offset, length, .. } in extents {
        let is_valid = *offset >= end
            && (1..=EXTENT_MAX).contains(length)
            && offset % PAGE == 0
            && length % PAGE == 0
            && offset.checked_add(*length).is_some_and(|end| end <= memory);
        ensure!(is_valid, "extent {length} at {offset} is not a part of its memory");
        end = offset + length;
        data += length;
    }
    ensure!(data <= DATA_MAX, "{data} bytes of memory are too many");
    Ok(())
}

/// Fields that are read one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk().context("its end is cut off")?;
        self.0 = rest;
        Ok(*array)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn digest(&mut self) -> Result<blake3::Hash> {
        self.array().map(blake3::Hash::from_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: u64 = 1 << 30;

    fn footer(extents: &[(u64, u64)]) -> Footer {
        let digest = blake3::hash(b"");
        let extent = |(offset, length): &(u64, u64)| Extent {
            offset: *offset,
            length: *length,
            checksum: u128::from(*offset) << 64,
        };
        let extents = extents.iter().map(extent).collect();
        Footer { memory: MEMORY, state: 9, key: digest, state_digest: digest, extents }
    }

    #[test]
    fn a_footer_is_read_as_it_was_written() {
        let footer = footer(&[(0, PAGE), (PAGE, EXTENT_MAX), (MEMORY - PAGE, PAGE)]);
        let bytes = footer.to_bytes().unwrap();
        assert_eq!(bytes.len(), 3 * 32 + 128);
        assert_eq!(&bytes[96..108], b"VIRTWARM\x02\0\0\0");
        let length = MEMORY + 9 + bytes.len() as u64;
        assert_eq!(Footer::parse(&bytes, length).unwrap(), footer);
        for wrong in [0, length - 1, length + 1, u64::MAX] {
            assert!(Footer::parse(&bytes, wrong).is_err(), "{wrong}");
        }
        assert!(Footer::parse(&bytes[1..], length - 1).is_err());
    }

    #[test]
    fn extents_are_sorted_parts_of_the_memory() {
        for (name, extents) in [
            ("empty", &[(0, 0)][..]),
            ("twice", &[(0, PAGE), (0, PAGE)]),
            ("overlap", &[(0, 2 * PAGE), (PAGE, PAGE)]),
            ("not sorted", &[(PAGE, PAGE), (0, PAGE)]),
            ("not at a page", &[(1, PAGE)]),
            ("not whole pages", &[(0, PAGE - 1)]),
            ("too long", &[(0, EXTENT_MAX + PAGE)]),
            ("behind the memory", &[(MEMORY, PAGE)]),
            ("across the end", &[(MEMORY - PAGE, 2 * PAGE)]),
            ("without bounds", &[(u64::MAX - PAGE + 1, PAGE)]),
        ] {
            let bytes = footer(extents).to_bytes().unwrap();
            let length = MEMORY + 9 + bytes.len() as u64;
            assert!(Footer::parse(&bytes, length).is_err(), "{name}");
        }
    }
}
