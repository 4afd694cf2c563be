//! Limits of the LZ4 block format (lz4_Block_format.md, "End of block conditions").

/// Fewest literals at the end of a block, in bytes (`LASTLITERALS`).
pub(super) const LAST_LITERALS: usize = 5;
/// Fewest bytes from the start of the last match to the end of the block (`MFLIMIT`).
pub(super) const MATCH_TO_END: usize = 12;
/// Shortest match, in bytes (`MINMATCH`).
pub(super) const MATCH_MIN: usize = 4;
/// Longest distance back to a match, in bytes (`LZ4_DISTANCE_MAX`).
pub(super) const DISTANCE_MAX: usize = 65535;
/// Value of a token's half that says that more bytes of the length follow (`RUN_MASK`,
/// `ML_MASK`).
pub(super) const CONTINUED: usize = 15;
/// Longest input of the compressor, in bytes: its tables hold positions up to this.
pub(in crate::erofs) const INPUT_MAX: usize = 1 << 20;
