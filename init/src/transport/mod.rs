//! The ways to the host: the channels of a session, and osbuild's port.
//!
//! A caller opens a channel by the number of its session and the name of its stream, and
//! gets a descriptor. A new transport is a file here and an arm in `channels`.
//! Imports `sys` only.

pub mod channels;
pub mod osbuild;
pub mod virtio_serial;
