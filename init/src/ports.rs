//! virtio-serial ports, found by their names.
//!
//! Interface: `drivers/char/virtio_console.c` of the kernel;
//! `/sys/class/virtio-ports/vport0p1/name`. A port comes, gets its name and is
//! connected some time after its driver was loaded; until it is connected a
//! read gives an end of file that is none.

use alloc::ffi::CString;
use core::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};

use crate::{file, wait};

/// The way to the ports: `/sys` and `/dev`, held open, for they move while the
/// machine boots, or are detached, and a path through a dead virtiofs would
/// block for ever.
#[derive(Debug)]
pub struct Ports {
    sys: OwnedFd,
    dev: OwnedFd,
    /// Absent where the kernel has no devpts.
    pts: Option<OwnedFd>,
}

impl Ports {
    /// Takes hold of `/sys`, `/dev` and `/dev/pts`.
    pub fn prepare() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path| rustix::fs::open(path, flags, Mode::empty());
        Ok(Self { sys: open(c"/sys")?, dev: open(c"/dev")?, pts: open(c"/dev/pts").ok() })
    }

    /// Whether the kernel has a driver for ports.
    #[must_use]
    pub fn has_driver(&self) -> bool {
        self.open_class().is_ok()
    }

    /// Opens the port called `name` without blocking, for reading and writing,
    /// once the host is connected to it.
    ///
    /// # Errors
    /// ENOENT: no such port after `limit`; EAGAIN: the host is not connected;
    /// EBUSY: somebody has it open.
    pub fn open(&self, name: &[u8], limit: Duration) -> Result<OwnedFd> {
        wait::until(limit, &[Errno::NOENT, Errno::AGAIN], &mut |_| {
            let port = self.open_now(name)?;
            match is_connected(&port)? {
                true => Ok(port),
                false => Err(Errno::AGAIN),
            }
        })
    }

    /// As [`Ports::open`], where a host that is not connected has had its say: as
    /// soon as the port is open it sends all, and may close. Not to be called
    /// before a port that was made later is connected; the host tells of them in
    /// order, and so was connected to this one.
    ///
    /// # Errors
    /// As those of [`Ports::open`], EAGAIN excepted.
    pub fn open_input(&self, name: &[u8], limit: Duration) -> Result<OwnedFd> {
        wait::until(limit, &[Errno::NOENT], &mut |_| self.open_now(name))
    }

    fn open_now(&self, name: &[u8]) -> Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(&self.dev, &*self.find(name)?, flags, Mode::empty())
    }

    /// Opens the multiplexer of pseudo-terminals (pts(4)).
    pub fn open_terminal(&self) -> Result<OwnedFd> {
        let pts = self.pts.as_ref().ok_or(Errno::NODEV)?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(pts, c"ptmx", flags, Mode::empty())
    }

    /// The names of network interfaces.
    pub fn network_interfaces(&self) -> Result<alloc::vec::Vec<CString>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let class = rustix::fs::openat(&self.sys, c"class/net", flags, Mode::empty())?;
        file::names_in(&class, &|name| !name.to_bytes().starts_with(b"."))
    }

    fn open_class(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.sys, c"class/virtio-ports", flags, Mode::empty())
    }

    /// The name below `/dev` of the port called `name`.
    fn find(&self, name: &[u8]) -> Result<CString> {
        let class = self.open_class()?;
        for device in file::names_in(&class, &|_| true)? {
            let path = file::c_string(&[device.to_bytes(), b"/name"])?;
            // Not everything there is a port.
            let found = file::read_at(class.as_fd(), &path);
            if found.is_ok_and(|found| found.trim_ascii_end() == name) {
                return Ok(device);
            }
        }
        Err(Errno::NOENT)
    }
}

/// Whether the host has its end of the port open.
pub fn is_connected(port: impl AsFd) -> Result<bool> {
    const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(&port, PollFlags::empty())];
    poll(&mut fds, Some(&NOW))?;
    Ok(fds.iter().all(|fd| !fd.revents().contains(PollFlags::HUP)))
}
