//! Mounting shares of the host by their virtiofs tags.
//!
//! Interface: kernel doc filesystems/virtiofs.rst; the tag is the source of mount(2).

use core::ffi::CStr;
use core::time::Duration;

use proto::tag::Tag;
use proto::text::show;
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::report::log;
use crate::sys::error::{Context, Hints, Result};
use crate::sys::file;
use crate::sys::wait::{self, Attempt};

/// Hints for a failed virtiofs mount (`virtio_fs_get_tree()`, fs/fuse/virtio_fs.c).
#[rustfmt::skip]
const VIRTIOFS_HINTS: Hints = &[
    (Some(Errno::INVAL), "no such tag; the host must export it (QEMU: -device vhost-user-fs-pci,tag=...), and its transport's module (virtio_pci) must be packed"),
    (Some(Errno::NODEV), "this kernel has no virtiofs; pack its module (virtiofs.ko)"),
    (Some(Errno::NOTCONN), "the host's virtiofsd has ended"),
];

/// Hints for a failed virtiofs mount in a machine without any virtiofs device.
#[rustfmt::skip]
const NO_VIRTIOFS_DEVICE: Hints = &[
    (Some(Errno::INVAL), "the machine has no virtiofs device, or its transport's module (virtio_pci) is not packed"),
];

/// Mounts `tag` at `at`; waits for a missing tag up to `wait`. The kernel logs every refusal,
/// so the mount is tried again only after a new device has appeared, and at the end.
pub fn mount(tag: Tag<'_>, at: &CStr, flags: MountFlags, wait: Duration) -> Result<()> {
    /// Number of tries after a new device: the kernel lists a device shortly before it
    /// knows its tag.
    const TRIES_PER_DEVICE: u32 = 3;
    let (mut known, mut tries) = (devices(), 0);
    // This cannot fail: a tag has no NUL.
    let source = file::c_string(&[tag.as_bytes()]).unwrap_or_default();
    let mounted = wait::until(wait, &[Errno::INVAL], &mut |attempt| {
        let now = devices();
        if attempt == Attempt::Second {
            log::debug!("waiting up to {} s for virtiofs tag {tag}", wait.as_secs());
        }
        if now != known {
            (known, tries) = (now, TRIES_PER_DEVICE);
        }
        if !matches!(attempt, Attempt::First | Attempt::Last) && tries == 0 {
            return Err(Errno::INVAL);
        }
        tries = tries.saturating_sub(1);
        rustix::mount::mount(&*source, at, c"virtiofs", flags, None::<&CStr>)
    });
    let hints = match (mounted, known) {
        (Err(Errno::INVAL), 0) => NO_VIRTIOFS_DEVICE,
        _ => VIRTIOFS_HINTS,
    };
    mounted.hinted(format_args!("mount virtiofs tag {tag} at {}", show(at.to_bytes())), hints)
}

/// Number of devices of the virtiofs driver.
fn devices() -> usize {
    let is_device = |name: &CStr| name.to_bytes().starts_with(b"virtio");
    let names = file::names(c"/sys/bus/virtio/drivers/virtiofs", &is_device);
    names.unwrap_or_default().len()
}
