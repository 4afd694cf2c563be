//! LZ4 blocks: a compressor that fills a given space, and a decompressor that stops when
//! it has enough.
//!
//! Format: lz4_Block_format.md of LZ4. A block is a list of sequences. A sequence is a
//! token, literals, and the distance back to a match (u16, little endian). The token's
//! upper half is the number of literals, its lower half the length of the match minus 4.
//! A half of 15 is continued: bytes of 255 and one below 255 are added to it. The last
//! sequence has literals only.

mod fill;
mod format;
mod matches;
mod unpack;

pub(super) use fill::fill;
pub(super) use format::INPUT_MAX;
pub(super) use matches::{Chains, Newest, Search};
pub(super) use unpack::unpack;
