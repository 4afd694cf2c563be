//! Channels of a session: socket pairs between chrootvm and the ports of QEMU.
//!
//! Interfaces: unix(7); QMP for ports that are plugged in later. [`crate::plan::ports`] has
//! the texts that describe the ports to QEMU.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use proto::port::port_name;

use crate::plan::ports::{ChardevBackend, STREAMS, SerialPort, plug, unplug};
use crate::process::handover::ChildDescriptors;
use crate::process::messages::ReceivedFd;
use crate::process::qmp::Qmp;

/// Number of streams of a session.
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
    /// chrootvm's ends, and the ports of a QEMU that inherits its ends with `fds`.
    #[must_use]
    pub fn hand_over(self, fds: &mut ChildDescriptors) -> ([OwnedFd; COUNT], Vec<SerialPort>) {
        let port = |(name, fd)| SerialPort { name, backend: ChardevBackend::Fd(fds.add(fd)) };
        (self.ours, self.qemus.into_iter().map(port).collect())
    }
}

/// Plugs the ports of session `number` into a running machine; `fds` are QEMU's ends of the
/// channels, in the order of [`STREAMS`].
///
/// # Errors
/// QEMU refuses a port.
pub fn add_ports(qmp: &mut Qmp, number: u32, fds: &[ReceivedFd]) -> Result<()> {
    for (stream, fd) in STREAMS.iter().zip(fds) {
        let [getfd, chardev, device] = plug(&port_name(number, stream));
        qmp.execute(getfd.name, &getfd.arguments, Some(fd))?;
        qmp.execute(chardev.name, &chardev.arguments, None)?;
        qmp.execute(device.name, &device.arguments, None)
            .context("add a port; a machine has room for six commands beside its first")?;
    }
    Ok(())
}

/// Removes the ports of session `number`, as far as they exist.
pub fn remove_ports(qmp: &mut Qmp, number: u32) {
    for stream in STREAMS {
        for command in unplug(&port_name(number, stream)) {
            // An error means that the machine is about to end.
            let _ = qmp.send(command.name, &command.arguments, None);
        }
    }
}

/// Whether the guest has opened the ports of session `number` since the last call.
pub fn are_opened(qmp: &mut Qmp, number: u32) -> bool {
    let [control, ..] = STREAMS;
    qmp.take_opened().contains(&port_name(number, control))
}
