//! Changes of a tree between reading a source and writing an image.
//!
//! [`source::open`](crate::source::open) applies `xattr_policy` to every tree that it reads; a
//! program calls `inject`.
//!
//! | Module | Contents |
//! |---|---|
//! | [`inject`] | adds `/init` and the run file of a workload; limits times |
//! | [`xattr_policy`] | removes the extended attributes that an image should not have |

pub mod inject;
pub mod xattr_policy;
