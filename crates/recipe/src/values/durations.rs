//! Durations: a whole number with a suffix; a number without one counts seconds.

use std::time::Duration;

use proto::settings::restart::Backoff;

/// Parses a duration, such as `90`, `90s`, `500ms`, `5m`, `2h` or `30d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const FORM: &str = "give a number of seconds above 0, or one with a suffix ms, s, m, h or d";
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let number: u64 = digits.parse().map_err(|_| FORM)?;
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(FORM.into()),
    };
    let millis = number.checked_mul(millis).filter(|millis| (1..u64::MAX / 4).contains(millis));
    millis.map(Duration::from_millis).ok_or_else(|| FORM.into())
}

/// Writes a duration that [`parse_duration`] reads: a whole number with the largest suffix up
/// to `h` that fits. What is below a millisecond is left out.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    /// Suffixes with their milliseconds, the largest first.
    const UNITS: &[(&str, u128)] = &[("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    let millis = duration.as_millis();
    match UNITS.iter().find(|(_, unit)| millis.is_multiple_of(*unit)) {
        Some((suffix, unit)) => format!("{}{suffix}", millis / unit),
        None => format!("{millis}ms"),
    }
}

/// Parses two pauses, such as `100ms..1m`: the first and the longest one.
pub fn parse_backoff(text: &str) -> Result<Backoff, String> {
    const FORM: &str = "give the first and the longest pause, such as 100ms..1m";
    let (first, longest) = text.split_once("..").ok_or(FORM)?;
    let (first, longest) = (parse_duration(first)?, parse_duration(longest)?);
    match first <= longest {
        true => Ok(Backoff { first, longest }),
        false => Err(FORM.into()),
    }
}

/// Writes pauses that [`parse_backoff`] reads.
#[must_use]
pub fn show_backoff(Backoff { first, longest }: Backoff) -> String {
    format!("{}..{}", show_duration(first), show_duration(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed() {
        for (text, millis) in
            [("90", 90_000), ("4s", 4000), ("5m", 300_000), ("1h", 3_600_000), ("2d", 172_800_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in
            ["", "s", "0", "-1", "1.5", "4 s", "1w", "99999999999999999999", "9999999999999999h"]
        {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shown_durations_are_read_again() {
        for (millis, text) in
            [(1, "1ms"), (1500, "1500ms"), (90_000, "90s"), (600_000, "10m"), (172_800_000, "48h")]
        {
            assert_eq!(show_duration(Duration::from_millis(millis)), text);
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)));
        }
        let backoff = Backoff::default();
        assert_eq!(show_backoff(backoff), "100ms..1m");
        assert_eq!(parse_backoff("100ms..1m"), Ok(backoff));
    }
}
