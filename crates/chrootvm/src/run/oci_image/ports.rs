//! `--publish-all`: the ports that the config of an image names.
//!
//! Format: `PORT` or `PORT/PROTOCOL` (OCI image specification, `config.md`, ExposedPorts).

use std::collections::BTreeSet;

use machine::plan::machine_plan::Publish;

/// Protocols that QEMU's user network forwards.
const PROTOCOLS: [&str; 2] = ["tcp", "udp"];

/// A port of the guest, and its protocol.
pub(super) type GuestPort = (u16, &'static str);

/// The ports in `exposed` that `published` does not contain yet, and those that cannot be
/// published.
pub(super) fn wanted<'a>(
    exposed: &'a [String],
    published: &[Publish],
) -> (Vec<GuestPort>, Vec<&'a str>) {
    let (mut wanted, mut others) = (BTreeSet::new(), Vec::new());
    for text in exposed {
        match parse(text) {
            Some(port) => drop(wanted.insert(port)),
            None => others.push(text.as_str()),
        }
    }
    let is_published = |port: &GuestPort| {
        published.iter().any(|publish| (publish.guest, publish.protocol) == *port)
    };
    (wanted.into_iter().filter(|port| !is_published(port)).collect(), others)
}

fn parse(text: &str) -> Option<GuestPort> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = PROTOCOLS.into_iter().find(|name| protocol.eq_ignore_ascii_case(name))?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Some((port, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn exposed_ports_are_published_once() {
        let exposed = ["80", "80/tcp", "53/UDP", "53/tcp", "9/sctp", "0", "70000", "x", ""];
        let exposed = exposed.map(str::to_owned);
        let own = Publish { address: Ipv4Addr::LOCALHOST, host: 1, guest: 53, protocol: "tcp" };
        let (found, others) = wanted(&exposed, &[own]);
        assert_eq!(found, [(53, "udp"), (80, "tcp")]);
        assert_eq!(others, ["9/sctp", "0", "70000", "x", ""]);
    }
}
