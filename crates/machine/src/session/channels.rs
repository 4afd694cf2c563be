//! Channels of a session: socket pairs between chrootvm and the ports of QEMU.
//!
//! Interface: unix(7). [`crate::plan::ports`] describes the ports to QEMU.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use virtinitrd_proto::port::port_name;

use crate::plan::ports::STREAMS;

/// The number of streams, as the length of an array.
const COUNT: usize = STREAMS.len();

/// Both ends of a session's channels.
#[derive(Debug)]
pub struct Channels {
    /// chrootvm's ends, in the order of [`STREAMS`].
    pub ours: [OwnedFd; COUNT],
    /// QEMU's ends, with the names of their ports.
    pub qemus: Vec<(String, OwnedFd)>,
}

impl Channels {
    /// Makes the channels of session `number`.
    ///
    /// # Errors
    /// The sockets cannot be made.
    pub fn new(number: u32) -> Result<Self> {
        let mut qemus = Vec::new();
        let mut pair = |stream| {
            let (our_end, qemus_end) = UnixStream::pair().context("make a socket")?;
            qemus.push((port_name(number, stream), qemus_end.into()));
            Ok::<OwnedFd, anyhow::Error>(our_end.into())
        };
        let [control, stdin, stdout, stderr] = STREAMS;
        let ours = [pair(control)?, pair(stdin)?, pair(stdout)?, pair(stderr)?];
        Ok(Self { ours, qemus })
    }
}
