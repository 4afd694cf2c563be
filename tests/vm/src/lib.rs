//! Helpers that the tests of all packages share: they find tools of the system, and skip
//! a test whose tool is missing. The tests that boot machines are in `cases/main.rs`.
//!
//! libtest cannot skip a test that has begun. So a test that lacks something
//! passes, but says so in a line that begins with [`SKIPPED`], and `cargo xtask
//! test` counts it as skipped. With `REQUIRE_VM=1` it fails.

use std::io::Write;
use std::process::Command;

/// Beginning of a line that names a skipped test and the reason.
pub const SKIPPED: &str = "skipped: ";

/// A tool of the system, of those for root as well.
#[must_use]
pub fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    command.env("PATH", path);
    command
}

/// Whether the tool can be run here.
#[must_use]
pub fn is_installed(name: &str) -> bool {
    tool(name).arg("--help").output().is_ok()
}

/// Whether nothing may be skipped, as in continuous integration.
#[must_use]
pub fn is_required() -> bool {
    std::env::var_os("REQUIRE_VM").is_some_and(|value| value == "1")
}

/// Whether the tool is there. Where it is not, the test that asks is skipped.
///
/// # Panics
/// The tool is missing, and nothing may be skipped.
#[must_use]
pub fn has(name: &str) -> bool {
    let found = is_installed(name);
    if !found {
        skip(&format!("{name} is missing: run scripts/setup test"));
    }
    found
}

/// Counts the calling test as skipped.
///
/// # Panics
/// Nothing may be skipped.
pub fn skip(reason: &str) {
    assert!(!is_required(), "{reason}");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("unknown");
    // Not by `println!`, whose text libtest only shows of tests that fail. The line before
    // may be one of libtest's that is not complete.
    let _ = writeln!(std::io::stdout(), "\n{SKIPPED}{test}: {reason}"); // nobody reads it
}
