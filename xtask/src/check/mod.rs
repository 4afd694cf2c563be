//! `cargo xtask check`: rules that a program can check, so that no reviewer has to.

pub mod crates;
pub mod licences;
pub mod paths;
pub mod rooms;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use files::tell;

use self::licences::Policy;
use crate::metadata::Metadata;
use crate::testbed::run;
use crate::workspace;

/// Check format, lints, documentation, manual pages and scripts
#[derive(Debug, clap::Args)]
pub struct Check {}

/// Stands for the profile in which the tests are built, in which crates are compiled already.
const PROFILE: &str = "TEST_PROFILE";

/// Arguments of cargo, one run a row.
#[rustfmt::skip]
const CARGO: &[&[&str]] = &[
    &["fmt", "--all", "--check"],
    &["clippy", "--quiet", "--locked", "--workspace", "--all-targets", PROFILE, "--", "-Dwarnings"],
    // A plain build does not contain the binary of the guest.
    &["clippy", "--quiet", "--locked", "--package", "virtinitrd-init", "--features", "guest",
      "--profile", "guest", "--target-dir", "target/guest", "--", "-Dwarnings"],
    &["doc", "--quiet", "--locked", "--workspace", "--no-deps", PROFILE],
];

/// Fails on warnings of groff. Without groff the pages are not checked.
const MANUAL_PAGES: &str = "command -v groff >/dev/null || { echo '(no groff here)'; exit 0; }
for page in man/*; do
    warnings=$(groff -man -Tutf8 -ww -z \"$page\" 2>&1) || warnings=\"$warnings (groff failed)\"
    [ -z \"$warnings\" ] || { echo \"$warnings\" >&2; exit 1; }
done";

impl Check {
    /// Runs the checks, and stops at the first one that fails.
    pub fn run(self) -> Result<()> {
        let root = workspace::root()?;
        tell::result("directions of imports\n")?;
        let faults = wrong_imports(&root)?;
        ensure!(faults.is_empty(), "{}", faults.join("\n"));
        tell::result("licences and sources of crates\n")?;
        let faults = licences::faults(&Metadata::read(&root)?, &Policy::read(&root)?);
        ensure!(faults.is_empty(), "{}", faults.join("\n"));
        for arguments in CARGO {
            let arguments: Vec<OsString> = arguments
                .iter()
                .flat_map(|&argument| match argument {
                    PROFILE => workspace::test_profile(),
                    argument => vec![argument.into()],
                })
                .collect();
            tell::result(format_args!("cargo {}\n", arguments.join(OsStr::new(" ")).display()))?;
            let mut cargo = workspace::cargo();
            cargo.current_dir(&root).args(arguments).env("RUSTDOCFLAGS", "-Dwarnings");
            run(&mut cargo)?;
        }
        tell::result("shellcheck scripts/* bench/plain-* .ci/run\n")?;
        let scripts = "exec shellcheck scripts/* bench/plain-* .ci/run";
        run(Command::new("sh").current_dir(&root).args(["-c", scripts]))?;
        tell::result("groff -ww man/*\n")?;
        run(Command::new("sh").current_dir(&root).args(["-c", MANUAL_PAGES]))
    }
}

/// Finds dependencies of crates and imports of rooms that have the wrong direction in
/// the workspace at `root`. Each is a line of text.
///
/// # Errors
/// A source or a manifest cannot be read.
pub fn wrong_imports(root: &Path) -> Result<Vec<String>> {
    let graph = crates::read(root)?;
    let mut faults = crates::faults(&graph);
    for directory in graph.keys() {
        let src = root.join(directory).join("src");
        if !src.exists() {
            continue;
        }
        let circles = rooms::circles(&rooms::read(&src)?).with_context(|| directory.clone())?;
        faults.extend(
            circles.iter().map(|circle| format!("{directory}: circle of imports: {circle}")),
        );
    }
    Ok(faults)
}
