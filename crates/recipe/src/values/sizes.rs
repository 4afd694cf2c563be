//! Sizes and percentages.
//!
//! A size is a number, with decimals if they make whole bytes, and a suffix in either case:
//! `k`, `M`, `G` or `T`, alone or followed by `B`, `i` or `iB`; or `B` for bytes. All suffixes
//! are powers of 1024. Each option says what a number without a suffix means.

/// Unit of a number without a suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BareUnit {
    Bytes,
    Mebibytes,
}

/// Suffixes, as powers of two.
const SUFFIXES: &[(&str, u32)] = &[("k", 10), ("m", 20), ("g", 30), ("t", 40)];

/// Endings of a suffix, such as the `iB` of `GiB`.
const SUFFIX_ENDS: &[&str] = &["", "b", "i", "ib"];

/// Bytes of a MiB.
const MEBIBYTE: u64 = 1 << 20;

/// Parses a size in bytes, such as `4096`, `64k`, `512M` or `1.5GiB`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    bytes(text, BareUnit::Bytes)
}

/// Parses a size of memory in MiB, such as `512`, `512M` or `4G`.
pub fn parse_memory(text: &str) -> Result<u64, String> {
    /// Smallest memory in MiB in which the kernel of a distribution boots.
    const MINIMUM: u64 = 32;
    let bytes = bytes(text, BareUnit::Mebibytes)?;
    match bytes / MEBIBYTE {
        _ if bytes % MEBIBYTE != 0 => Err("give a whole number of MiB".into()),
        size if size < MINIMUM => Err(format!("at least {MINIMUM}M")),
        size => Ok(size),
    }
}

/// Parses a percentage, such as `10` or `10%`.
pub fn parse_percent(text: &str) -> Result<u32, String> {
    let digits = text.strip_suffix('%').unwrap_or(text);
    let number = digits.parse().ok().filter(|_| !digits.starts_with('+'));
    number.ok_or_else(|| "give a whole number of percent, such as 10 or 10%".into())
}

/// Writes a size that [`parse_size`] and [`parse_memory`] read as these bytes: a whole number
/// with the largest suffix that fits.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let fits = |(_, shift): &&(&str, u32)| bytes != 0 && bytes.is_multiple_of(1 << shift);
    match SUFFIXES.iter().rev().find(fits) {
        Some((suffix @ "k", shift)) => format!("{}{suffix}", bytes >> shift),
        Some((suffix, shift)) => format!("{}{}", bytes >> shift, suffix.to_ascii_uppercase()),
        None => format!("{bytes}B"),
    }
}

/// Number of bytes that `text` means.
fn bytes(text: &str, bare: BareUnit) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let size = factor(suffix, bare).and_then(|factor| multiply(number, factor));
    size.ok_or_else(|| {
        let unit = match bare {
            BareUnit::Bytes => "bytes",
            BareUnit::Mebibytes => "MiB",
        };
        format!("give a size such as 512M, 2G or 1.5GiB; a number without a suffix is in {unit}")
    })
}

/// Number of bytes that a unit has.
fn factor(suffix: &str, bare: BareUnit) -> Option<u64> {
    let suffix = suffix.to_ascii_lowercase();
    match (&*suffix, bare) {
        ("", BareUnit::Mebibytes) => Some(MEBIBYTE),
        ("", BareUnit::Bytes) | ("b", _) => Some(1),
        _ => SUFFIXES.iter().find_map(|(prefix, shift)| {
            let rest = suffix.strip_prefix(prefix)?;
            SUFFIX_ENDS.contains(&rest).then_some(1 << shift)
        }),
    }
}

/// `number`, which may have decimals, times `factor`, if that is a whole number.
fn multiply(number: &str, factor: u64) -> Option<u64> {
    let (whole, decimals) = match number.split_once('.') {
        Some((whole, decimals)) if !decimals.is_empty() => (whole, decimals),
        Some(_) => return None,
        None => (number, ""),
    };
    if whole.is_empty() {
        return None;
    }
    let digits: u128 = format!("{whole}{decimals}").parse().ok()?;
    let scale = 10_u128.checked_pow(decimals.len().try_into().ok()?)?;
    let scaled = digits.checked_mul(factor.into())?;
    (scaled % scale == 0).then(|| u64::try_from(scaled / scale).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed() {
        for (text, size) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("4096B", Some(4096)),
            ("64k", Some(65536)),
            ("64K", Some(65536)),
            ("2M", Some(2 << 20)),
            ("2g", Some(2 << 30)),
            ("2Gi", Some(2 << 30)),
            ("2GB", Some(2 << 30)),
            ("2GiB", Some(2 << 30)),
            ("2gib", Some(2 << 30)),
            ("1t", Some(1 << 40)),
            ("1.5G", Some(3 << 29)),
            ("0.50k", Some(512)),
            ("1.0", Some(1)),
            ("16777215T", Some(16_777_215 << 40)),
            ("16777216T", None),
            ("0.1k", None),
            ("1.5", None),
            ("1.", None),
            (".5G", None),
            ("1.5.5G", None),
            ("k", None),
            ("", None),
            (".", None),
            ("-1", None),
            ("+1", None),
            ("1 G", None),
            ("2iB", None),
            ("2Gx", None),
            ("2P", None),
            ("50%", None),
            ("1é", None),
            ("99999999999999999999999999999999999999999", None),
            ("0.00000000000000000000000000000000000000000", None),
        ] {
            assert_eq!(parse_size(text).ok(), size, "{text}");
        }
        let error = parse_size("much").unwrap_err();
        assert!(error.ends_with("a number without a suffix is in bytes"), "{error}");
    }

    #[test]
    fn memory_is_in_mebibytes() {
        for (text, size) in [
            ("512", Ok(512)),
            ("2048", Ok(2048)),
            ("64M", Ok(64)),
            ("4g", Ok(4096)),
            ("2GB", Ok(2048)),
            ("2GiB", Ok(2048)),
            ("2Gi", Ok(2048)),
            ("1.5G", Ok(1536)),
            ("1T", Ok(1 << 20)),
            ("65536k", Ok(64)),
            ("67108864B", Ok(64)),
            ("100000k", Err("whole number of MiB")),
            ("40.5", Err("whole number of MiB")),
            ("8M", Err("at least 32M")),
            ("0", Err("at least 32M")),
            ("much", Err("a number without a suffix is in MiB")),
            ("50%", Err("give a size such as")),
            ("18014398509481984G", Err("give a size such as")),
        ] {
            match (parse_memory(text), size) {
                (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
                (found, size) => assert_eq!(found.ok(), size.ok(), "{text}"),
            }
        }
    }

    #[test]
    fn shown_sizes_are_read_again() {
        for (bytes, text) in [
            (0, "0B"),
            (1, "1B"),
            (65536, "64k"),
            (65537, "65537B"),
            (512 << 20, "512M"),
            (3 << 29, "1536M"),
            (16 << 30, "16G"),
            (2 << 40, "2T"),
            (u64::MAX, "18446744073709551615B"),
        ] {
            assert_eq!(show_size(bytes), text);
            assert_eq!(parse_size(text), Ok(bytes));
        }
    }

    #[test]
    fn a_percentage_needs_no_sign() {
        for (text, percent) in
            [("10", Some(10)), ("10%", Some(10)), ("0", Some(0)), ("+1", None), ("%", None)]
        {
            assert_eq!(parse_percent(text).ok(), percent, "{text}");
        }
    }
}
