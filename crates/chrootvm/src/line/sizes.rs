//! Parsers of sizes, for every option that takes one.
//!
//! A size is a number, with decimals if they make whole bytes, and a suffix in either case:
//! `k`, `M`, `G` or `T`, alone or followed by `B`, `i` or `iB`; or `B` for bytes. All suffixes
//! are powers of 1024. Each option says what a number without a suffix means.

use std::fmt;

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

/// Size of an overlay in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlaySize {
    /// The default of tmpfs(5), half of the memory.
    Default,
    /// Number of bytes.
    Bytes(u64),
    /// Percentage of the memory.
    Percent(u32),
}

impl OverlaySize {
    /// Number of bytes; 0 if the size is a part of the memory.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Default | Self::Percent(_) => 0,
        }
    }
}

/// The value of `size=` of tmpfs(5); empty for the default.
impl fmt::Display for OverlaySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => Ok(()),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

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

/// Parses the size of an overlay: a size in bytes, or a percentage of the memory. An empty
/// text is the default size.
pub fn parse_overlay(text: &str) -> Result<OverlaySize, String> {
    if text.is_empty() {
        return Ok(OverlaySize::Default);
    }
    if text.ends_with('%') {
        let percent = parse_percent(text).ok().filter(|percent| (1..=100).contains(percent));
        return percent.map(OverlaySize::Percent).ok_or_else(|| "give 1% to 100%".into());
    }
    match bytes(text, BareUnit::Bytes) {
        // tmpfs takes 0 for no limit.
        Ok(0) => Err("at least 1 byte".into()),
        Ok(bytes) => Ok(OverlaySize::Bytes(bytes)),
        Err(error) => Err(format!("{error}; or give a percentage of the memory")),
    }
}

/// Parses a percentage, such as `10` or `10%`.
pub fn parse_percent(text: &str) -> Result<u32, String> {
    let digits = text.strip_suffix('%').unwrap_or(text);
    let number = digits.parse().ok().filter(|_| !digits.starts_with('+'));
    number.ok_or_else(|| "give a whole number of percent, such as 10 or 10%".into())
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
    fn an_overlay_has_bytes_or_a_percentage() {
        for (text, size, tmpfs) in [
            ("", Some(OverlaySize::Default), ""),
            ("512m", Some(OverlaySize::Bytes(512 << 20)), "536870912"),
            ("2GiB", Some(OverlaySize::Bytes(2 << 30)), "2147483648"),
            ("1048576", Some(OverlaySize::Bytes(1 << 20)), "1048576"),
            ("50%", Some(OverlaySize::Percent(50)), "50%"),
            ("100%", Some(OverlaySize::Percent(100)), "100%"),
            ("0", None, ""),
            ("0%", None, ""),
            ("101%", None, ""),
            ("%", None, ""),
            ("1.5%", None, ""),
            ("m", None, ""),
            ("1mm", None, ""),
            ("1,huge=always", None, ""),
        ] {
            let found = parse_overlay(text).ok();
            assert_eq!(found, size, "{text}");
            assert_eq!(found.map(|size| size.to_string()).unwrap_or_default(), tmpfs, "{text}");
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
