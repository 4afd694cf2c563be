//! Builds of Containerfiles in the package of a [`Site`].
//!
//! The image `base` of all builds is the root of busybox beside the package.

use std::process::Command;

use anyhow::Result;

use crate::recipes::site::{Built, Site};

/// Name of the file in the package.
pub(super) const FILE: &str = "Containerfile";

/// Option that makes the root of the site the image `base`.
pub(super) const BASE: [&str; 2] = ["--build-context", "base=../root"];

/// Words behind the lines of steps that need not run.
const KEPT: &str = " (kept)";

/// `chrootvm image build Containerfile WORDS`.
pub(super) fn command(site: &Site, words: &[&str]) -> Command {
    let mut command = without_kernel(site, words);
    site.give_kernel(&mut command);
    command
}

/// Likewise, but the kernel of its machines does not exist.
pub(super) fn without_machines(site: &Site, words: &[&str]) -> Command {
    let mut command = without_kernel(site, words);
    command.args(["--kernel", "/no/such/kernel"]);
    command
}

fn without_kernel(site: &Site, words: &[&str]) -> Command {
    site.command_without_kernel(&[&[FILE], &BASE[..], words].concat())
}

/// Writes the Containerfile.
pub(super) fn write(site: &Site, text: &str) -> Result<()> {
    site.write(FILE, text)
}

/// Writes the Containerfile, and builds it.
pub(super) fn build(site: &Site, text: &str, words: &[&str]) -> Result<Built> {
    write(site, text)?;
    site.run(&mut command(site, words))
}

/// Instructions that ran, as `STAGE NUMBER`, in the order of the text.
pub(super) fn ran(built: &Built) -> Vec<String> {
    steps(built, |title| !title.ends_with(KEPT))
}

/// Instructions whose layers were kept, likewise.
pub(super) fn kept(built: &Built) -> Vec<String> {
    steps(built, |title| title.ends_with(KEPT))
}

/// The lines `STAGE NUMBER/COUNT: TITLE`. Stages run at the same time, so their order counts only
/// within a stage.
fn steps(built: &Built, is_wanted: fn(&str) -> bool) -> Vec<String> {
    let step = |line: &str| {
        let (step, title) = line.split_once(": ")?;
        let (name, count) = step.split_once('/')?;
        let is_step = count.parse::<usize>().is_ok() && is_wanted(title);
        is_step.then(|| name.to_owned())
    };
    let mut found: Vec<_> = built.stderr.lines().filter_map(step).collect();
    found.sort_unstable();
    found
}
