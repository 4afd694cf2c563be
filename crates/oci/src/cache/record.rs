//! Records of complete objects: what the file of an object looked like when it was completed.
//!
//! An unpacked layer or an image is too large to be hashed at each use. Its record, a file beside
//! it, has its size and the time of its last change: somebody who wrote to the object left another
//! size or another time.
//!
//! A crash of the host may lose bytes and keep size and time. To wait for the disk at each object
//! would make the first use of an image slow, so the record names the boot of the host
//! (`/proc/sys/kernel/random/boot_id`, random(4)) under which the object was made, and counts
//! only under that boot. A later use, when the kernel has long written the object, makes sure
//! with fdatasync(2), and then the record counts for ever.
//!
//! Format: a line of text, `SIZE SECONDS NANOSECONDS BOOT`, where BOOT is the boot or `synced`,
//! and a second line with a name for people.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::object::options;

/// Ending of the name of a record.
pub(super) const RECORD: &str = ".record";

/// In place of a boot: the object is on the disk.
const SYNCED: &str = "synced";

/// Age of an object at which fdatasync(2) has next to nothing to do: the kernel writes after 30
/// seconds (`vm.dirty_expire_centisecs`).
const WRITTEN_BACK: Duration = Duration::from_secs(60);

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
    let boot = match boot() {
        Some(boot) => boot,
        None => {
            file.sync_data().with_context(|| format!("write {}", path.display()))?;
            SYNCED.to_owned()
        }
    };
    let label = label.escape_debug().to_string();
    let record = path_of(path);
    let out = options().write(true).create(true).truncate(true).open(&record);
    out.and_then(|mut out| out.write_all(text(&seal(file)?, &boot, &label).as_bytes()))
        .with_context(|| format!("write {}", record.display()))
}

/// Whether `file` is the object `path` as it was completed.
pub(super) fn is_intact(path: &Path, file: &File) -> bool {
    let found = read(path).zip(seal(file).ok());
    let Some((record, _)) = found.filter(|(record, seal)| record.seal == *seal) else {
        return false;
    };
    if record.boot == SYNCED {
        return true;
    }
    let is_of_this_boot = boot().is_some_and(|boot| boot == record.boot);
    if is_of_this_boot && is_written_back(file) {
        // Without this, the object is made again after the next boot.
        let _ = sync(path, file, &record);
    }
    is_of_this_boot
}

/// Writes the object `path` to the disk, and says so in its record. Others may read the record
/// meanwhile, so it is replaced as a whole.
fn sync(path: &Path, file: &File, record: &Record) -> std::io::Result<()> {
    file.sync_data()?;
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut out = tempfile::Builder::new().suffix(RECORD).tempfile_in(dir)?;
    out.write_all(text(&record.seal, SYNCED, &record.label).as_bytes())?;
    out.persist(path_of(path))?;
    Ok(())
}

fn is_written_back(file: &File) -> bool {
    let changed = file.metadata().and_then(|metadata| metadata.modified()).ok();
    let age = changed.and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age >= WRITTEN_BACK)
}

/// The boot of the host; `None` if the kernel does not say.
fn boot() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|boot| !boot.is_empty())
}

/// The name for people in the record of the object `path`; empty if there is none.
pub(super) fn label(path: &Path) -> String {
    read(path).map(|record| record.label).unwrap_or_default()
}

/// The contents of a record.
struct Record {
    /// Size and time of the last change.
    seal: String,
    /// The boot under which the object was made, or [`SYNCED`].
    boot: String,
    /// A name for people, escaped.
    label: String,
}

fn read(path: &Path) -> Option<Record> {
    let file = options().open(path_of(path)).ok()?;
    let mut text = String::new();
    file.take(RECORD_MAX).read_to_string(&mut text).ok()?;
    let (line, label) = text.split_once('\n')?;
    let (seal, boot) = line.rsplit_once(' ')?;
    Some(Record { seal: seal.into(), boot: boot.into(), label: label.trim_end().into() })
}

/// The text of a record. `label` is one line.
fn text(seal: &str, boot: &str, label: &str) -> String {
    format!("{seal} {boot}\n{label}\n")
}

fn seal(file: &File) -> std::io::Result<String> {
    let metadata = file.metadata()?;
    Ok(format!("{} {} {}", metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}
