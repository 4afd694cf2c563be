//! Parsers of option values: volumes, ports, variables, and durations as recipes have them.

use std::ffi::{OsStr, OsString};
use std::net::Ipv4Addr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use machine::plan::machine_plan::Publish;
use machine::plan::shares::Access;
use proto::settings::health::{UNHEALTHY, Unhealthy};
use proto::settings::restart::{RESTARTS, RestartPolicy};
use proto::signal;
use proto::words::named;
pub use recipe::values::parse_duration;

/// Value of `--volume HOST:GUEST[:ro|rw]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Directory or file of the host.
    pub source: PathBuf,
    /// Absolute path in the guest, without `.`, `..` or doubled slashes.
    pub target: OsString,
    /// Read-only if the value ends in `:ro`.
    pub access: Access,
}

/// Parses a volume. HOST may contain colons, GUEST may not.
pub fn parse_volume(text: &OsStr) -> Result<Volume, String> {
    const FORM: &str = "give HOST:GUEST, HOST:GUEST:ro or HOST:GUEST:rw";
    let mut parts: Vec<&[u8]> = text.as_bytes().split(|&byte| byte == b':').collect();
    let access = match parts.last() {
        Some(&b"ro") => Access::ReadOnly,
        _ => Access::ReadWrite,
    };
    if matches!(parts.last(), Some(&b"ro" | &b"rw")) {
        parts.pop();
    }
    let target = parts.pop().unwrap_or_default();
    let source = parts.join(&b':');
    if source.is_empty() || target.is_empty() {
        return Err(FORM.into());
    }
    if !target.starts_with(b"/") {
        return Err(format!("{FORM}: GUEST is an absolute path"));
    }
    let mut names: Vec<&[u8]> = target.split(|&byte| byte == b'/').collect();
    names.retain(|name| !matches!(*name, b"" | b"."));
    if names.is_empty() || names.contains(&&b".."[..]) {
        return Err("GUEST is a path below /, without ..".into());
    }
    let target = [b"/", &names.join(&b'/')[..]].concat();
    Ok(Volume {
        source: OsString::from_vec(source).into(),
        target: OsString::from_vec(target),
        access,
    })
}

/// Parses a published port.
pub fn parse_publish(text: &str) -> Result<Publish, String> {
    const FORM: &str = "give HOST:GUEST or ADDRESS:HOST:GUEST, with /udp for UDP";
    let (ports, protocol) = match text.rsplit_once('/') {
        None | Some((_, "tcp")) => (text.strip_suffix("/tcp").unwrap_or(text), "tcp"),
        Some((ports, "udp")) => (ports, "udp"),
        Some(_) => return Err(FORM.into()),
    };
    let (rest, guest) = ports.rsplit_once(':').ok_or(FORM)?;
    let (address, host) = match rest.rsplit_once(':') {
        None => (Ipv4Addr::LOCALHOST, rest),
        Some((address, host)) => (address.parse().map_err(|_| FORM)?, host),
    };
    let port = |text: &str| text.parse().ok().filter(|port| *port != 0).ok_or(FORM);
    Ok(Publish { address, host: port(host)?, guest: port(guest)?, protocol })
}

