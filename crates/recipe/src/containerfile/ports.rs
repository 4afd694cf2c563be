//! Ports of EXPOSE, and signals of STOPSIGNAL.

use crate::table::quote;

/// Protocols of ports.
const PROTOCOLS: &[&str] = &["tcp", "udp", "sctp"];

/// Ports that `text` names, as `NUMBER/PROTOCOL`: a number or a range, perhaps with a protocol.
///
/// # Errors
/// A number or the protocol is wrong, or the host's side of a mapping is given.
pub(super) fn ports(text: &str) -> Result<impl Iterator<Item = String>, String> {
    let wrong =
        || format!("EXPOSE {} is wrong: give a port such as 80, 53/udp or 8000-8010", quote(text));
    if text.contains(':') {
        let text = quote(text);
        return Err(format!("EXPOSE {text} names a port of the host: give the image's port alone"));
    }
    let (range, protocol) = text.split_once('/').unwrap_or((text, ""));
    let protocol = match &*protocol.to_ascii_lowercase() {
        "" => "tcp",
        protocol => PROTOCOLS.iter().find(|known| **known == protocol).ok_or_else(wrong)?,
    };
    let number = |text: &str| {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| is_number)
    };
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (number(first).ok_or_else(wrong)?, number(last).ok_or_else(wrong)?);
    if last < first {
        return Err(wrong());
    }
    Ok((first..=last).map(move |number| format!("{number}/{protocol}")))
}

/// Signals of Linux without `SIG` (signal(7)).
#[rustfmt::skip]
const SIGNALS: &[&str] = &[
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// Checks a signal: a number from 1 to 64, or a name.
///
/// # Errors
/// There is no such signal.
pub(super) fn check_signal(text: &str) -> Result<(), String> {
    /// Largest number of a signal (`SIGRTMAX`).
    const LARGEST: u8 = 64;
    /// Signals behind RTMIN, and before RTMAX, that have a name.
    const REAL_TIME: &[(&str, u8)] = &[("RTMIN+", 15), ("RTMAX-", 14)];
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let is_real_time = REAL_TIME.iter().any(|(start, most)| {
        let number = name.strip_prefix(start).and_then(|number| number.parse::<u8>().ok());
        number.is_some_and(|number| (1..=*most).contains(&number))
    });
    let is_number = text.parse::<u8>().is_ok_and(|number| (1..=LARGEST).contains(&number));
    if is_number || is_real_time || SIGNALS.contains(&name) {
        return Ok(());
    }
    Err(format!("STOPSIGNAL {} is no signal: give a name such as SIGTERM", quote(text)))
}
