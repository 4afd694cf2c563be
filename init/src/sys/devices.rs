//! `/sys`, `/dev` and `/dev/pts`, held open for as long as the machine runs.
//!
//! While the machine boots, these file systems move or are detached, and a path through a
//! dead virtiofs would block for ever. A descriptor keeps working.
//!
//! Interfaces: openat(2), pts(4).

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};

use crate::sys::file;

/// The open directories.
#[derive(Debug)]
pub struct Devices {
    sys: OwnedFd,
    dev: OwnedFd,
    /// Absent if the kernel has no devpts.
    pts: Option<OwnedFd>,
}

impl Devices {
    /// Opens `/sys`, `/dev` and `/dev/pts`.
    pub fn open() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path| rustix::fs::open(path, flags, Mode::empty());
        Ok(Self { sys: open(c"/sys")?, dev: open(c"/dev")?, pts: open(c"/dev/pts").ok() })
    }

    /// Opens the directory `/sys/class/NAME`; `path` is `class/NAME`.
    ///
    /// # Errors
    /// ENOENT: the kernel has no driver of this class.
    pub fn open_class(&self, path: &CStr) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.sys, path, flags, Mode::empty())
    }

    /// Opens the device node `name` below `/dev`.
    pub fn open_node(&self, name: &CStr, flags: OFlags) -> Result<OwnedFd> {
        rustix::fs::openat(&self.dev, name, flags | OFlags::CLOEXEC, Mode::empty())
    }

    /// Opens the multiplexer of pseudo-terminals (pts(4)).
    pub fn open_terminal(&self) -> Result<OwnedFd> {
        let pts = self.pts.as_ref().ok_or(Errno::NODEV)?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat(pts, c"ptmx", flags, Mode::empty())
    }

    /// The names of all network interfaces.
    pub fn network_interfaces(&self) -> Result<Vec<CString>> {
        let class = self.open_class(c"class/net")?;
        file::names_in(&class, &|name| !name.to_bytes().starts_with(b"."))
    }
}
