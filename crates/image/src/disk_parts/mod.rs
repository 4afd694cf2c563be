//! Parts that the disk formats (EROFS, ext4, squashfs) have in common.
//!
//! | Module | Contents |
//! |---|---|
//! | `device` | device numbers in 32 bits |
//! | `identity` | UUIDs that follow from the contents of an image |
//! | `ordered` | a thread pool whose results come back in the order of submission |
//! | `xattr_sets` | memory of extended attributes, shared and limited |

pub(crate) mod device;
pub(crate) mod identity;
pub(crate) mod ordered;
pub(crate) mod xattr_sets;
