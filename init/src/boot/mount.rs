//! Mounting the pseudo file systems, making nodes and links in them, and opening the
//! console.
//!
//! Interfaces: mount(2), mknod(2), symlink(2), console(4). The tables of
//! [`crate::boot::tables`] list all of them.

use proto::text::show;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::boot::tables::{API_MOUNTS, ApiMount, LINKS, NODES, Need};
use crate::report::log;
use crate::sys::error::{Context, Hints, Result};
use crate::sys::file;

/// Hints for a failed mount of a pseudo file system.
const API_HINTS: Hints = &[
    (Some(Errno::NODEV), "this kernel was built without it"),
    (Some(Errno::NOENT), "there is no such directory, and it cannot be made"),
];

/// Mounts all of [`API_MOUNTS`].
pub fn api_mounts() -> Result<()> {
    for row in API_MOUNTS {
        match (api_mount(row), row.need) {
            (Err(error), Need::Must) => return Err(error),
            (Err(error), Need::May) => log::debug!("{error}; going on without"),
            (Ok(()), _) => log::debug!("mounted {}", show(row.at.to_bytes())),
        }
    }
    Ok(())
}

/// Mounts one row. EBUSY means that this very file system is mounted already, by the kernel
/// (`CONFIG_DEVTMPFS_MOUNT`) or by an earlier program.
pub fn api_mount(row: &ApiMount) -> Result<()> {
    // Only the kernel makes directories below /sys; if one is missing, the mount fails.
    let _ = file::mkdir(row.at);
    match rustix::mount::mount(row.fs, row.at, row.fs, row.flags, row.data) {
        Err(Errno::BUSY) => Ok(()),
        result => result.hinted(
            format_args!("mount {} at {}", show(row.fs.to_bytes()), show(row.at.to_bytes())),
            API_HINTS,
        ),
    }
}

/// Makes [`NODES`] and [`LINKS`], unless they exist. The mode of a node is set in any case:
/// devtmpfs makes some nodes with 0600, and the umask applies to new ones.
pub fn nodes_and_links() -> Result<()> {
    for node in NODES {
        make_node(node.path, node.major, node.minor, Mode::from_raw_mode(node.mode))
            .context(format_args!("make {}", show(node.path.to_bytes())))?;
    }
    for link in LINKS {
        match rustix::fs::symlink(link.target, link.path) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(errno).context(format_args!("make {}", show(link.path.to_bytes())));
            }
        }
    }
    Ok(())
}

/// Enables all controllers of the root cgroup, so that programs of the machine can limit
/// their own children (kernel doc: admin-guide/cgroup-v2.rst, "Enabling and Disabling").
pub fn delegate_cgroups() {
    let controllers = file::read(c"/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    for name in controllers.split(u8::is_ascii_whitespace).filter(|name| !name.is_empty()) {
        // One write for each: if the kernel refuses one, the others still count.
        let _ = file::c_string(&[b"+", name]).and_then(|word| {
            file::write(c"/sys/fs/cgroup/cgroup.subtree_control", word.as_bytes())
        });
    }
}

fn make_node(path: &core::ffi::CStr, major: u32, minor: u32, mode: Mode) -> Result<(), Errno> {
    let device = rustix::fs::makedev(major, minor);
    match rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, mode, device) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    rustix::fs::chmodat(CWD, path, mode, AtFlags::empty())
}

/// Opens standard input, output and error on the `/dev/console` of devtmpfs.
///
/// The kernel opened the three on a node of the initramfs that is about to be deleted. If
/// an archive hides that node, it opened none. Without any console, the payload gets
/// `/dev/null`.
pub fn console() -> Result<()> {
    /// Lowest descriptor that is not standard input, output or error.
    const FIRST_FREE: i32 = 3;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = |path| rustix::fs::open(path, flags, Mode::empty());
    let redirect = || {
        let device = open(c"/dev/console").or_else(|_| open(c"/dev/null"))?;
        // The number of `device` may be 0, 1 or 2; dropping it later would close that one.
        let high = rustix::io::fcntl_dupfd_cloexec(&device, FIRST_FREE)?;
        drop(device);
        rustix::stdio::dup2_stdin(&high)?;
        rustix::stdio::dup2_stdout(&high)?;
        rustix::stdio::dup2_stderr(&high)
    };
    redirect().context(format_args!("open /dev/console and /dev/null"))
}
