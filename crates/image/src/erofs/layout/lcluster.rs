//! Cluster map of a compressed file: constants of its header and entries.
//!
//! Format: `struct z_erofs_map_header` and `struct z_erofs_lcluster_index` in
//! `fs/erofs/erofs_fs.h`. The map starts at the next multiple of 8 after the inode and
//! its attributes.
//!
//! | Header | Bytes | Field |
//! |---|---|---|
//! | 2 | 2 | `h_idata_size`: bytes of the last extent, if it follows the map |
//! | 4 | 2 | `h_advise` |
//! | 6 | 1 | `h_algorithmtype`: one compressor in each nibble |
//! | 7 | 1 | `h_clusterbits`: base 2 logarithm of a logical cluster, minus 12 |
//!
//! The full kind has 8 reserved bytes between the header and the entries. It has one
//! entry for each block of the file:
//!
//! | Entry | Bytes | Field |
//! |---|---|---|
//! | 0 | 2 | `di_advise`: the lower two bits are the type |
//! | 2 | 2 | `di_clusterofs`: offset in this block where the new extent starts |
//! | 4 | 4 | `di_u.blkaddr`: first block of that extent in the image |
//! | 4 | 2+2 | `di_u.delta`: inside an extent, distance back to its start and on to the next |

/// Bytes before the entries of the full kind (`Z_EROFS_FULL_INDEX_START`).
pub(in crate::erofs) const MAP_HEADER: usize = 16;
/// Bytes of an entry of the full kind (`struct z_erofs_lcluster_index`).
pub(in crate::erofs) const MAP_ENTRY: usize = 8;
/// Mark in the first `di_u.delta[0]` of an extent of several blocks
/// (`Z_EROFS_LI_D0_CBLKCNT`): the other bits are then its number of blocks.
pub(in crate::erofs) const BLOCK_COUNT: u16 = 1 << 11;

/// Bits of `h_advise`.
pub(in crate::erofs) mod advice {
    /// Some packs of the compact kind have 2 bytes for an entry
    /// (`Z_EROFS_ADVISE_COMPACTED_2B`).
    pub(in crate::erofs) const COMPACTED_2B: u16 = 1;
    /// Extents of type [`HEAD1`](super::kind::HEAD1) may have several blocks
    /// (`Z_EROFS_ADVISE_BIG_PCLUSTER_1`).
    pub(in crate::erofs) const BIG_PCLUSTER_1: u16 = 2;
    /// Extents of type [`HEAD2`](super::kind::HEAD2) may have several blocks
    /// (`Z_EROFS_ADVISE_BIG_PCLUSTER_2`).
    pub(in crate::erofs) const BIG_PCLUSTER_2: u16 = 4;
    /// The last extent follows the map (`Z_EROFS_ADVISE_INLINE_PCLUSTER`).
    pub(in crate::erofs) const INLINE_PCLUSTER: u16 = 8;

    /// All bits that the reader understands.
    pub(in crate::erofs) const READABLE: u16 =
        COMPACTED_2B | BIG_PCLUSTER_1 | BIG_PCLUSTER_2 | INLINE_PCLUSTER;
}

/// Types of map entries.
pub(in crate::erofs) mod kind {
    /// An extent that is not compressed starts here (`Z_EROFS_LCLUSTER_TYPE_PLAIN`).
    pub(in crate::erofs) const PLAIN: u16 = 0;
    /// An extent of the first compressor starts here (`Z_EROFS_LCLUSTER_TYPE_HEAD1`).
    pub(in crate::erofs) const HEAD1: u16 = 1;
    /// The block lies inside an extent (`Z_EROFS_LCLUSTER_TYPE_NONHEAD`).
    pub(in crate::erofs) const NONHEAD: u16 = 2;
    /// An extent of the second compressor starts here (`Z_EROFS_LCLUSTER_TYPE_HEAD2`).
    pub(in crate::erofs) const HEAD2: u16 = 3;
}
