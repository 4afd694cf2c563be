//! Whole file systems as images: read, compared and written without mounting
//! anything, and so without root.
//!
//! Sources become one [`tree::Tree`]; formats are written from it.

pub mod compare;
pub mod content;
mod device;
pub mod erofs;
pub mod ext4;
pub mod format;
pub mod holes;
mod identity;
pub mod inject;
mod ordered;
pub mod paths;
mod pieces;
pub mod posix_acl;
pub mod progress;
pub mod root;
#[cfg(test)]
mod sample;
pub mod source;
pub mod squashfs;
#[cfg(test)]
mod tests;
pub mod tree;
pub mod ustar;
pub mod write;
pub mod xattr_policy;
mod xattr_sets;
pub mod xattrs;
