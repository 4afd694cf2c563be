//! Platforms: operating system, architecture and variant, and which image of an index fits.
//!
//! Format: the names of Go (`GOOS`, `GOARCH`), with variants (OCI image specification,
//! `image-index.md`, "Platform Variants").

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// The platform for which an image was built.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system, such as `linux`.
    #[serde(default)]
    pub os: String,
    /// Architecture, such as `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// Variant of the architecture, such as `v7` of `arm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Names of Rust for architectures, and those of images.
#[rustfmt::skip]
const ARCHITECTURES: &[(&str, &str)] = &[
    ("x86_64",      "amd64"),
    ("x86",         "386"),
    ("aarch64",     "arm64"),
    ("arm",         "arm"),
    ("powerpc64",   "ppc64le"),
    ("s390x",       "s390x"),
    ("riscv64",     "riscv64"),
    ("loongarch64", "loong64"),
];

/// Other names that people use.
#[rustfmt::skip]
const ALIASES: &[(&str, &str, Option<&str>)] = &[
    ("x86_64",  "amd64",   None),
    ("x86-64",  "amd64",   None),
    ("i386",    "386",     None),
    ("aarch64", "arm64",   None),
    ("armhf",   "arm",     Some("v7")),
    ("armel",   "arm",     Some("v6")),
    ("ppc64el", "ppc64le", None),
];

/// Variant of an image that names none.
#[rustfmt::skip]
const DEFAULT_VARIANTS: &[(&str, &str)] = &[
    ("amd64", "v1"),
    ("arm",   "v7"),
    ("arm64", "v8"),
];

impl Platform {
    /// Linux on the architecture of this program.
    #[must_use]
    pub fn host() -> Self {
        let arch = std::env::consts::ARCH;
        let name = ARCHITECTURES.iter().find(|row| row.0 == arch).map_or(arch, |row| row.1);
        Self { os: "linux".into(), architecture: name.into(), variant: None }
    }

    /// How well an image for `other` serves this platform: the larger, the better; `None` if it
    /// does not run here. An older variant runs on a newer one, but not the other way round.
    #[must_use]
    pub fn rank(&self, other: &Self) -> Option<u32> {
        if (&self.os, &self.architecture) != (&other.os, &other.architecture) {
            return None;
        }
        let ours = self.level()?;
        let theirs = other.level()?;
        (theirs <= ours).then_some(theirs)
    }

    /// Number of the variant; variants are `v1`, `v2` and so on.
    fn level(&self) -> Option<u32> {
        let default = DEFAULT_VARIANTS.iter().find(|row| row.0 == self.architecture);
        let variant = self.variant.as_deref().filter(|text| !text.is_empty());
        match variant.or(default.map(|row| row.1)) {
            None => Some(0),
            Some(text) => text.strip_prefix('v')?.parse().ok(),
        }
    }
}

impl FromStr for Platform {
    type Err = anyhow::Error;

    /// Parses `[OS/]ARCHITECTURE[/VARIANT]`.
    fn from_str(text: &str) -> Result<Self> {
        const FORM: &str = "give ARCHITECTURE, OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as \
                            arm64 or linux/arm/v7";
        let parts: Vec<_> = text.split('/').collect();
        let is_word = |word: &&str| {
            let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !word.is_empty() && word.bytes().all(is_fine)
        };
        ensure!(parts.iter().all(is_word), "platform \"{}\": {FORM}", text.escape_debug());
        let (os, architecture, variant) = match parts[..] {
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => anyhow::bail!("platform \"{}\": {FORM}", text.escape_debug()),
        };
        let alias = ALIASES.iter().find(|row| row.0 == architecture);
        let (architecture, implied) = alias.map_or((architecture, None), |row| (row.1, row.2));
        let variant = variant.or(implied).map(str::to_owned);
        Ok(Self { os: os.into(), architecture: architecture.into(), variant })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_deref() {
            None | Some("") => Ok(()),
            Some(variant) => write!(f, "/{variant}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn platforms_are_parsed() {
        for (text, shown) in [
            ("arm64", "linux/arm64"),
            ("aarch64", "linux/arm64"),
            ("linux/amd64", "linux/amd64"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("armhf", "linux/arm/v7"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(platform(text).to_string(), shown, "{text}");
        }
        for text in ["", "/", "linux/", "a/b/c/d", "linux/a b", "\u{1b}"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_newest_variant_that_runs_is_preferred() {
        let images =
            ["linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm64", "linux/arm64/v9"];
        for (wanted, best) in [
            ("arm", Some("linux/arm/v7")),
            ("linux/arm/v6", Some("linux/arm/v6")),
            ("linux/arm/v4", None),
            ("arm64", Some("linux/arm64")),
            ("linux/arm64/v8", Some("linux/arm64")),
            ("linux/arm64/v9", Some("linux/arm64/v9")),
            ("amd64", None),
        ] {
            let wanted = platform(wanted);
            let ranked =
                images.iter().filter_map(|image| Some((wanted.rank(&platform(image))?, *image)));
            assert_eq!(ranked.max().map(|found| found.1), best, "{wanted}");
        }
        let odd = Platform { variant: Some("x".into()), ..platform("arm64") };
        assert_eq!(platform("arm64").rank(&odd), None);
    }
}
