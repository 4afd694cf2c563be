//! Images of a real registry, made by others' tools and read by a user without root.
//!
//! docker-registry(1) runs on the loopback; umoci(1) makes images of layers that tar(1) has
//! written, and skopeo(1) pushes them in all formats that it knows.

pub(crate) mod boots;
pub(crate) mod breaks;
pub(crate) mod reads;
mod site;
