//! Checks of numbers: sizes, durations, modes, digests, ports.

use std::net::Ipv4Addr;

use super::super::quote::quote;
use crate::values::{
    parse_backoff, parse_duration, parse_memory, parse_mode, parse_percent, parse_size,
};

/// The error of a parser, with the text.
fn about<T>(text: &str, result: Result<T, String>) -> Result<(), String> {
    result.map(|_| ()).map_err(|message| format!("{}: {message}", quote(text)))
}

pub(super) fn size(text: &str) -> Result<(), String> {
    about(text, parse_size(text))
}

pub(super) fn memory(text: &str) -> Result<(), String> {
    about(text, parse_memory(text))
}

pub(super) fn percent(text: &str) -> Result<(), String> {
    about(text, parse_percent(text))
}

pub(super) fn duration(text: &str) -> Result<(), String> {
    about(text, parse_duration(text))
}

pub(super) fn backoff(text: &str) -> Result<(), String> {
    about(text, parse_backoff(text))
}

pub(super) fn mode(text: &str) -> Result<(), String> {
    about(text, parse_mode(text))
}

/// Whether `text` is `digits` hexadecimal digits.
fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn sha256(text: &str) -> Result<(), String> {
    match is_hex(text, 64) {
        true => Ok(()),
        false => Err(format!("{}: give the 64 hexadecimal digits of sha256sum", quote(text))),
    }
}

pub(super) fn sha256_digest(text: &str) -> Result<(), String> {
    match text.strip_prefix("sha256:").is_some_and(|hex| is_hex(hex, 64)) {
        true => Ok(()),
        false => Err(format!("{}: give sha256: and 64 hexadecimal digits", quote(text))),
    }
}

pub(super) fn digest(text: &str) -> Result<(), String> {
    match text.strip_prefix("sha512:").is_some_and(|hex| is_hex(hex, 128)) {
        true => Ok(()),
        false => sha256_digest(text),
    }
}

/// Number of a port, without a sign.
fn is_port(text: &str) -> bool {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number && text.parse::<u16>().is_ok_and(|port| port != 0)
}

/// `text` without the name of its protocol.
fn ports(text: &str) -> &str {
    text.strip_suffix("/tcp").or_else(|| text.strip_suffix("/udp")).unwrap_or(text)
}

pub(super) fn port(text: &str) -> Result<(), String> {
    match is_port(ports(text)) {
        true => Ok(()),
        false => Err(format!("{}: give PORT, PORT/tcp or PORT/udp", quote(text))),
    }
}

pub(super) fn publish(text: &str) -> Result<(), String> {
    let words: Vec<_> = ports(text).split(':').collect();
    let is_fine = match words[..] {
        [host, guest] => is_port(host) && is_port(guest),
        [address, host, guest] => {
            address.parse::<Ipv4Addr>().is_ok() && is_port(host) && is_port(guest)
        }
        _ => false,
    };
    match is_fine {
        true => Ok(()),
        false => Err(format!(
            "{}: give HOST:GUEST or ADDRESS:HOST:GUEST, with /udp for UDP",
            quote(text)
        )),
    }
}
