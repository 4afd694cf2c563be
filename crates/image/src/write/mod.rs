//! Images from a [`Tree`](super::tree::Tree).
//!
//! Every byte follows from the tree and the options alone. What a format cannot
//! hold is refused before anything is written, or noted where a guest can do
//! without it.

mod attributes;
mod copier;
pub mod cpio;
pub mod dir;
pub mod disk;
mod sparse;
pub mod tar;
