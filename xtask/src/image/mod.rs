//! Whole file systems as images: read, compared and written without mounting
//! anything, and so without root.
//!
//! Sources become one [`tree::Tree`]; formats are written from it.

pub mod cli;
pub mod compare;
pub mod content;
pub mod erofs;
pub mod ext4;
pub mod format;
pub mod inject;
pub mod notes;
pub mod paths;
pub mod progress;
pub mod root;
pub mod source;
#[cfg(test)]
mod tests;
pub mod tree;
pub mod write;
