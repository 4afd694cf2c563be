//! The units of docs/examples/systemd: systemd-analyze(1) of the testbed's Debian finds no fault
//! in them, and docs/workloads.md shows their lines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::harness::Bed;
use crate::harness::programs::stdout_of;

/// Directory of the units and of the file for the template.
const EXAMPLES: &str = "docs/examples/systemd";

/// Script for a new mount namespace: `sh -c VERIFY verify DEBIAN UNITS`. A fault, such as an
/// unknown key, is a line of output; not each one changes the status.
const VERIFY: &str = r#"set -eu
mount --bind "$2" "$1/mnt"
chroot "$1" sh -c 'systemd-analyze verify --man=no /mnt/*.service 2>&1 || :'
"#;

/// A unit with two faults.
const BAD: &str = "[Service]\nExecStart=/gone\nRestartAgain=always\n";

/// What systemd-analyze says of the units of `directory`.
fn faults(bed: &Bed, directory: &Path) -> Result<String> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", VERIFY, "verify"]);
    stdout_of(command.arg(bed.debian_root()?).arg(directory))
}

/// The files of the examples.
fn examples(bed: &Bed) -> Result<Vec<PathBuf>> {
    let directory = bed.workspace.join(EXAMPLES);
    let entries = fs::read_dir(&directory).context(EXAMPLES)?;
    entries.map(|entry| Ok(entry.context(EXAMPLES)?.path())).collect()
}

pub(super) fn units_have_no_fault(bed: &Bed) -> Result<()> {
    let directory = tempfile::tempdir().context("make a directory")?;
    let is_unit = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "service");
    let units: Vec<_> = examples(bed)?.into_iter().filter(is_unit).collect();
    ensure!(units.len() == 2, "{EXAMPLES} has {} units, not 2", units.len());
    for unit in &units {
        let text = fs::read_to_string(unit).with_context(|| unit.display().to_string())?;
        // That Debian has no chrootvm, and a program that is missing is a fault.
        let text = text.replace("/usr/bin/chrootvm", "/usr/bin/true");
        let name = unit.file_name().context("a unit has a name")?;
        fs::write(directory.path().join(name), text).context("copy a unit")?;
    }
    let found = faults(bed, directory.path())?;
    ensure!(found.is_empty(), "systemd-analyze verify:\n{found}");

    fs::write(directory.path().join("bad.service"), BAD).context("write a bad unit")?;
    let found = faults(bed, directory.path())?;
    for text in ["RestartAgain", "/gone"] {
        ensure!(found.contains(text), "systemd-analyze overlooks {text}:\n{found}");
    }
    Ok(())
}

pub(super) fn units_are_those_of_the_document(bed: &Bed) -> Result<()> {
    let read = |path: PathBuf| fs::read_to_string(&path).context(path.display().to_string());
    let files = examples(bed)?.into_iter().map(read).collect::<Result<Vec<_>>>()?;
    let document = read(bed.workspace.join("docs/workloads.md"))?;
    let blocks = document.split("\n```ini\n").skip(1);
    let blocks: Vec<_> = blocks.filter_map(|rest| Some(rest.split_once("\n```")?.0)).collect();
    ensure!(blocks.len() == 2, "docs/workloads.md shows {} units and files, not 2", blocks.len());
    for block in blocks {
        let is_shown = files.iter().any(|file| file.contains(block));
        ensure!(is_shown, "docs/workloads.md shows lines that {EXAMPLES} lacks:\n{block}");
    }
    Ok(())
}
