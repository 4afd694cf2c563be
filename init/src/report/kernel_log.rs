//! The kernel's own words about what it just refused.
//!
//! Interface: reading `/dev/kmsg` (kernel doc: ABI/testing/dev-kmsg). A record
//! is `priority,sequence,time,flags;text`, then lines of its own that start with
//! a space.

use alloc::vec::Vec;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use virtinitrd_proto::words::number;

/// Reads what the kernel logs from some moment on. To open the log costs it as much
/// as a mount, so it is opened once.
#[derive(Debug)]
pub struct KernelLog(Option<OwnedFd>);

impl KernelLog {
    /// Where the log cannot be read nothing will be found in it.
    #[must_use]
    pub fn open() -> Self {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Self(rustix::fs::open(c"/dev/kmsg", flags, Mode::empty()).ok())
    }

    /// Passes over all that was said up to now.
    pub fn skip(&mut self) {
        // Of a log that cannot be sought in nothing is to be believed.
        self.0 = self.0.take().filter(|fd| rustix::fs::seek(fd, SeekFrom::End(0)).is_ok());
    }

    /// The first thing the kernel said since; what it said later is dropped.
    pub fn first(&mut self) -> Option<Vec<u8>> {
        /// The kernel's own bound of a record (`PRINTKRB_RECORD_MAX`, and its
        /// dictionary), beyond which read(2) fails.
        const RECORD: usize = 2048;
        let fd = self.0.as_ref()?;
        let mut record = [0; RECORD];
        let mut first = None;
        loop {
            match rustix::io::read(fd, &mut record) {
                Ok(0) => return first,
                Ok(count) if first.is_none() => {
                    first = message(record.get(..count)?).map(<[u8]>::to_vec);
                }
                // EPIPE: records were overwritten before they were read.
                Ok(_) | Err(Errno::PIPE | Errno::INTR) => {}
                Err(_) => return first,
            }
        }
    }
}

/// The text of a record, if it is the kernel's own and not a process's.
fn message(record: &[u8]) -> Option<&[u8]> {
    /// Facility in the priority's upper bits: 0 is the kernel (syslog(3)).
    const FACILITY_SHIFT: u32 = 3;
    let at = record.iter().position(|&byte| byte == b';')?;
    let (head, text) = record.split_at(at);
    let digits = head.split(|&byte| byte == b',').next()?;
    let priority = number(digits)?;
    let text = text.get(1..)?.split(|&byte| byte == b'\n').next()?;
    (priority >> FACILITY_SHIFT == 0).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernels_own_first_line() {
        for (record, text) in [
            (
                "4,339,5140900,-;virtiofs: Unknown symbol a (err -2)\n SUBSYSTEM=x\n",
                Some("virtiofs: Unknown symbol a (err -2)"),
            ),
            ("6,1,0,-;a;b\n", Some("a;b")),
            ("11,1,0,-;virtinit: from a process\n", None),
            ("x,1;a\n", None),
            ("no record", None),
            ("", None),
        ] {
            assert_eq!(message(record.as_bytes()), text.map(str::as_bytes), "{record}");
        }
    }
}
