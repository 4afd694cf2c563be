//! `cargo xtask check`: what a reviewer should not have to say.

use std::process::Command;

use anyhow::Result;
use files::tell;

use crate::testbed::run;
use crate::workspace;

/// Check format, lints, documentation, manual pages and scripts
#[derive(Debug, clap::Args)]
pub struct Check {}

/// Arguments of cargo, one run a row.
#[rustfmt::skip]
const CARGO: &[&[&str]] = &[
    &["fmt", "--all", "--check"],
    &["clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "-Dwarnings"],
    // The binary of the guest is no part of a plain build.
    &["clippy", "--quiet", "--locked", "--package", "virtinitrd-init", "--features", "guest",
      "--profile", "guest", "--target-dir", "target/guest", "--", "-Dwarnings"],
    &["doc", "--quiet", "--locked", "--workspace", "--no-deps"],
];

/// Warnings of groff fail the check; without groff nobody looks.
const MANUAL_PAGES: &str = "command -v groff >/dev/null || { echo '(no groff here)'; exit 0; }
for page in man/*; do
    warnings=$(groff -man -Tutf8 -ww -z \"$page\" 2>&1) || warnings=\"$warnings (groff failed)\"
    [ -z \"$warnings\" ] || { echo \"$warnings\" >&2; exit 1; }
done";

impl Check {
    /// Stops at the first that fails.
    pub fn run(self) -> Result<()> {
        let root = workspace::root()?;
        for arguments in CARGO {
            tell::result(format_args!("cargo {}\n", arguments.join(" ")))?;
            let mut cargo = Command::new(workspace::cargo());
            run(cargo.current_dir(&root).args(*arguments).env("RUSTDOCFLAGS", "-Dwarnings"))?;
        }
        tell::result("shellcheck scripts/* bench/plain-* .ci/run\n")?;
        let scripts = "exec shellcheck scripts/* bench/plain-* .ci/run";
        run(Command::new("sh").current_dir(&root).args(["-c", scripts]))?;
        tell::result("groff -ww man/*\n")?;
        run(Command::new("sh").current_dir(&root).args(["-c", MANUAL_PAGES]))
    }
}
