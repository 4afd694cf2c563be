//! Brings up the loopback device of a new network namespace.
//!
//! Interface: rtnetlink(7), one message `RTM_NEWLINK`: `struct nlmsghdr` (length, type, flags,
//! sequence, port) and `struct ifinfomsg` (family, type, index, flags, change mask), in the
//! byte order of the machine. The kernel gives the device its addresses when it comes up.

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use std::os::fd::AsRawFd;

use crate::fault::Describe;

/// Change a device (`RTM_NEWLINK`, `linux/rtnetlink.h`).
const NEW_LINK: u16 = 16;

/// The message is a request and wants an answer (`NLM_F_REQUEST | NLM_F_ACK`,
/// `linux/netlink.h`).
const REQUEST_AND_ANSWER: u16 = 1 | 4;

/// An answer with the number of an error, 0 for success (`NLMSG_ERROR`).
const ANSWER: u16 = 2;

/// Index of the loopback device in every network namespace (`LOOPBACK_IFINDEX`,
/// `include/net/flow.h`).
const LOOPBACK: u32 = 1;

/// The device is up (`IFF_UP`, `linux/if.h`).
const UP: u32 = 1;

/// Bytes of the message.
const LENGTH: u32 = 32;

/// Brings up the loopback device.
pub(crate) fn up() -> Result<()> {
    let describe = || "bring up the loopback device".to_owned();
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )
    .describe(describe)?;
    let descriptor = socket.as_raw_fd();
    let kernel = NetlinkAddr::new(0, 0);
    sendto(descriptor, &message(), &kernel, MsgFlags::empty()).describe(describe)?;
    let mut answer = [0; 256];
    let length = recv(descriptor, &mut answer, MsgFlags::empty()).describe(describe)?;
    let number = answer.get(..length).and_then(error_of);
    ensure!(number.is_some(), "{}: the kernel gave an unknown answer", describe());
    match number {
        None | Some(0) => Ok(()),
        Some(number) => Err(Errno::from_raw(number)).describe(describe),
    }
}

fn message() -> Vec<u8> {
    let (sequence, port, family_and_type) = (1_u32, 0_u32, 0_u32);
    [
        &LENGTH.to_ne_bytes()[..],
        &NEW_LINK.to_ne_bytes(),
        &REQUEST_AND_ANSWER.to_ne_bytes(),
        &sequence.to_ne_bytes(),
        &port.to_ne_bytes(),
        &family_and_type.to_ne_bytes(),
        &LOOPBACK.to_ne_bytes(),
        &UP.to_ne_bytes(),
        &UP.to_ne_bytes(),
    ]
    .concat()
}

/// The number of the error in an answer, positive; `None` if it is another message.
fn error_of(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let number = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == ANSWER).then_some(number.checked_neg()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_has_its_length_and_answers_are_read() {
        let message = message();
        assert_eq!(message.len(), LENGTH as usize);
        assert_eq!(error_of(&message), None);
        let mut answer = message;
        for (number, expected) in [(0, Some(0)), (-1, Some(1)), (i32::MIN, None)] {
            answer.splice(4..6, ANSWER.to_ne_bytes());
            answer.splice(16..20, i32::to_ne_bytes(number));
            assert_eq!(error_of(&answer), expected, "{number}");
        }
        assert_eq!(error_of(&answer[..19]), None);
    }
}
