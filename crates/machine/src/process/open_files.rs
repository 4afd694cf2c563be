//! Limit on the open files of the programs of a machine.
//!
//! Interfaces: getrlimit(2) (RLIMIT_NOFILE), proc_sys_fs(5) (nr_open).
//!
//! virtiofsd holds a file open for each inode that the guest's kernel knows. At the limit
//! the guest gets an error, which many programs mistake for the end of a directory. Both
//! daemons try to raise the limit, but QEMU's daemon gives up without CAP_SYS_RESOURCE,
//! which most containers lack. So chrootvm raises its own limit, and its children inherit it.

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Limit that both daemons ask for.
const ENOUGH: u64 = 1_000_000;

/// Limit below which the user is warned: a minimal Debian 12 already has 10,000 files.
const FEW: u64 = 16_384;

/// Highest limit that the kernel allows by default (`sysctl_nr_open` of fs/file.c).
const NR_OPEN: u64 = 1 << 20;

/// Soft and hard limit.
type Limits = (u64, u64);

/// Raises the soft limit of this process as far as possible, and returns it.
///
/// # Errors
/// getrlimit(2) failed.
pub fn raise() -> Result<u64> {
    let now = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit(RLIMIT_NOFILE)")?;
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open");
    let most = most.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(NR_OPEN);
    let set = |&(soft, hard): &Limits| setrlimit(Resource::RLIMIT_NOFILE, soft, hard).is_ok();
    let raised = attempts(now, most).into_iter().find(set);
    Ok(raised.unwrap_or(now).0)
}

/// Limits to try, the highest first. The arguments are the present limits, and the highest
/// limit that the kernel allows.
fn attempts((soft, hard): Limits, most: u64) -> Vec<Limits> {
    let wanted = ENOUGH.min(most);
    let attempts = if hard >= wanted {
        vec![(wanted, hard), (wanted, wanted)]
    } else {
        vec![(wanted, wanted), (hard, hard)]
    };
    attempts.into_iter().filter(|attempt| attempt.0 > soft).collect()
}

/// A warning if `limit` is low.
#[must_use]
pub fn warning(limit: u64) -> Option<String> {
    (limit < FEW).then(|| {
        format!(
            "virtiofsd can hold no more than {limit} files open (the hard limit, `ulimit -Hn`): \
             the guest may miss files of a share that has more; raise the limit with LimitNOFILE= \
             of systemd, nofile of limits.conf(5), or --ulimit nofile={ENOUGH} of docker and podman"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_possible_limit_is_tried_first() {
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
    fn a_low_limit_is_warned_of() {
        assert!(warning(1024).is_some_and(|text| text.contains("no more than 1024 files")));
        assert_eq!(warning(FEW), None);
    }
}
