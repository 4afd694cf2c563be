//! Sizes of options: the size of an overlay, and the sizes that recipes have, too.

use std::fmt;

pub use recipe::values::{parse_memory, parse_percent, parse_size};

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
    match parse_size(text) {
        // tmpfs takes 0 for no limit.
        Ok(0) => Err("at least 1 byte".into()),
        Ok(bytes) => Ok(OverlaySize::Bytes(bytes)),
        Err(error) => Err(format!("{error}; or give a percentage of the memory")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
