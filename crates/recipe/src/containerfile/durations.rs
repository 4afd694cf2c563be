//! Durations as Go writes them: `1h30m`, `1.5s`, `500ms`, `0`.

use std::time::Duration;

/// Units with their nanoseconds (Go `time.ParseDuration`); longer names first.
const UNITS: &[(&str, f64)] =
    &[("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];

/// Longest duration, as Go has it: 2^63 - 1 nanoseconds.
const NANOSECONDS_MAX: f64 = 9.2e18;

/// Parses a duration; `None` if `text` is none, or negative.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(end);
        let number: f64 = number.parse().ok()?;
        let (unit, factor) = UNITS.iter().find(|(unit, _)| behind.starts_with(unit))?;
        total += number * factor;
        rest = behind.get(unit.len()..)?;
    }
    let is_sane = total <= NANOSECONDS_MAX;
    // Whole nanoseconds below 2^63: nothing is lost that a duration has.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    is_sane.then(|| Duration::from_nanos(total.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, nanoseconds) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("30s", Some(30_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("500ms", Some(500_000_000)),
            (".5s", Some(500_000_000)),
            ("1us", Some(1000)),
            ("", None),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1.s.", None),
            ("1x", None),
            (".", None),
            ("99999999999999h", None),
        ] {
            assert_eq!(duration(text), nanoseconds.map(Duration::from_nanos), "{text}");
        }
    }
}
