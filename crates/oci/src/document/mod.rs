//! The documents of an image: JSON that comes from outside and is not trusted.
//!
//! | Module | Contents |
//! |---|---|
//! | [`manifest`] | manifests and indexes |
//! | [`config`] | the config of an image |

pub mod config;
pub mod manifest;
#[cfg(test)]
mod tests;
