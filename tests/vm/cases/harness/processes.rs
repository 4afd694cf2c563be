//! Processes that are not children of the test (proc(5)), and waiting for them.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Time limit for events that take no time on an idle host: the start of a program, or the
/// end of an orphan.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks at something that cannot be waited for.
const PAUSE: Duration = Duration::from_millis(10);

/// Process ids and command lines.
pub(crate) type Family = Vec<(Pid, String)>;

/// A process that a test kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    Chrootvm,
    Qemu,
    Virtiofsd,
}

impl Victim {
    /// The victim in a family whose first process is `chrootvm`. A QEMU or virtiofsd that
    /// `chrootvm` only asks for its version or its help does not count.
    pub(crate) fn find(self, family: &Family) -> Option<Pid> {
        let is_victim = |line: &str| match self {
            Self::Chrootvm => true,
            Self::Qemu => runs_program(line, "qemu-system") && !line.contains(" -version"),
            Self::Virtiofsd => runs_program(line, "virtiofsd") && !line.contains(" --help"),
        };
        family.iter().find(|(_, line)| is_victim(line)).map(|(pid, _)| *pid)
    }

    /// The victim among the descendants of `chrootvm`, once it runs.
    pub(crate) fn wait(self, chrootvm: Pid) -> Result<Pid> {
        eventually(&format!("{self:?} runs"), || Ok(self.find(&family(chrootvm)?)))
    }
}

/// Process id of a child.
pub(crate) fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

/// Calls `attempt` until it returns a value.
///
/// # Errors
/// `attempt` failed, or has returned no value for [`PATIENCE`].
pub(crate) fn eventually<T>(
    expected: &str,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = attempt()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("not within {} s: {expected}", PATIENCE.as_secs());
        }
        std::thread::sleep(PAUSE);
    }
}

/// The process `pid` and all its descendants.
pub(crate) fn family(pid: Pid) -> Result<Family> {
    let mut family = vec![(pid, command_line(pid))];
    let mut next = 0;
    while let Some((parent, _)) = family.get(next).cloned() {
        for pid in all_pids()? {
            // Fields behind the name in parentheses: state, parent.
            let stat = fields_behind_name(pid);
            if stat.split(' ').nth(1) == Some(&parent.to_string()) {
                family.push((pid, command_line(pid)));
            }
        }
        next += 1;
    }
    Ok(family)
}

fn all_pids() -> Result<impl Iterator<Item = Pid>> {
    let entries = fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw)))
}

fn fields_behind_name(pid: Pid) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").map(|(_, fields)| fields.to_owned()).unwrap_or_default()
}

fn command_line(pid: Pid) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn runs_program(line: &str, name: &str) -> bool {
    line.split(' ').next().is_some_and(|path| path.contains(name))
}

/// The processes whose program has `name` in its path.
pub(crate) fn named<'a>(family: &'a Family, name: &'a str) -> impl Iterator<Item = Pid> + 'a {
    family.iter().filter(move |(_, line)| runs_program(line, name)).map(|(pid, _)| *pid)
}

/// The processes of `family` that still run.
pub(crate) fn still_running(family: &Family) -> Family {
    family.iter().filter(|(pid, _)| is_running(*pid)).cloned().collect()
}

/// Whether a process runs. A process that has ended, but that nobody has waited for, does not.
fn is_running(pid: Pid) -> bool {
    let stat = fields_behind_name(pid);
    !stat.is_empty() && !stat.starts_with(['Z', 'X'])
}

/// Kills the process `pid` and all its descendants.
pub(crate) fn kill_family(pid: Pid) {
    for (pid, _) in family(pid).unwrap_or_default() {
        let _ = kill(pid, Signal::SIGKILL); // it may have ended meanwhile
    }
}

/// All processes of `family` have ended, or end soon.
pub(crate) fn all_gone(family: &Family) -> Result<()> {
    eventually(&format!("all of {family:?} have ended"), || {
        Ok(still_running(family).is_empty().then_some(()))
    })
}

/// No process has `root` on its command line. Every virtiofsd that serves `root` has it there.
pub(crate) fn no_process_mentions(root: &Path) -> Result<()> {
    let root = root.to_string_lossy().into_owned();
    eventually(&format!("no process serves {root}"), || {
        let is_served = all_pids()?.any(|pid| command_line(pid).contains(&root));
        Ok((!is_served).then_some(()))
    })
}

/// The directory has no entries: all temporary files in it were removed.
pub(crate) fn is_empty(directory: &Path) -> Result<()> {
    let entry = fs::read_dir(directory)?.next().transpose()?;
    ensure!(entry.is_none(), "a file is left: {entry:?}");
    Ok(())
}
