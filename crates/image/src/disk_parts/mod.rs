//! Parts that the disk formats (EROFS, ext4, squashfs) have in common.
//!
//! | Module | Contents |
//! |---|---|
//! | `crc32c` | the check sum of metadata |
//! | `device` | device numbers in 32 bits |
//! | `identity` | UUIDs that follow from the contents of an image |
//! | `ordered` | a thread pool whose results come back in the order of submission |
//! | `xattr_sets` | memory of extended attributes, shared and limited |

pub(crate) mod crc32c;
pub(crate) mod device;
pub(crate) mod identity;
pub(crate) mod ordered;
pub(crate) mod xattr_sets;

/// Most levels of directories. A path of `PATH_MAX` bytes has room for no more.
pub(crate) const DIRECTORY_DEPTH_MAX: usize = 2048;
