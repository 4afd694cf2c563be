//! Records of complete objects: what the file of an object looked like when it was completed.
//!
//! An unpacked layer or an image is too large to be hashed at each use. Its record, a file beside
//! it, has its size and the time of its last change. A crash of the host that lost a part of the
//! object, or somebody who wrote to it, left another size or another time.
//!
//! Format: a line of text, `SIZE SECONDS NANOSECONDS`, and a second line with a name for people.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::object::options;

/// Ending of the name of a record.
pub(super) const RECORD: &str = ".record";

/// Most bytes of a record.
const RECORD_MAX: u64 = 4096;

/// The path of the record of the object `path`.
pub(super) fn path_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}{RECORD}"))
}

/// Writes the record of the object `path`, which will be `file`. A record without an
/// object does no harm, so the record is written first.
pub(super) fn write(path: &Path, file: &File, label: &str) -> Result<()> {
    let record = path_of(path);
    let text = format!("{}\n{}\n", seal(file)?, label.escape_debug());
    let out = options().write(true).create(true).truncate(true).open(&record);
    out.and_then(|mut out| out.write_all(text.as_bytes()))
        .with_context(|| format!("write {}", record.display()))
}

/// Whether `file` is the object `path` as it was completed.
pub(super) fn is_intact(path: &Path, file: &File) -> bool {
    let record = read(path);
    record.zip(seal(file).ok()).is_some_and(|((said, _), found)| said == found)
}

/// The name for people in the record of the object `path`; empty if there is none.
pub(super) fn label(path: &Path) -> String {
    read(path).map(|(_, label)| label).unwrap_or_default()
}

fn read(path: &Path) -> Option<(String, String)> {
    let file = options().open(path_of(path)).ok()?;
    let mut text = String::new();
    file.take(RECORD_MAX).read_to_string(&mut text).ok()?;
    let (seal, label) = text.split_once('\n')?;
    Some((seal.to_owned(), label.trim_end().to_owned()))
}

fn seal(file: &File) -> Result<String> {
    let metadata = file.metadata().context("look at a file of the cache")?;
    Ok(format!("{} {} {}", metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}
