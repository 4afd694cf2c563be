//! Proxies from the environment.
//!
//! Format: the variables of curl(1), in lower or upper case: `https_proxy` and `http_proxy` for
//! addresses of that scheme, `all_proxy` for both, `no_proxy` for hosts that are reached without
//! a proxy: names (which cover their subdomains), addresses, networks as `10.0.0.0/8`, each
//! perhaps with a port, or `*`. Whoever asks knows that this machine is never reached through a
//! proxy.

use std::fmt;
use std::net::IpAddr;

use super::environment::Environment;

/// A proxy, and the variable that names it.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxySetting {
    /// The variable.
    pub variable: &'static str,
    /// The address, perhaps with a user name and password.
    pub address: String,
}

impl fmt::Debug for ProxySetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxySetting").field("variable", &self.variable).finish_non_exhaustive()
    }
}

/// Variables for `https`, the most specific first.
const FOR_HTTPS: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
/// Variables for `http`, the most specific first.
const FOR_HTTP: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
/// Variables of hosts without a proxy.
const WITHOUT: [&str; 2] = ["no_proxy", "NO_PROXY"];
/// Variable that a web server sets for CGI programs. Their `HTTP_PROXY` is a header of the
/// request, which anybody may choose (CVE-2016-5385).
const OF_CGI: &str = "REQUEST_METHOD";

/// Whether an address is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// `https`.
    Encrypted,
    /// `http`.
    Plain,
}

/// The proxy for `host`, which has no brackets, and `port`; `None` for a direct connection.
#[must_use]
pub fn proxy_for(
    environment: &Environment,
    traffic: Traffic,
    host: &str,
    port: u16,
) -> Option<ProxySetting> {
    let without = WITHOUT.iter().find_map(|name| environment.text(name)).unwrap_or_default();
    if without.split([',', ' ']).any(|entry| covers(entry.trim(), host, port)) {
        return None;
    }
    let names = match traffic {
        Traffic::Encrypted => FOR_HTTPS,
        Traffic::Plain => FOR_HTTP,
    };
    let is_cgi = environment.value(OF_CGI).is_some();
    let usable = |name: &&&str| !(is_cgi && **name == "HTTP_PROXY");
    names
        .iter()
        .filter(usable)
        .find_map(|&variable| Some(ProxySetting { variable, address: environment.text(variable)? }))
}

/// Whether an entry of `no_proxy` covers a host.
fn covers(entry: &str, host: &str, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    let address = host.parse::<IpAddr>().ok();
    if let (Some((network, bits)), Some(address)) = (entry.split_once('/'), address) {
        let (network, bits) = (network.parse::<IpAddr>(), bits.parse::<u32>());
        return network.is_ok_and(|network| bits.is_ok_and(|bits| within(network, bits, address)));
    }
    let (name, only_port) = with_port(entry);
    if only_port.is_some_and(|only| only != port) {
        return false;
    }
    if let Some(address) = address {
        return name.parse::<IpAddr>().is_ok_and(|name| name == address);
    }
    let (name, host) = (name.to_ascii_lowercase(), host.to_ascii_lowercase());
    let domain = name.strip_prefix('*').unwrap_or(&name);
    let bare = domain.strip_prefix('.');
    let is_below = |domain: &str| {
        host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
    };
    match bare {
        Some(bare) => !bare.is_empty() && is_below(bare),
        None => !domain.is_empty() && (host == domain || is_below(domain)),
    }
}

/// An entry without its port and brackets, and the port.
fn with_port(entry: &str) -> (&str, Option<u16>) {
    if entry.parse::<IpAddr>().is_ok() {
        return (entry, None);
    }
    let (name, port) = match entry.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => (name, port.parse().ok()),
        _ => (entry, None),
    };
    (name.trim_start_matches('[').trim_end_matches(']'), port)
}

fn within(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let differing = network.to_bits() ^ address.to_bits();
            bits <= 32 && differing.checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let differing = network.to_bits() ^ address.to_bits();
            bits <= 128 && differing.checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn environment(variables: &'static [(&str, &str)]) -> Environment {
        let find = |name: &str| variables.iter().find(|row| row.0 == name);
        Environment::new(move |name| Some(find(name)?.1.into()), Path::new("/"))
    }

    #[test]
    fn hosts_without_a_proxy_are_found() {
        for (entry, host, port, expected) in [
            ("*", "r.example", 443, true),
            ("r.example", "r.example", 443, true),
            ("r.example", "R.Example", 443, true),
            ("example", "r.example", 443, true),
            ("ample", "r.example", 443, false),
            (".example", "r.example", 443, true),
            (".r.example", "r.example", 443, false),
            ("*.example", "r.example", 443, true),
            ("r.example:5000", "r.example", 443, false),
            ("r.example:443", "r.example", 443, true),
            ("", "r.example", 443, false),
            (".", "r.example", 443, false),
            ("10.0.0.0/8", "10.1.2.3", 443, true),
            ("10.0.0.0/8", "11.1.2.3", 443, false),
            ("0.0.0.0/0", "11.1.2.3", 443, true),
            ("10.0.0.0/33", "10.0.0.0", 443, false),
            ("fd00::/8", "fd12::1", 443, true),
            ("::/0", "fd12::1", 443, true),
            ("fd12::1", "fd12::1", 443, true),
            ("[fd12::1]:443", "fd12::1", 443, true),
            ("[fd12::1]:444", "fd12::1", 443, false),
            ("10.1.2.3", "10.1.2.3", 443, true),
            ("2.3", "10.1.2.3", 443, false),
        ] {
            assert_eq!(covers(entry, host, port), expected, "{entry} {host}:{port}");
        }
    }

    #[test]
    fn the_most_specific_variable_wins() {
        let all = environment(&[
            ("ALL_PROXY", "http://all:1"),
            ("HTTPS_PROXY", "http://secure:2"),
            ("http_proxy", "http://plain:3"),
            ("NO_PROXY", "direct.example, 10.0.0.0/8"),
        ]);
        let of = |traffic, host| proxy_for(&all, traffic, host, 443).map(|found| found.variable);
        assert_eq!(of(Traffic::Encrypted, "r.example"), Some("HTTPS_PROXY"));
        assert_eq!(of(Traffic::Plain, "r.example"), Some("http_proxy"));
        for host in ["direct.example", "10.2.3.4"] {
            assert_eq!(of(Traffic::Encrypted, host), None, "{host}");
        }
        let rest = environment(&[("ALL_PROXY", "http://all:1"), ("HTTPS_PROXY", "")]);
        let found = proxy_for(&rest, Traffic::Encrypted, "r.example", 443);
        assert_eq!(found.map(|found| found.variable), Some("ALL_PROXY"));
    }

    #[test]
    fn a_header_of_a_request_is_no_proxy() {
        let cgi = environment(&[("HTTP_PROXY", "http://evil:1"), ("REQUEST_METHOD", "GET")]);
        assert_eq!(proxy_for(&cgi, Traffic::Plain, "r.example", 80), None);
        let plain = environment(&[("HTTP_PROXY", "http://good:1")]);
        assert!(proxy_for(&plain, Traffic::Plain, "r.example", 80).is_some());
    }
}
