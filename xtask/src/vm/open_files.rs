//! How many files the programs of a machine may hold open.
//!
//! Interfaces: getrlimit(2) (RLIMIT_NOFILE), proc_sys_fs(5) (nr_open).
//!
//! A virtiofsd holds a file open for each that the guest's kernel knows. At the
//! limit the guest sees an error, or nothing at all: many programs take it for the
//! end of a directory. Both daemons try to raise the limit, but QEMU's gives up
//! without CAP_SYS_RESOURCE, which hardly a container has. So chrootvm raises its
//! own, and all that it starts inherits it.

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What both daemons raise the limit to where they may.
const ENOUGH: u64 = 1_000_000;

/// Fewer files than this are too few for the root of a distribution: a minimal
/// Debian 12 has 10,000.
const FEW: u64 = 16_384;

/// Most that the kernel lets a limit be, unless it says otherwise (`sysctl_nr_open`
/// of fs/file.c).
const NR_OPEN: u64 = 1 << 20;

/// Soft and hard limit.
type Limits = (u64, u64);

/// Raises the limit of this process as far as it goes; the limit that it has then.
///
/// # Errors
/// Those of getrlimit(2).
pub fn raise() -> Result<u64> {
    let now = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit(RLIMIT_NOFILE)")?;
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open");
    let most = most.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(NR_OPEN);
    let set = |&(soft, hard): &Limits| setrlimit(Resource::RLIMIT_NOFILE, soft, hard).is_ok();
    let raised = attempts(now, most).into_iter().find(set);
    Ok(raised.unwrap_or(now).0)
}

/// What to try, the best first, with limits `now` and the kernel's `most`.
fn attempts((soft, hard): Limits, most: u64) -> Vec<Limits> {
    let wanted = ENOUGH.min(most);
    let attempts = if hard >= wanted {
        vec![(wanted, hard), (wanted, wanted)]
    } else {
        vec![(wanted, wanted), (hard, hard)]
    };
    attempts.into_iter().filter(|attempt| attempt.0 > soft).collect()
}

/// What to say of a `limit` at the start.
#[must_use]
pub fn warning(limit: u64) -> Option<String> {
    (limit < FEW).then(|| {
        format!(
            "virtiofsd can hold no more than {limit} files open (the hard limit, `ulimit -Hn`): \
             of a share with more files the guest may miss some; raise it with LimitNOFILE= of \
             systemd, nofile of limits.conf(5), or --ulimit nofile={ENOUGH} of docker and podman"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_raised_as_far_as_it_goes() {
        for (name, now, most, expected) in [
            ("usual", (1024, 524_288), 1 << 20, &[(ENOUGH, ENOUGH), (524_288, 524_288)][..]),
            ("high", (1024, 1 << 20), 1 << 20, &[(ENOUGH, 1 << 20), (ENOUGH, ENOUGH)]),
            ("low kernel", (1024, 4096), 8192, &[(8192, 8192), (4096, 4096)]),
            ("lowered kernel", (1024, 1 << 20), 8192, &[(8192, 1 << 20), (8192, 8192)]),
            ("at the hard limit", (1024, 1024), 1 << 20, &[(ENOUGH, ENOUGH)]),
            ("more than enough", (1 << 20, 1 << 20), 1 << 20, &[]),
        ] {
            assert_eq!(attempts(now, most), expected, "{name}");
        }
    }

    #[test]
    fn few_files_are_said() {
        assert!(warning(1024).is_some_and(|text| text.contains("no more than 1024 files")));
        assert_eq!(warning(FEW), None);
    }
}
