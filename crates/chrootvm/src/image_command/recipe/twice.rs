//! `--check`: builds a recipe twice, with another time of day, and compares the outputs.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use files::notes::Notes;
use files::tell;
use files::time::timestamp;
use image::compare::compare;
use image::source;

use super::super::options::reading;
use super::exit_status;
use super::run::failure::EXIT_STEP;
use super::run::{Keeping, Manner, Reuse};

/// How much later the second build is: another day, but no certificate has run out.
const LATER: Duration = Duration::from_secs(25 * 3600 + 61);

/// Bytes that are compared at a time.
const BUFFER: usize = 1 << 16;

/// Most differences that are printed for an output.
const SHOWN: usize = 40;

/// Calls `build` twice, for directories that are removed afterwards.
pub(super) fn build_twice(
    usual: &Manner,
    build: &dyn Fn(&Path, &Manner) -> Result<()>,
) -> Result<ExitCode> {
    let dirs = [tempfile::tempdir()?, tempfile::tempdir()?];
    let mut manner = Manner { reuse: Reuse::Before(0), keeping: Keeping::Nothing, ..usual.clone() };
    for dir in &dirs {
        let status = exit_status(build(dir.path(), &manner))?;
        if status != ExitCode::SUCCESS {
            return Ok(status);
        }
        manner.machine_words.extend(later_words().map(OsString::from));
    }
    let [first, second] = &dirs;
    let mut is_same = true;
    let mut names: Vec<_> = std::fs::read_dir(first.path())?.collect::<Result<_, _>>()?;
    names.sort_by_key(std::fs::DirEntry::file_name);
    ensure!(!names.is_empty(), "--check: the recipe has no [[output]] to compare");
    for entry in names {
        let (one, other) = (entry.path(), second.path().join(entry.file_name()));
        let name = entry.file_name();
        let name = name.display();
        let is_directory = one.is_dir();
        if is_directory && differences(&one, &other)?.is_empty()
            || !is_directory && have_same_bytes(&one, &other)?
        {
            tell::result(format_args!("{name}: the same bytes twice\n"))?;
            continue;
        }
        is_same = false;
        tell::result(format_args!("{name}: not the same bytes twice\n"))?;
        for line in differences(&one, &other)? {
            tell::result(format_args!("  {line}\n"))?;
        }
    }
    Ok(if is_same { ExitCode::SUCCESS } else { ExitCode::from(EXIT_STEP) })
}

/// Words that give a machine a time of its own (QEMU doc: system/invocation, `-rtc`). A machine that
/// starts from a template gets the time of the host.
fn later_words() -> [String; 4] {
    let time = SystemTime::now() + LATER;
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = timestamp(i64::try_from(seconds).unwrap_or_default());
    let base = format!("--qemu-arg=base={}", time.trim_end_matches('Z'));
    ["--warm".into(), "never".into(), "--qemu-arg=-rtc".into(), base]
}

fn have_same_bytes(one: &Path, other: &Path) -> Result<bool> {
    let open = |path: &Path| File::open(path).with_context(|| format!("open {}", path.display()));
    let (mut one, mut other) = (open(one)?, open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        let length = one.read(&mut a)?;
        if length == 0 {
            return Ok(true);
        }
        other.read_exact(&mut b[..length])?;
        if a[..length] != b[..length] {
            return Ok(false);
        }
    }
}

/// What differs between two images; nothing if they cannot be read here.
fn differences(one: &Path, other: &Path) -> Result<Vec<String>> {
    let open = |path| source::open(path, &reading(), &mut Notes::default());
    let (Ok(one), Ok(other)) = (open(one), open(other)) else { return Ok(Vec::new()) };
    let mut lines = Vec::new();
    compare(&one.tree, &other.tree, &[], &mut |change| lines.push(change.to_string()))?;
    lines.truncate(SHOWN);
    Ok(lines)
}
