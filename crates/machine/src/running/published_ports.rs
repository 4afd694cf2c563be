//! Ports of the host that QEMU is to forward: whether QEMU can take them.
//!
//! QEMU reports a port that it cannot take without a cause. So the ports are tried before QEMU
//! starts, with the socket options that QEMU uses, and given back. Another program can take a
//! port in between; QEMU's message is shown then.
//!
//! Interfaces: bind(2), socket(7); `/proc/net/tcp` (proc_pid_net(5)) and the links in
//! `/proc/PID/fd` (proc_pid_fd(5)), which name the owner of a port.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use files::tell::printable;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, setsockopt, socket, sockopt,
};

use crate::plan::machine_plan::{Network, Publish};

/// File with the lowest port that needs no right (ip(7), kernel doc: networking/ip-sysctl.rst).
const UNPRIVILEGED_START: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// Kind of socket that a protocol needs, and the kernel's tables of such sockets.
struct Protocol {
    name: &'static str,
    socket: SockType,
    /// `/proc/net` tables for IPv4 and IPv6. A socket of IPv6 can take ports of IPv4, too.
    tables: [&'static str; 2],
    /// State of a socket that holds a port (`include/net/tcp_states.h`).
    state: &'static str,
}

#[rustfmt::skip]
const PROTOCOLS: &[Protocol] = &[
    Protocol { name: "tcp", socket: SockType::Stream,   tables: ["/proc/net/tcp", "/proc/net/tcp6"], state: "0A" },
    Protocol { name: "udp", socket: SockType::Datagram, tables: ["/proc/net/udp", "/proc/net/udp6"], state: "07" },
];

/// Checks that QEMU can take the published ports of `network`.
///
/// # Errors
/// A port is taken, or this user may not take it.
pub fn check(network: &Network) -> Result<()> {
    let Network::User(published) = network else { return Ok(()) };
    for publish in published {
        let Some(protocol) = PROTOCOLS.iter().find(|row| row.name == publish.protocol) else {
            continue;
        };
        if let Err(errno) = try_port(publish, protocol) {
            let owner = (errno == Errno::EADDRINUSE).then(|| owner(publish, protocol)).flatten();
            let start = fs::read_to_string(UNPRIVILEGED_START).unwrap_or_default();
            bail!("--publish {publish}: {}", problem(publish, errno, owner.as_deref(), &start));
        }
    }
    Ok(())
}

/// Finds a free port of 127.0.0.1 for each of these ports of the guest and their protocols.
///
/// # Errors
/// The host has no free port.
pub fn free(guest: &[(u16, &'static str)]) -> Result<Vec<Publish>> {
    let address = Ipv4Addr::LOCALHOST;
    // All sockets stay open until the end, so that no port is found twice.
    let mut sockets: Vec<OwnedFd> = Vec::new();
    let mut found = Vec::new();
    for &(guest, protocol) in guest {
        let row = PROTOCOLS.iter().find(|row| row.name == protocol);
        let row = row.with_context(|| format!("forward a port of {protocol}"))?;
        let context = || format!("find a free port for the guest's port {guest}/{protocol}");
        let kind = row.socket;
        let socket = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None)
            .with_context(context)?;
        bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, 0)))
            .with_context(context)?;
        let taken: SockaddrIn = getsockname(socket.as_raw_fd()).with_context(context)?;
        found.push(Publish { address, host: taken.port(), guest, protocol });
        sockets.push(socket);
    }
    Ok(found)
}

/// Takes the port, and gives it back.
fn try_port(publish: &Publish, protocol: &Protocol) -> Result<(), Errno> {
    let socket = socket(AddressFamily::Inet, protocol.socket, SockFlag::SOCK_CLOEXEC, None)?;
    // As QEMU does. Without it, a port would seem to be taken for a minute after its use.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    let address = SockaddrIn::from(SocketAddrV4::new(publish.address, publish.host));
    bind(socket.as_raw_fd(), &address)
}

/// Text about a port that cannot be taken. `owner` describes the process that has the port, and
/// `start` is the text of [`UNPRIVILEGED_START`].
fn problem(publish: &Publish, errno: Errno, owner: Option<&str>, start: &str) -> String {
    let Publish { address, host, .. } = publish;
    match errno {
        Errno::EADDRINUSE => {
            let owner = owner.map(|owner| format!(" by {owner}")).unwrap_or_default();
            format!("port {host} of {address} is taken{owner}; give another HOST port")
        }
        Errno::EACCES => {
            let start = start.trim();
            format!(
                "port {host} needs root, as all ports below {start} do; give a higher HOST port, or \
                 sysctl net.ipv4.ip_unprivileged_port_start={host}"
            )
        }
        Errno::EADDRNOTAVAIL => format!("{address} is no address of this host"),
        errno => format!("take port {host} of {address}: {}", errno.desc()),
    }
}

/// Name and process id of the process that has the port; `None` if /proc does not tell.
fn owner(publish: &Publish, protocol: &Protocol) -> Option<String> {
    let inode = protocol.tables.iter().find_map(|table| {
        let text = fs::read_to_string(table).ok()?;
        text.lines().find_map(|line| inode(line, publish, protocol.state))
    })?;
    let link = format!("socket:[{inode}]");
    let is_number = |name: &OsString| name.as_bytes().iter().all(u8::is_ascii_digit);
    let names = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.file_name());
    let has_socket = |process: &PathBuf| {
        let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        targets.any(|target| target.as_os_str() == &*link)
    };
    let process =
        names.filter(is_number).map(|pid| Path::new("/proc").join(pid)).find(has_socket)?;
    let name = fs::read(process.join("comm")).unwrap_or_default();
    let pid = process.file_name()?.to_string_lossy();
    Some(format!("{} (process {pid})", printable(&name).trim_end()))
}