/// Parses a variable: `NAME=VALUE`, or `NAME` for the value that `lookup` returns; `None`
/// if `lookup` knows no such variable.
pub fn parse_variable(
    text: &OsStr,
    lookup: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<Option<Vec<u8>>, String> {
    let bytes = text.as_bytes();
    match bytes.iter().position(|&byte| byte == b'=') {
        Some(0) => Err("a variable has a name".into()),
        Some(_) => Ok(Some(bytes.to_vec())),
        None if bytes.is_empty() => Err("a variable has a name".into()),
        None => Ok(lookup(text).map(|value| [bytes, b"=", value.as_bytes()].concat())),
    }
}

/// Parses a value of `--restart`: `WHEN`, or `WHEN:MAX` as container engines have it.
pub fn parse_restart(text: &str) -> Result<RestartPolicy, String> {
    let (name, max) = text.split_once(':').map_or((text, None), |(name, max)| (name, Some(max)));
    let when = one_of(&RESTARTS, name)?;
    let max = max.map(str::parse).transpose();
    let max = max.map_err(|_| "the most restarts, after the colon, are a number".to_owned())?;
    Ok(RestartPolicy { when, max, ..RestartPolicy::default() })
}

/// Parses a value of `--health-on-failure`.
pub fn parse_unhealthy(text: &str) -> Result<Unhealthy, String> {
    one_of(&UNHEALTHY, text)
}

/// The value with this name in a table.
fn one_of<T: Copy>(table: &[(&str, T)], name: &str) -> Result<T, String> {
    let names = || table.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    named(table, name.as_bytes()).ok_or_else(|| format!("one of {}", names()))
}

/// Parses the name or the number of a signal.
pub fn parse_signal(text: &str) -> Result<u8, String> {
    signal::parse(text.as_bytes()).ok_or_else(|| "a signal, as in TERM, SIGRTMIN+3 or 15".into())
}

/// Parses the name of a machine or a host. The name becomes part of a socket's name.
pub fn parse_name(text: &str) -> Result<String, String> {
    /// Longest host name in bytes (`__NEW_UTS_LEN`).
    const MAX: usize = 64;
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    match starts && text.len() <= MAX && text.chars().all(is_fine) {
        true => Ok(text.to_owned()),
        false => Err("letters, digits, - _ and . only, a letter or digit first, at most 64".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_parsed() {
        let volume = |source: &str, target: &str, access| {
            Ok(Volume { source: source.into(), target: target.into(), access })
        };
        let (ro, rw) = (Access::ReadOnly, Access::ReadWrite);
        for (text, expected) in [
            ("/a:/b", volume("/a", "/b", rw)),
            ("src:/b/c/:ro", volume("src", "/b/c", ro)),
            ("a:b:c:/x//./y:rw", volume("a:b:c", "/x/y", rw)),
            (".:/ro", volume(".", "/ro", rw)),
        ] {
            assert_eq!(parse_volume(OsStr::new(text)), expected, "{text}");
        }
        for bad in ["", "/a", "/a:", ":/b", "/a:b", "/a:/", "/a:/b/../c", "/a:/b:rx", "ro", "/a:ro"]
        {
            assert!(parse_volume(OsStr::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_are_parsed() {
        let publish = |address: [u8; 4], host, guest, protocol| {
            Ok(Publish { address: address.into(), host, guest, protocol })
        };
        for (text, expected) in [
            ("8080:80", publish([127, 0, 0, 1], 8080, 80, "tcp")),
            ("0.0.0.0:53:53/udp", publish([0, 0, 0, 0], 53, 53, "udp")),
            ("1:2/tcp", publish([127, 0, 0, 1], 1, 2, "tcp")),
        ] {
            assert_eq!(parse_publish(text), expected, "{text}");
            let shown = expected.map(|publish: Publish| publish.to_string());
            assert_eq!(shown, Ok(text.replace("/tcp", "")), "{text}");
        }
        for bad in ["", "80", "0:80", "80:0", "a:b", "::1:80:80", "1:2/sctp", "70000:1"] {
            assert!(parse_publish(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn variables_are_parsed() {
        let lookup = |name: &OsStr| (name == "HERE").then(|| OsString::from("x"));
        let parse = |text: &str| parse_variable(OsStr::new(text), lookup);
        assert_eq!(parse("A=b=c"), Ok(Some(b"A=b=c".to_vec())));
        assert_eq!(parse("A="), Ok(Some(b"A=".to_vec())));
        assert_eq!(parse("HERE"), Ok(Some(b"HERE=x".to_vec())));
        assert_eq!(parse("THERE"), Ok(None));
        assert!(parse("").is_err() && parse("=x").is_err());
    }

    #[test]
    fn names_are_checked() {
        assert!(["a", "my-vm_2.x"].iter().all(|text| parse_name(text).is_ok()));
        assert!(
            ["", "-x", "a b", "a/b", &"x".repeat(65)].iter().all(|text| parse_name(text).is_err())
        );
    }
}
