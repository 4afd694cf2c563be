//! The kernel's own messages, which explain why it has refused a module.
//!
//! Interface: reading `/dev/kmsg` (kernel doc: ABI/testing/dev-kmsg). A record
//! is `priority,sequence,time,flags;text`, followed by lines that start with a space.

use alloc::vec::Vec;

use proto::words::number;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

/// The kernel log, open for reading. Opening it takes as long as a mount, so it is opened
/// once.
#[derive(Debug)]
pub struct KernelLog(Option<OwnedFd>);

impl KernelLog {
    /// Opens the log. If that fails, the log seems to be empty.
    #[must_use]
    pub fn open() -> Self {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Self(rustix::fs::open(c"/dev/kmsg", flags, Mode::empty()).ok())
    }

    /// Skips all messages up to now.
    pub fn skip(&mut self) {
        // If seeking fails, old messages would be taken for new ones: close the log.
        self.0 = self.0.take().filter(|fd| rustix::fs::seek(fd, SeekFrom::End(0)).is_ok());
    }

    /// The first message of the kernel since [`KernelLog::skip`]; later ones are dropped.
    pub fn first(&mut self) -> Option<Vec<u8>> {
        /// Longest record in bytes, with its dictionary (`CONSOLE_EXT_LOG_MAX`); read(2)
        /// fails if the buffer is too small.
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

/// The text of a record of the kernel. `None`: a process wrote the record.
fn message(record: &[u8]) -> Option<&[u8]> {
    /// Position of the facility in the priority; facility 0 is the kernel (syslog(3)).
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
    fn only_the_first_line_of_the_kernel_counts() {
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
