//! Names in directories: sizes and limits of their structures.
//!
//! Format: `struct squashfs_dir_header` and `struct squashfs_dir_entry` in
//! `fs/squashfs/squashfs_fs.h`. Names are in byte order, in runs of 1 to 256. The inodes of a
//! run start in the same metadata block. A run is a header and one entry for each name; each
//! name follows its entry:
//!
//! | Header | Entry | Bytes | Field |
//! |---|---|---|---|
//! | 0 | | 4 | `count`: number of names, minus 1 |
//! | 4 | | 4 | `start_block`: metadata block of the inodes |
//! | 8 | | 4 | `inode_number` of the run |
//! | | 0 | 2 | `offset` of the inode in the metadata block |
//! | | 2 | 2 | `inode_number`, minus that of the run; signed |
//! | | 4 | 2 | `type`: basic type of the inode |
//! | | 6 | 2 | `size`: length of the name, minus 1 |

/// Most names in a run (`SQUASHFS_DIR_COUNT`).
pub(in crate::squashfs) const RUN_MAX: u32 = 256;
/// Bytes of the header of a run (`struct squashfs_dir_header`).
pub(in crate::squashfs) const RUN_HEADER: u32 = 12;
/// Bytes of an entry without its name (`struct squashfs_dir_entry`).
pub(in crate::squashfs) const RUN_ENTRY: u32 = 8;