/// Inode of the socket in a `line` of a table, if the socket is in this `state` and holds the
/// port of `publish`.
fn inode(line: &str, publish: &Publish, state: &str) -> Option<u64> {
    /// Fields of a line: number, local address, remote address, state, …, inode.
    const INODE: usize = 9;
    let fields: Vec<_> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    let holds = u16::from_str_radix(port, 16).ok()? == publish.host
        && fields.get(3) == Some(&state)
        && collides(address, publish.address);
    holds.then(|| fields.get(INODE)?.parse().ok()).flatten()
}

/// Whether a socket at the address `text`, as the kernel writes it in hexadecimal, keeps
/// `wanted` from being taken.
fn collides(text: &str, wanted: Ipv4Addr) -> bool {
    // The kernel prints the four bytes as one number of the host's byte order.
    let number = u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes);
    text.bytes().all(|digit| digit == b'0')
        || wanted.is_unspecified()
        || number.is_some_and(|bytes| Ipv4Addr::from(bytes) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    fn publish(host: u16, protocol: &'static str) -> Publish {
        Publish { address: Ipv4Addr::LOCALHOST, host, guest: 80, protocol }
    }

    fn error(publish: Publish) -> String {
        check(&Network::User(vec![publish])).unwrap_err().to_string()
    }

    #[test]
    fn a_taken_port_is_refused_with_its_owner() {
        let (here, all) = (Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED);
        let tcp = [here, all].map(|address| TcpListener::bind((address, 0)).unwrap());
        let udp = UdpSocket::bind((here, 0)).unwrap();
        // A child of another test may have a copy of the socket for a moment.
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        let owner = format!("is taken by {} (process ", name.trim_end());
        for (port, protocol) in [
            (tcp[0].local_addr().unwrap().port(), "tcp"),
            (tcp[1].local_addr().unwrap().port(), "tcp"),
            (udp.local_addr().unwrap().port(), "udp"),
        ] {
            let error = error(publish(port, protocol));
            assert!(error.starts_with(&format!("--publish {port}:80")), "{error}");
            assert!(error.contains(&format!("port {port} of 127.0.0.1 {owner}")), "{error}");
        }
    }

    #[test]
    fn a_free_port_stays_free() {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let free = Network::User(vec![publish(port.port(), "tcp"), publish(port.port(), "udp")]);
        check(&free).unwrap();
        check(&free).unwrap();
        check(&Network::None).unwrap();
    }

    #[test]
    fn each_port_of_the_guest_gets_a_free_port() {
        let found = free(&[(80, "tcp"), (53, "udp"), (53, "tcp")]).unwrap();
        let guest: Vec<_> = found.iter().map(|publish| (publish.guest, publish.protocol)).collect();
        assert_eq!(guest, [(80, "tcp"), (53, "udp"), (53, "tcp")]);
        assert!(found.iter().all(|publish| publish.host != 0 && publish.address.is_loopback()));
        assert!(!found[0].collides(&found[2]));
        check(&Network::User(found)).unwrap();
        assert!(free(&[(9, "sctp")]).is_err());
    }

    #[test]
    fn each_error_has_its_remedy() {
        let port = publish(80, "tcp");
        for (errno, owner, expected) in [
            (
                Errno::EADDRINUSE,
                Some("x (process 7)"),
                "port 80 of 127.0.0.1 is taken by x (process 7); give another HOST port",
            ),
            (Errno::EADDRINUSE, None, "port 80 of 127.0.0.1 is taken; give another HOST port"),
            (
                Errno::EACCES,
                None,
                "port 80 needs root, as all ports below 1024 do; give a higher HOST port, or sysctl net.ipv4.ip_unprivileged_port_start=80",
            ),
            (Errno::EADDRNOTAVAIL, None, "127.0.0.1 is no address of this host"),
            (Errno::ENOBUFS, None, "take port 80 of 127.0.0.1: No buffer space available"),
        ] {
            assert_eq!(problem(&port, errno, owner, "1024\n"), expected);
        }
    }

    #[test]
    fn lines_of_the_tables_are_matched_by_port_state_and_address() {
        let tail = "00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100";
        for (name, line, expected) in [
            ("the address", format!("0: 0100007F:0050 00000000:0000 0A {tail}"), Some(4711)),
            ("all addresses", format!("0: 00000000:0050 00000000:0000 0A {tail}"), Some(4711)),
            ("IPv6", format!("0: {:032}:0050 {:032}:0000 0A {tail}", 0, 0), Some(4711)),
            ("another port", format!("0: 0100007F:0051 00000000:0000 0A {tail}"), None),
            ("another address", format!("0: 0200007F:0050 00000000:0000 0A {tail}"), None),
            ("a connection", format!("0: 0100007F:0050 0100007F:9999 01 {tail}"), None),
            ("the heading", "  sl  local_address rem_address   st".into(), None),
            ("nothing", String::new(), None),
        ] {
            assert_eq!(inode(&line, &publish(80, "tcp"), "0A"), expected, "{name}");
        }
    }
}
