//! Whole file systems as images: read, compared and written without mounting
//! anything, and so without root.
//!
//! Sources become one [`tree::Tree`]; formats are written from it.

//cli
pub mod content;
pub mod format;
//inject
pub mod notes;
pub mod paths;
//progress
pub mod source;
pub mod tree;
pub mod write;
