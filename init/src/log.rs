//! Messages to the kernel log, and so to the console.
//!
//! `/dev/kmsg` (kernel doc: ABI/testing/dev-kmsg) keeps our lines in order
//! among the kernel's. What the kernel would not print on the console (`quiet`)
//! or would not take at all is written to the console by ourselves, so that
//! every line a user asked for is seen, and seen once.
//!
//! Invariant: logging never fails and never blocks the boot on an error of its
//! own; there is nobody left to tell.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};

use crate::{file, rt};

/// Length in bytes of the `<3>` before a record.
const LEVEL_PREFIX: usize = 3;

/// Longest record in bytes that we hand to `/dev/kmsg`, newline included. The
/// kernel refuses lines over `PRINTKRB_RECORD_MAX` less its prefix (1024 - 48
/// in `kernel/printk/printk.c` of 5.x).
const RECORD_MAX: usize = 960;

/// Importance, numbered as in syslog(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Error = 3,
    Warning = 4,
    Debug = 7,
}

/// Where messages go.
#[derive(Debug)]
pub struct Log {
    kmsg: Option<OwnedFd>,
    /// Every console of the kernel. `/dev/console` is only the last of them, and
    /// perhaps not the one that somebody watches.
    consoles: Vec<OwnedFd>,
    /// The kernel prints levels below this one on the console.
    console_level: u8,
    debug: bool,
}

impl Log {
    /// Writes to standard error, which the kernel opened on the console. To be
    /// used until `/dev` and `/proc` are there.
    #[must_use]
    pub fn console() -> Self {
        Self { kmsg: None, consoles: Vec::new(), console_level: 0, debug: false }
    }

    /// Switches debug messages on or off.
    pub fn set_debug(&mut self, debug: bool) {
        self.debug = debug;
    }

    /// Goes over to `/dev/kmsg`, where the kernel takes all we write to it.
    ///
    /// Needs `/proc`, `/sys` and `/dev`. Without `printk.devkmsg=on` the kernel drops
    /// all but ten lines in five seconds, or everything with `off`; the command
    /// line may have locked either, and then the console has to do.
    pub fn attach_kmsg(&mut self) {
        const RATE_LIMIT: &core::ffi::CStr = c"/proc/sys/kernel/printk_devkmsg";
        self.consoles = open_consoles();
        let _ = file::write(RATE_LIMIT, b"on\n"); // refused when locked: read back below
        if !file::read(RATE_LIMIT).is_ok_and(|mode| mode.starts_with(b"on")) {
            return;
        }
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        self.kmsg = rustix::fs::open(c"/dev/kmsg", flags, Mode::empty()).ok();
        if let Ok(levels) = file::read(c"/proc/sys/kernel/printk") {
            self.console_level = first_number(&levels);
        }
    }

    /// A fatal error.
    pub fn error(&self, message: fmt::Arguments<'_>) {
        self.write(Level::Error, message);
    }

    /// Something failed that the boot can do without.
    pub fn warning(&self, message: fmt::Arguments<'_>) {
        self.write(Level::Warning, message);
    }

    /// Progress, for those who asked for it.
    pub fn debug(&self, message: fmt::Arguments<'_>) {
        if self.debug {
            self.write(Level::Debug, message);
        }
    }

    fn write(&self, level: Level, message: fmt::Arguments<'_>) {
        let mut line = Line::new();
        // `Line` cuts instead of failing.
        let _ = write!(line, "<{}>virtinit: {message}", level as u8);
        let record = line.finish();
        let in_kmsg =
            self.kmsg.as_ref().is_some_and(|kmsg| rustix::io::write(kmsg, record).is_ok());
        let on_console = in_kmsg && (level as u8) < self.console_level;
        if !on_console {
            let text = record.get(LEVEL_PREFIX..).unwrap_or_default();
            let mut is_shown = false;
            for console in &self.consoles {
                // One that was hung up by the end of a session takes nothing any
                // more; `/dev/console`, which is standard error, does.
                is_shown |= file::write_all(console, text).is_ok();
            }
            if !is_shown {
                let _ = file::write_all(rt::stderr(), text); // there is nowhere else to go
            }
        }
    }
}

/// Those that `/sys/class/tty/console/active` names (kernel doc:
/// ABI/testing/sysfs-tty), such as `tty0 ttyS0`.
fn open_consoles() -> Vec<OwnedFd> {
    let names = file::read(c"/sys/class/tty/console/active").unwrap_or_default();
    let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut consoles = Vec::new();
    for name in names.split(u8::is_ascii_whitespace).filter(|name| !name.is_empty()) {
        let path = file::c_string(&[b"/dev/", name]);
        consoles.extend(path.and_then(|path| rustix::fs::open(&*path, flags, Mode::empty())));
    }
    consoles
}

/// The first field of `/proc/sys/kernel/printk`: `console_loglevel`.
fn first_number(text: &[u8]) -> u8 {
    text.iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |number: u8, byte| number.saturating_mul(10).saturating_add(byte - b'0'))
}

/// One record, cut where it would grow too long.
struct Line {
    bytes: [u8; RECORD_MAX],
    len: usize,
}

impl Line {
    fn new() -> Self {
        Self { bytes: [0; RECORD_MAX], len: 0 }
    }

    /// The record with its newline.
    fn finish(&mut self) -> &[u8] {
        if let Some(byte) = self.bytes.get_mut(self.len) {
            *byte = b'\n';
        }
        self.bytes.get(..=self.len).unwrap_or_default()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // One byte stays free for the newline.
        let room = self.bytes.get_mut(self.len..RECORD_MAX - 1).unwrap_or_default();
        for (slot, byte) in room.iter_mut().zip(text.bytes()) {
            // A newline would start a record of its own, without level or prefix.
            *slot = if byte == b'\n' { b' ' } else { byte };
            self.len += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_below_the_kernels_limit() {
        let mut line = Line::new();
        for _ in 0..RECORD_MAX {
            line.write_str("abc").unwrap();
        }
        let record = line.finish();
        assert_eq!(record.len(), RECORD_MAX);
        assert!(record.starts_with(b"abcabc") && record.ends_with(b"\n"));
    }

    #[test]
    fn a_message_stays_one_record() {
        let mut line = Line::new();
        line.write_str("a\nb").unwrap();
        assert_eq!(line.finish(), b"a b\n");
    }

    #[test]
    fn console_level_is_the_first_field() {
        assert_eq!(first_number(b"4\t4\t1\t7\n"), 4);
        assert_eq!(first_number(b"15"), 15);
        assert_eq!(first_number(b"999"), 255);
        assert_eq!(first_number(b""), 0);
    }
}
