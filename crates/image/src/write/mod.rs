//! Writing a [`Tree`](crate::tree::Tree) as an image.
//!
//! | Module | Output |
//! |---|---|
//! | [`cpio`], [`tar`] | an archive, as a stream to any [`Write`](std::io::Write) |
//! | [`disk`] | EROFS, ext4 or squashfs, to a regular file |
//! | [`dir`] | a new directory of the host |
//! | [`fingerprint`], [`xfs_inodes`] | parts of disks that other programs write |
//!
//! Every byte follows from the tree and the options alone. If a format cannot express
//! something, the writer either refuses the tree before it writes anything, or leaves the
//! thing out with a note if a guest can do without it.

mod attributes;
mod copier;
pub mod cpio;
pub mod dir;
pub mod disk;
pub mod fingerprint;
mod sparse;
pub mod tar;
pub mod xfs_inodes;
