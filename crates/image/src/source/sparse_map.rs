//! Maps of the data in a sparse file, in the formats of GNU tar.
//!
//! Format: manual of GNU tar, "Storing Sparse Files": pairs of offset and length,
//! in records (0.0 and 0.1), before the data (1.0), or in headers (the old format).

use std::fs::File;

use anyhow::{Result, ensure};
use tar::GnuSparseHeader;

use crate::ustar::BLOCK;

/// Offset and length of each piece of data.
pub(super) type Map = Vec<(u64, u64)>;

/// Bytes of a map before the data: about a million pieces.
const MAP_MAX: u64 = 32 << 20;

/// The map that records have: offsets and lengths by turns.
///
/// # Errors
/// An offset without a length.
pub(super) fn of_records(numbers: &[u64]) -> Result<Map> {
    let (map, rest) = numbers.as_chunks::<2>();
    ensure!(rest.is_empty(), "half a piece in the map of a sparse file");
    Ok(map.iter().map(|[at, size]| (*at, *size)).collect())
}

/// The map in the data, which are from `offset` to `end`: lines with numbers, how
/// many pieces, then the offset and length of each, padded to a block. Gives it,
/// and where the bytes of the file begin.
///
/// # Errors
/// Lines that are no numbers; a map of more than 32 MiB.
pub(super) fn before_data(archive: &File, offset: u64, end: u64) -> Result<(Map, u64)> {
    let size = end.saturating_sub(offset).min(MAP_MAX);
    let mut blocks = super::buffered(archive, offset, size);
    let mut line = || super::number_line(&mut blocks);
    let count = line()?;
    // A number and its newline are two bytes at least.
    ensure!(
        count <= size / 4,
        "the map of a sparse file has {count} pieces, more than fit into its {size} bytes"
    );
    let numbers = (0..count * 2).map(|_| line()).collect::<Result<Vec<_>>>()?;
    let length: u64 = std::iter::once(&count).chain(&numbers).map(|&number| digits(number)).sum();
    Ok((of_records(&numbers)?, offset + length.next_multiple_of(BLOCK as u64)))
}

/// Bytes of a line with a number.
fn digits(number: u64) -> u64 {
    u64::from(number.checked_ilog10().unwrap_or_default()) + 2
}

/// Adds the pieces in headers.
///
/// # Errors
/// What is no number.
pub(super) fn add(headers: &[GnuSparseHeader], map: &mut Map) -> Result<()> {
    for header in headers.iter().filter(|header| !header.is_empty()) {
        map.push((header.offset()?, header.length()?));
    }
    Ok(())
}
