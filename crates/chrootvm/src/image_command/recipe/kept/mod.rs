//! What builds keep for later ones, by keys.

pub(super) mod key;
pub(super) mod store;
