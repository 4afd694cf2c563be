//! Mounts that do not answer, because their server is gone or their FUSE program hangs.
//!
//! A system call on such a mount may never return, and a virtiofsd that waits in one serves
//! no other request. So one thread for each mount calls stat(2) on it, and this module waits
//! `PATIENCE` at most for all threads. Threads that still wait end with this process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::mounts::{self, Mount};

/// Time for the answers of all mounts together. A distant server takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Types of file systems whose answers come from another machine or program.
const REMOTE: &[&str] =
    &["fuse", "fuseblk", "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "virtiofs"];

/// Start of a FUSE type that names its program, such as `fuse.sshfs`.
const FUSE_PREFIX: &str = "fuse.";

/// The mounts at and below `dirs` that do not answer in time, with the file system type of
/// each. An error such as EACCES counts as an answer.
#[must_use]
pub fn silent(dirs: &[&Path]) -> BTreeMap<PathBuf, String> {
    // If the table cannot be read, no mount is asked. Code that depends on the table
    // reports the error.
    let table = mounts::of_this_process().unwrap_or_default();
    let asked = dirs.iter().flat_map(|dir| mounts::below(&table, dir));
    let asked = asked.filter(|mount| is_remote(mount));
    let asked = asked.map(|mount| (mount.at.clone(), mount.kind.clone()));
    without_answer(asked.collect(), PATIENCE, |at| drop(at.metadata()))
}

fn is_remote(mount: &Mount) -> bool {
    REMOTE.contains(&&*mount.kind) || mount.kind.starts_with(FUSE_PREFIX)
}

/// The mounts for which `ask` does not return within `patience`.
fn without_answer(
    mut mounts: BTreeMap<PathBuf, String>,
    patience: Duration,
    ask: fn(&Path),
) -> BTreeMap<PathBuf, String> {
    let deadline = Instant::now() + patience;
    let (sender, answers) = mpsc::channel();
    for at in mounts.keys().cloned() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            ask(&at);
            let _ = sender.send(at); // the receiver is gone once the time is over
        });
    }
    while !mounts.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(answered) = answers.recv_timeout(left) else { break };
        mounts.remove(&answered);
    }
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_remote_file_systems_are_asked() {
        for (kind, expected) in [
            ("nfs4", true),
            ("fuse", true),
            ("fuse.sshfs", true),
            ("fusectl", false),
            ("ext4", false),
            // stat(2) would trigger the mount.
            ("autofs", false),
        ] {
            let line = format!("1 0 0:1 / /x rw - {kind} none rw");
            let table = mounts::parse(line.as_bytes());
            assert_eq!(table.first().is_some_and(is_remote), expected, "{kind}");
        }
    }

    #[test]
    fn only_a_mount_that_does_not_answer_is_silent() {
        let mounts = |names: &[&str]| {
            names.iter().map(|at| (PathBuf::from(at), "nfs".to_owned())).collect::<BTreeMap<_, _>>()
        };
        let ask = |at: &Path| {
            while at == Path::new("/dead") {
                std::thread::park();
            }
        };
        let answered = without_answer(mounts(&["/a", "/b"]), Duration::from_secs(60), ask);
        assert!(answered.is_empty(), "{answered:?}");
        let silent = without_answer(mounts(&["/dead"]), Duration::from_millis(50), ask);
        assert_eq!(silent, mounts(&["/dead"]));
    }
}
