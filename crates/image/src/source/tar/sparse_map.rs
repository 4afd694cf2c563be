//! Maps of sparse files in the formats of GNU tar: offset and length of each piece of data.
//!
//! Format: manual of GNU tar, "Storing Sparse Files". The map is in the records of an
//! extended header (versions 0.0 and 0.1), at the start of the data (1.0), or in headers
//! (the old format).

use std::fs::File;

use anyhow::{Result, ensure};
use tar::GnuSparseHeader;

use crate::ustar::BLOCK;

/// Offset and length of each piece of data in a sparse file.
pub(super) type SparseMap = Vec<(u64, u64)>;

/// Most bytes of a map before the data; enough for about a million pieces.
const MAP_MAX: u64 = 32 << 20;

/// The map in the records of an extended header: offset and length of each piece, one
/// number after another.
///
/// # Errors
/// An offset without a length.
pub(super) fn of_records(numbers: &[u64]) -> Result<SparseMap> {
    let (map, rest) = numbers.as_chunks::<2>();
    ensure!(rest.is_empty(), "half a piece in the map of a sparse file");
    Ok(map.iter().map(|[at, size]| (*at, *size)).collect())
}

/// Reads the map at the start of a member's data, which is in the archive from `offset` to
/// `end`. The map consists of lines with decimal numbers: the number of pieces, then offset
/// and length of each piece; it is padded to a block. Returns the map, and the offset of the
/// first byte after it.
///
/// # Errors
/// A line that is not a number; a map of more than 32 MiB.
pub(super) fn before_data(archive: &File, offset: u64, end: u64) -> Result<(SparseMap, u64)> {
    let size = end.saturating_sub(offset).min(MAP_MAX);
    let mut blocks = crate::source::buffered(archive, offset, size);
    let mut line = || crate::source::number_line(&mut blocks);
    let count = line()?;
    // Two lines for each piece, each of at least two bytes.
    ensure!(
        count <= size / 4,
        "the map of a sparse file has {count} pieces, more than fit into its {size} bytes"
    );
    let numbers = (0..count * 2).map(|_| line()).collect::<Result<Vec<_>>>()?;
    let length: u64 = std::iter::once(&count).chain(&numbers).map(|&number| digits(number)).sum();
    Ok((of_records(&numbers)?, offset + length.next_multiple_of(BLOCK as u64)))
}

/// Bytes of the line with a number, its newline included.
fn digits(number: u64) -> u64 {
    u64::from(number.checked_ilog10().unwrap_or_default()) + 2
}

/// Adds the pieces in the fields of a header to `map`.
///
/// # Errors
/// A field that is not a number.
pub(super) fn add(headers: &[GnuSparseHeader], map: &mut SparseMap) -> Result<()> {
    for header in headers.iter().filter(|header| !header.is_empty()) {
        map.push((header.offset()?, header.length()?));
    }
    Ok(())
}
