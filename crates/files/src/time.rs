//! Times in documents and logs.
//!
//! Format: RFC 3339, section 5.6.

use std::time::Duration;

/// Number of bytes of a time of [`timestamp_micros`], for years up to 9999.
pub const TIMESTAMP_MICROS_LENGTH: usize = "1970-01-01T00:00:00.000000Z".len();

/// A time as RFC 3339 has it, in UTC. A time outside of the years 0 to 9999 becomes the nearest
/// one inside.
#[must_use]
pub fn timestamp(seconds: i64) -> String {
    format!("{}Z", date_and_time(seconds))
}

/// A time with microseconds as RFC 3339 has it, in UTC, for example `1970-01-01T00:00:00.000000Z`.
#[must_use]
pub fn timestamp_micros(since_1970: Duration) -> String {
    let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
    format!("{}.{:06}Z", date_and_time(seconds), since_1970.subsec_micros())
}

/// Date and time without the time zone. `seconds` are those since 1970.
fn date_and_time(seconds: i64) -> String {
    const DAY: i64 = 86_400;
    const FIRST: i64 = -62_167_219_200;
    const LAST: i64 = 253_402_300_799;
    let seconds = seconds.clamp(FIRST, LAST);
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    // Days since 0000-03-01, so that the leap day is the last day of a year (Howard Hinnant,
    // "chrono-Compatible Low-Level Date Algorithms").
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + carry;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_704_164_645, "2024-01-02T03:04:05Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (i64::MAX, "9999-12-31T23:59:59Z"),
            (i64::MIN, "0000-01-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(seconds), expected);
        }
    }

    #[test]
    fn microseconds_have_six_digits() {
        for (time, expected) in [
            (Duration::ZERO, "1970-01-01T00:00:00.000000Z"),
            (Duration::new(1_704_164_645, 7_999), "2024-01-02T03:04:05.000007Z"),
            (Duration::new(951_782_400, 999_999_999), "2000-02-29T00:00:00.999999Z"),
            (Duration::MAX, "9999-12-31T23:59:59.999999Z"),
        ] {
            let found = timestamp_micros(time);
            assert_eq!((found.as_str(), found.len()), (expected, TIMESTAMP_MICROS_LENGTH));
        }
    }
}
