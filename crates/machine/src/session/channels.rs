//! Channels of a session: socket pairs between chrootvm and the ports of QEMU.
//!
//! Interface: unix(7).

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use virtinitrd_proto::port::port_name;

/// The streams of a session, in the order in which their ports are made.
pub const STREAMS: [&str; 4] = ["control", "stdin", "stdout", "stderr"];

/// Both ends of a session's channels.
#[derive(Debug)]
pub struct Channels {
    ours: [OwnedFd; 4],
    /// QEMU's ends, with the names of their ports.
    pub theirs: Vec<(String, OwnedFd)>,
}

impl Channels {
    /// Makes the channels of session `number`.
    pub fn new(number: u32) -> Result<Self> {
        let mut theirs = Vec::new();
        let mut pair = |stream| {
            let (ours, qemus) = UnixStream::pair().context("make a socket")?;
            theirs.push((port_name(number, stream), qemus.into()));
            Ok::<OwnedFd, anyhow::Error>(ours.into())
        };
        let [control, stdin, stdout, stderr] = STREAMS;
        let ours = [pair(control)?, pair(stdin)?, pair(stdout)?, pair(stderr)?];
        Ok(Self { ours, theirs })
    }

    /// Our ends, in the order of [`STREAMS`], and QEMU's.
    #[must_use]
    pub fn split(self) -> ([OwnedFd; 4], Vec<(String, OwnedFd)>) {
        (self.ours, self.theirs)
    }
}
