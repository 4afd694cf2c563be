//! Mounts that do not answer: a server that has gone, a FUSE program that hangs.
//!
//! A process that asks one of them waits, perhaps for ever, and virtiofsd then serves
//! nobody else. So each mount is asked by a thread of its own. This module waits for
//! the threads no longer than `PATIENCE`; the rest of them end with this process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::mounts::{self, Mount};

/// How long all mounts together may take for an answer. A server far away takes a
/// tenth of it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Types of file systems whose answers come from another machine or program.
const REMOTE: &[&str] =
    &["fuse", "fuseblk", "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "virtiofs"];

/// Beginning of the types of FUSE that name their program, such as `fuse.sshfs`.
const FUSE_PREFIX: &str = "fuse.";

/// The mounts at and below `dirs` that do not answer in time, with the type of each. An
/// error such as EACCES is an answer, too.
#[must_use]
pub fn silent(dirs: &[&Path]) -> BTreeMap<PathBuf, String> {
    // Without the table there is nothing to ask; code that needs the table reports its
    // error.
    let table = mounts::of_this_process().unwrap_or_default();
    let asked = dirs.iter().flat_map(|dir| mounts::below(&table, dir));
    let asked = asked.filter(|mount| is_remote(mount));
    let asked = asked.map(|mount| (mount.at.clone(), mount.kind.clone()));
    // An error is an answer as well.
    without_answer(asked.collect(), PATIENCE, |at| drop(at.metadata()))
}

fn is_remote(mount: &Mount) -> bool {
    REMOTE.contains(&&*mount.kind) || mount.kind.starts_with(FUSE_PREFIX)
}

/// Those of `mounts` whose answer to `ask` has not come after `patience`.
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
            let _ = sender.send(at); // nobody may listen any more
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
    fn only_what_others_serve_is_asked() {
        for (kind, expected) in [
            ("nfs4", true),
            ("fuse", true),
            ("fuse.sshfs", true),
            ("fusectl", false),
            ("ext4", false),
            // The question itself would mount it.
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
