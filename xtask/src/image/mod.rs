//! Whole file systems as images: read, compared and written without mounting
//! anything, and so without root.
//!
//! Sources become one [`tree::Tree`]; formats are written from it.

pub mod ext4;
pub mod tree;
