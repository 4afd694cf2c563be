//! Messages with descriptors, over Unix sockets.
//!
//! Interfaces: unix(7) (`SCM_RIGHTS`), cmsg(3).

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, RawFd};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Maximum length of a message in bytes; a longer message is cut.
pub const MESSAGE_MAX: usize = 4 << 10;

/// Maximum number of descriptors that the kernel passes in one message (`SCM_MAX_FD` of
/// include/net/scm.h). With room for all of them, a message never loses a descriptor.
const FDS_MAX: usize = 253;

/// The descriptors of a message without descriptors.
pub const NO_FDS: &[RawFd] = &[];

/// A received message.
#[derive(Debug)]
pub struct Message {
    /// Text of the message; empty if the other side has closed the socket.
    pub text: Vec<u8>,
    /// Descriptors that came with the message.
    pub fds: Vec<ReceivedFd>,
}

/// A descriptor that came with a message, closed when this value is dropped.
///
/// It is not an `OwnedFd`, because nix returns received descriptors as numbers, and only unsafe
/// code makes an `OwnedFd` of a number. chrootvm only passes them on to QEMU, which needs the
/// number alone.
#[derive(Debug)]
pub struct ReceivedFd(RawFd);

impl AsRawFd for ReceivedFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl Drop for ReceivedFd {
    fn drop(&mut self) {
        let _ = nix::unistd::close(self.0); // an error leaves nothing to be closed
    }
}

/// Sends `text` together with `fds`.
///
/// # Errors
/// The other side has closed the socket, or its queue is full.
pub fn send(socket: &impl AsRawFd, text: &[u8], fds: &[impl AsRawFd]) -> Result<()> {
    let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights };
    // If the other side is gone, that is an error, not a signal.
    let flags = MsgFlags::MSG_NOSIGNAL;
    let sent = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(text)], control, flags, None);
    ensure!(sent.context("send a message")? == text.len(), "a message was cut");
    Ok(())
}

/// Receives a message without waiting; `None` if there is none yet.
///
/// # Errors
/// recvmsg(2) failed.
pub fn receive(socket: &impl AsRawFd) -> Result<Option<Message>> {
    let mut bytes = [0; MESSAGE_MAX];
    let mut control = nix::cmsg_space!([RawFd; FDS_MAX]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags);
    let received = match received {
        Ok(received) => received,
        Err(Errno::EAGAIN) => return Ok(None),
        Err(Errno::ECONNRESET) => return Ok(Some(Message { text: Vec::new(), fds: Vec::new() })),
        Err(errno) => return Err(errno).context("receive a message"),
    };
    let mut fds = Vec::new();
    for message in received.cmsgs().context("receive descriptors")? {
        if let ControlMessageOwned::ScmRights(more) = message {
            fds.extend(more.into_iter().map(ReceivedFd));
        }
    }
    let length = received.bytes;
    Ok(Some(Message { text: bytes.get(..length).unwrap_or_default().to_vec(), fds }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_arrive_with_their_message_and_are_closed() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert!(receive(&theirs).unwrap().is_none());
        let (mut kept, mut passed) = UnixStream::pair().unwrap();
        passed.write_all(b"text").unwrap();
        send(&ours, b"take this", &[passed]).unwrap();
        let message = receive(&theirs).unwrap().unwrap();
        assert_eq!((&message.text[..], message.fds.len()), (&b"take this"[..], 1));
        drop(message);
        // The other end is closed only if the received descriptor was the last one.
        let mut text = String::new();
        kept.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        drop(ours);
        assert!(receive(&theirs).unwrap().unwrap().text.is_empty());
    }
}
