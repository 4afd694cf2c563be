//! `--publish-all`: the ports that the config of an image names.
//!
//! Format: `PORT` or `PORT/PROTOCOL` (OCI image specification, `config.md`, ExposedPorts), and
//! `FIRST-LAST` in place of PORT, as docker and podman take it. The config is not trusted: at most
//! [`PORTS_MAX`] ports are published.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use machine::plan::machine_plan::Publish;

/// Protocols that QEMU's user network forwards.
const PROTOCOLS: [&str; 2] = ["tcp", "udp"];

/// Most ports that are published for one image.
const PORTS_MAX: usize = 1024;

/// A port of the guest, and its protocol.
pub(super) type GuestPort = (u16, &'static str);

/// The ports in `exposed` that `published` does not contain yet, and the texts of those that
/// cannot be published, or that are too many.
pub(super) fn wanted<'a>(
    exposed: &'a [String],
    published: &[Publish],
) -> (Vec<GuestPort>, Vec<&'a str>) {
    let (mut wanted, mut others) = (BTreeSet::new(), Vec::new());
    for text in exposed {
        match parse(text) {
            Some((ports, protocol)) if wanted.len() + ports.len() <= PORTS_MAX => {
                wanted.extend(ports.map(|port| (port, protocol)));
            }
            _ => others.push(text.as_str()),
        }
    }
    let is_published = |port: &GuestPort| {
        published.iter().any(|publish| (publish.guest, publish.protocol) == *port)
    };
    (wanted.into_iter().filter(|port| !is_published(port)).collect(), others)
}

/// The ports of a `text`, at least one, and their protocol.
fn parse(text: &str) -> Option<(RangeInclusive<u16>, &'static str)> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = PROTOCOLS.into_iter().find(|name| protocol.eq_ignore_ascii_case(name))?;
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    let ports = number(first)?..=number(last)?;
    (!ports.is_empty()).then_some((ports, protocol))
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

    #[test]
    fn ranges_are_published_within_a_bound() {
        let exposed = ["9000-9002/tcp", "9001", "5-4", "1-", "0-3", "1-65535/udp"];
        let exposed = exposed.map(str::to_owned);
        let (found, others) = wanted(&exposed, &[]);
        assert_eq!(found, [(9000, "tcp"), (9001, "tcp"), (9002, "tcp")]);
        assert_eq!(others, ["5-4", "1-", "0-3", "1-65535/udp"]);
    }
}
