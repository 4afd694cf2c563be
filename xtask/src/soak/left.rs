//! What may be left when all runs have ended, and what may not.
//!
//! Interfaces: proc(5), unix(7). Memory and sockets without names end with the last process that
//! holds them, so no process of ours holds them if no process of ours is left. Processes are
//! found by their command lines and environments; other machines of this host may run meanwhile.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use machine::template::store::{MOST, TemplateStore};

use super::site::Site;

/// Time in which processes of a killed run end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at all processes.
const PAUSE: Duration = Duration::from_millis(50);
/// Directory of shared memory that has names (shm_overview(7)).
const SHARED_MEMORY: &str = "/dev/shm";
/// Part of each name that our programs choose.
const OURS: &str = "virtinitrd";

/// Names in the directory of shared memory that are like ours.
///
/// # Errors
/// It cannot be read.
pub(super) fn shared_memory() -> Result<BTreeSet<OsString>> {
    let entries = fs::read_dir(SHARED_MEMORY).with_context(|| format!("list {SHARED_MEMORY}"))?;
    let names = entries.map(|entry| Ok(entry?.file_name())).collect::<Result<BTreeSet<_>>>()?;
    Ok(names.into_iter().filter(|name| name.to_string_lossy().contains(OURS)).collect())
}

/// No process of the site is left, no machine's socket, no temporary file, no shared memory
/// that was not there `before`, and the store is within its bounds.
///
/// # Errors
/// Something is left.
pub(super) fn check(site: &Site, kills: usize, before: &BTreeSet<OsString>) -> Result<()> {
    let here = site.path("").to_string_lossy().into_owned();
    let marks = [here.trim_end_matches('/').to_owned(), Site::name_prefix()];
    let deadline = Instant::now() + PATIENCE;
    while let Some(line) = process_of(&marks)? {
        ensure!(Instant::now() < deadline, "a process is left: {line}");
        std::thread::sleep(PAUSE);
    }
    let sockets = fs::read("/proc/net/unix").context("read /proc/net/unix")?;
    let sockets = String::from_utf8_lossy(&sockets);
    let socket = sockets.lines().find(|line| line.contains(&marks[1]));
    ensure!(socket.is_none(), "a socket is left: {socket:?}");
    let file = fs::read_dir(site.path("tmp"))?.next().transpose()?;
    ensure!(file.is_none(), "a file is left: {file:?}");
    let now = shared_memory()?;
    let memory: Vec<_> = now.difference(before).collect();
    ensure!(memory.is_empty(), "left in {SHARED_MEMORY}: {memory:?}");
    check_store(&site.cache(), kills)
}

/// The store has no more templates than its bound, and not more unfinished files than `kills`:
/// a killed run leaves one, and later runs remove it after an hour.
///
/// # Errors
/// It has more, or there is no store.
pub(super) fn check_store(cache: &Path, kills: usize) -> Result<()> {
    let store = TemplateStore::below(cache).context("no directory of templates")?;
    let (complete, unfinished): (Vec<_>, Vec<_>) =
        store.list().into_iter().partition(|file| file.is_complete);
    let (complete, unfinished) = (complete.len(), unfinished.len());
    ensure!(complete <= MOST, "{complete} templates are kept instead of {MOST}");
    ensure!(unfinished <= kills, "{kills} kills have left {unfinished} unfinished files");
    Ok(())
}

/// Command line of a process that has one of `marks` there or in its environment.
fn process_of(marks: &[String]) -> Result<Option<String>> {
    for entry in fs::read_dir("/proc").context("list /proc")?.flatten() {
        // A process may end meanwhile, or be another user's.
        let read = |name| fs::read(entry.path().join(name)).unwrap_or_default();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace('\0', " ");
        let (line, environment) = (text(read("cmdline")), text(read("environ")));
        if marks.iter().any(|mark| line.contains(mark) || environment.contains(mark)) {
            return Ok(Some(line));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_found_by_its_environment() {
        let mark = format!("mark-{}-of-a-test", std::process::id());
        let marks = [mark.clone()];
        assert_eq!(process_of(&marks).unwrap(), None);
        let mut cat = Command::new("cat");
        cat.env("A", format!("/x/{mark}/y")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut cat = cat.spawn().unwrap();
        // Its command line is there a little later than the process; what answers has both.
        cat.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        cat.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        assert_eq!(process_of(&marks).unwrap().as_deref(), Some("cat "));
        drop(cat.stdin.take());
        cat.wait().unwrap();
        assert_eq!(process_of(&marks).unwrap(), None);
    }

    #[test]
    fn a_store_has_bounds() {
        let cache = tempfile::tempdir().unwrap();
        let dir = cache.path().join("virtinitrd/warm");
        let add = |name: &str| fs::write(dir.join(name), "").unwrap();
        check_store(cache.path(), 0).unwrap();
        (0..MOST).for_each(|number| add(&format!("{number:064x}")));
        add(".virtinitrd-x");
        check_store(cache.path(), 1).unwrap();
        assert!(check_store(cache.path(), 0).is_err());
        add("one more");
        assert!(check_store(cache.path(), 1).is_err());
    }
}
