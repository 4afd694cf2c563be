//! Looking at processes that are no children of the test (proc(5)).

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::unistd::Pid;

/// How long an orphan may take to notice that its parent is gone, on a host that
/// is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Process ids and command lines.
pub(crate) type Family = Vec<(Pid, String)>;

/// The ids of `pid` and all that descend from it, with their command lines.
pub(crate) fn family(pid: Pid) -> Result<Family> {
    let mut family = vec![(pid, command_line(pid))];
    let mut next = 0;
    while let Some((parent, _)) = family.get(next).cloned() {
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // Fields behind the name in parentheses: state, parent.
            let fields = stat.rsplit_once(") ").map(|(_, fields)| fields).unwrap_or_default();
            if fields.split(' ').nth(1) == Some(&parent.to_string()) {
                let pid = Pid::from_raw(pid);
                family.push((pid, command_line(pid)));
            }
        }
        next += 1;
    }
    Ok(family)
}

fn command_line(pid: Pid) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Those whose program has `name` in its path.
pub(crate) fn named<'a>(family: &'a Family, name: &'a str) -> impl Iterator<Item = Pid> + 'a {
    let is_it = move |line: &str| line.split(' ').next().is_some_and(|path| path.contains(name));
    family.iter().filter(move |(_, line)| is_it(line)).map(|(pid, _)| *pid)
}

/// Whether a process runs; one that ended but was not waited for does not.
fn runs(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
}

/// Those that still run.
pub(crate) fn running(family: Family) -> impl Iterator<Item = (Pid, String)> {
    family.into_iter().filter(|(pid, _)| runs(*pid))
}

pub(crate) fn all_gone(family: &Family) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left: Vec<_> = family.iter().filter(|(pid, _)| runs(*pid)).collect();
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "still running: {left:?}");
        // They are no children of ours that could be waited for.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The root's path is on the command line of every virtiofsd that serves it.
pub(crate) fn no_process_mentions(root: &Path) -> Result<()> {
    let root = root.to_string_lossy().into_owned();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = fs::read_dir("/proc")?.flatten().filter_map(|entry| {
            entry.file_name().to_str().and_then(|name| name.parse().ok()).map(Pid::from_raw)
        });
        let left: Vec<_> = all.map(command_line).filter(|line| line.contains(&root)).collect();
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "still running: {left:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
