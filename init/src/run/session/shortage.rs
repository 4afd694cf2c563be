//! Lack of memory or room during a session, which explains a command that was killed or failed.
//!
//! Interfaces: `oom_kill` of `/proc/vmstat` (Linux 4.13; `mm/vmstat.c`), statfs(2).

use core::ffi::CStr;

use proto::control::FullFs;
use proto::words::number;

use crate::root::initramfs::{OVERLAYFS_MAGIC, TMPFS_MAGIC};
use crate::sys::file;

/// File systems in memory whose room may run out: mount point and type.
#[rustfmt::skip]
const IN_MEMORY: &[(FullFs, &CStr, u32)] = &[
    (FullFs::Overlay, c"/",    OVERLAYFS_MAGIC),
    (FullFs::Tmp,     c"/tmp", TMPFS_MAGIC),
];

/// Number of processes that the kernel has killed since its start because memory ran out; 0 if
/// the kernel does not tell.
#[must_use]
pub fn killed() -> u64 {
    file::read(c"/proc/vmstat").map_or(0, |text| killed_in(&text))
}

fn killed_in(vmstat: &[u8]) -> u64 {
    let mut lines = vmstat.split(|&byte| byte == b'\n');
    lines.find_map(|line| number(line.strip_prefix(b"oom_kill ")?)).unwrap_or(0)
}

/// Calls `each` with the file systems in memory that have no room left.
pub fn visit_full(each: &mut dyn FnMut(FullFs)) {
    for &(name, at, magic) in IN_MEMORY {
        // The field's type differs by architecture; the magic has 32 bits.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let is_full = rustix::fs::statfs(at).is_ok_and(|found| {
            found.f_type as u32 == magic && has_no_room(found.f_blocks, found.f_bavail)
        });
        if is_full {
            each(name);
        }
    }
}

/// Whether a file system of this many `blocks` has no room left. tmpfs without a limit has no
/// blocks at all (`shmem_statfs()`, `mm/shmem.c`).
fn has_no_room(blocks: u64, available: u64) -> bool {
    blocks != 0 && available == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_a_limit_is_not_full() {
        for (name, blocks, available, expected) in
            [("room left", 2048, 1, false), ("full", 2048, 0, true), ("no limit", 0, 0, false)]
        {
            assert_eq!(has_no_room(blocks, available), expected, "{name}");
        }
    }

    #[test]
    fn the_kernels_count_is_found() {
        for (text, count) in [
            ("nr_free_pages 7\noom_kill 3\nnuma_hit 1\n", 3),
            ("oom_kill 18446744073709551615\n", u64::MAX),
            ("oom_kill_x 3\n", 0),
            ("oom_kill x\n", 0),
            ("", 0),
        ] {
            assert_eq!(killed_in(text.as_bytes()), count, "{text}");
        }
    }
}
