//! Numbers of signals, and the names that images have for them.
//!
//! Interface: signal(7); the numbers are those of x86, Arm and RISC-V
//! (`include/uapi/asm-generic/signal.h`). Images name their stop signal as `SIGQUIT`, `QUIT`,
//! `3` or `SIGRTMIN+3` (image-spec, config.md).
//!
//! Real-time signals count from [`RTMIN`], which is glibc's `SIGRTMIN` and the number from
//! which container engines count. musl has another `SIGRTMIN`, but an image that names
//! `SIGRTMIN+3` means the signal by which systemd powers off.

use crate::words::{number, text};

/// First real-time signal that programs may use; glibc keeps 32 and 33 for itself.
pub const RTMIN: u8 = 34;

/// Last real-time signal (`_NSIG`).
pub const RTMAX: u8 = 64;

/// Last signal that has a name of its own, `SIGSYS`.
const LAST_NAMED: u8 = 31;

/// Names without their `SIG`.
#[rustfmt::skip]
const NAMES: &[(&str, u8)] = &[
    ("HUP", 1), ("INT", 2), ("QUIT", 3), ("ILL", 4), ("TRAP", 5), ("ABRT", 6), ("IOT", 6),
    ("BUS", 7), ("FPE", 8), ("KILL", 9), ("USR1", 10), ("SEGV", 11), ("USR2", 12),
    ("PIPE", 13), ("ALRM", 14), ("TERM", 15), ("STKFLT", 16), ("CHLD", 17), ("CLD", 17),
    ("CONT", 18), ("STOP", 19), ("TSTP", 20), ("TTIN", 21), ("TTOU", 22), ("URG", 23),
    ("XCPU", 24), ("XFSZ", 25), ("VTALRM", 26), ("PROF", 27), ("WINCH", 28), ("IO", 29),
    ("POLL", 29), ("PWR", 30), ("SYS", 31), ("RTMIN", RTMIN), ("RTMAX", RTMAX),
];

/// Whether a program may be sent the signal of this number.
#[must_use]
pub fn is_valid(number: u8) -> bool {
    matches!(number, 1..=LAST_NAMED | RTMIN..=RTMAX)
}

/// Reads the name or the number of a signal, in upper or lower case: `SIGQUIT`, `QUIT`, `3`,
/// `SIGRTMIN+3`, `RTMAX-1`. `None`: there is no such signal.
#[must_use]
pub fn parse(name: &[u8]) -> Option<u8> {
    let found = match number(name) {
        Some(number) => u8::try_from(number).ok()?,
        None => named(text(name))?,
    };
    is_valid(found).then_some(found)
}

fn named(name: &str) -> Option<u8> {
    let prefix = name.get(..3).filter(|prefix| prefix.eq_ignore_ascii_case("SIG"));
    let name = name.get(prefix.map_or(0, str::len)..)?;
    let at = name.find(['+', '-']).unwrap_or(name.len());
    let (base, offset) = (name.get(..at)?, name.get(at..)?);
    let base = NAMES.iter().find(|(row, _)| row.eq_ignore_ascii_case(base))?.1;
    if offset.is_empty() {
        return Some(base);
    }
    let distance = u8::try_from(number(offset.get(1..)?.as_bytes())?).ok()?;
    let found = match (base, offset.starts_with('+')) {
        (RTMIN, true) => base.checked_add(distance),
        (RTMAX, false) => base.checked_sub(distance),
        _ => None,
    };
    found.filter(|found| (RTMIN..=RTMAX).contains(found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;

    #[test]
    fn names_and_numbers_are_signals() {
        for (name, expected) in [
            ("SIGQUIT", Some(3)),
            ("QUIT", Some(3)),
            ("sigquit", Some(3)),
            ("3", Some(3)),
            ("SIGTERM", Some(15)),
            ("WINCH", Some(28)),
            ("SIGRTMIN+3", Some(37)),
            ("rtmin+3", Some(37)),
            ("RTMIN", Some(34)),
            ("RTMIN+0", Some(34)),
            ("RTMIN+30", Some(64)),
            ("RTMAX-30", Some(34)),
            ("37", Some(37)),
            ("64", Some(64)),
            ("0", None),
            ("32", None),
            ("33", None),
            ("65", None),
            ("259", None),
            ("-9", None),
            ("", None),
            ("SIG", None),
            ("SIGSIGHUP", None),
            ("SIGHUP+1", None),
            ("SIGRTMIN-1", None),
            ("SIGRTMIN+31", None),
            ("SIGRTMAX-31", None),
            ("SIGRTMIN+", None),
            ("RTMIN+-1", None),
            ("SIGTERM ", None),
            ("SI\u{e9}", None),
        ] {
            assert_eq!(parse(name.as_bytes()), expected, "{name}");
        }
    }

    /// The C library has the same numbers.
    #[test]
    fn numbers_are_those_of_the_system() {
        for (name, number) in [
            ("HUP", libc::SIGHUP),
            ("BUS", libc::SIGBUS),
            ("USR2", libc::SIGUSR2),
            ("STKFLT", libc::SIGSTKFLT),
            ("CHLD", libc::SIGCHLD),
            ("URG", libc::SIGURG),
            ("POLL", libc::SIGPOLL),
            ("PWR", libc::SIGPWR),
            ("SYS", libc::SIGSYS),
            ("RTMIN+3", libc::SIGRTMIN() + 3),
            ("RTMAX", libc::SIGRTMAX()),
        ] {
            assert_eq!(parse(name.as_bytes()).map(i32::from), Some(number), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            prop_assert!(parse(&bytes).is_none_or(is_valid));
        }

        #[test]
        fn every_real_time_signal_has_two_names(distance in 0_u8..=30) {
            let from_first = parse(format!("SIGRTMIN+{distance}").as_bytes());
            let from_last = parse(format!("SIGRTMAX-{}", 30 - distance).as_bytes());
            prop_assert_eq!(from_first, Some(RTMIN + distance));
            prop_assert_eq!(from_last, from_first);
        }
    }
}
