//! Helpers that the tests of all packages share. They find tools of the system, and skip a
//! test whose tool is missing. The tests that boot machines are in `cases`.
//!
//! libtest cannot skip a test that has begun. So a test whose tool is missing passes, but
//! prints a line that begins with [`SKIPPED`], and `cargo xtask test` counts it as skipped.
//! With `REQUIRE_VM=1` it fails.

pub mod console;

use std::io::Write;
use std::process::Command;

/// Beginning of the line that names a skipped test and the reason.
pub const SKIPPED: &str = "skipped: ";

/// A command for a tool of the system, which may be in a directory of tools for root.
#[must_use]
pub fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    command.env("PATH", path);
    command
}

/// Whether the tool is installed.
#[must_use]
pub fn is_installed(name: &str) -> bool {
    tool(name).arg("--help").output().is_ok()
}

/// Whether a skipped test is a failure, as in continuous integration.
#[must_use]
pub fn is_required() -> bool {
    std::env::var_os("REQUIRE_VM").is_some_and(|value| value == "1")
}

/// Whether the tool is installed. If not, the calling test counts as skipped.
///
/// # Panics
/// The tool is missing, and a skipped test is a failure.
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
/// A skipped test is a failure.
pub fn skip(reason: &str) {
    assert!(!is_required(), "{reason}");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("unknown");
    // libtest hides the text of `println!` unless the test fails. The line may follow an
    // incomplete line of libtest, so begin a new one.
    let _ = writeln!(std::io::stdout(), "\n{SKIPPED}{test}: {reason}"); // nobody reads standard output
}
