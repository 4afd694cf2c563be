//! The time that stands in everything which is released: that of the source, not that of the build.
//!
//! Interface: `SOURCE_DATE_EPOCH` (reproducible-builds.org), seconds since 1970.

use std::path::Path;
use std::process::Command;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use machine::toolchain::output_of;

/// Name of the variable.
pub const VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// RFC 5322, as in a Debian changelog; a format of date(1).
pub const RFC_5322: &str = "%a, %d %b %Y %H:%M:%S +0000";
/// RFC 3339; a format of date(1).
pub const RFC_3339: &str = "%Y-%m-%dT%H:%M:%SZ";
/// A day as in the changelog of an RPM; a format of date(1).
pub const RPM_DAY: &str = "%a %b %d %Y";

/// Time of the source at `root`, in seconds since 1970: the variable, or the last commit's time.
/// In a release tarball, every file has the commit's time.
///
/// # Errors
/// The variable is no number, or the tree has no changelog.
pub fn of(root: &Path) -> Result<u64> {
    if let Ok(text) = std::env::var(VARIABLE) {
        return text.parse().with_context(|| format!("{VARIABLE}={text} is no number of seconds"));
    }
    if root.join(".git").exists() {
        let mut git = Command::new("git");
        let time = output_of(git.current_dir(root).args(["log", "-1", "--format=%ct"]))?;
        return time.trim().parse().with_context(|| format!("git log says {time}"));
    }
    let path = root.join("CHANGELOG.md");
    let metadata = path.metadata().with_context(|| format!("find {}", path.display()))?;
    Ok(metadata.modified()?.duration_since(UNIX_EPOCH).context("a time before 1970")?.as_secs())
}

/// `seconds` since 1970 in a format of date(1), in UTC and in English.
///
/// # Errors
/// date(1) cannot be run.
pub fn format(seconds: u64, format: &str) -> Result<String> {
    let mut date = Command::new("date");
    date.env("LC_ALL", "C").args(["--utc", &format!("--date=@{seconds}"), &format!("+{format}")]);
    Ok(output_of(&mut date)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_english_and_utc() {
        for (name, expected) in [
            (RFC_5322, "Mon, 30 Nov 2026 06:58:09 +0000"),
            (RFC_3339, "2026-11-30T06:58:09Z"),
            (RPM_DAY, "Mon Nov 30 2026"),
        ] {
            assert_eq!(format(1_796_021_889, name).unwrap(), expected);
        }
    }
}
