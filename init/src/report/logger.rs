//! The logger behind the macros of `log`: messages go to the kernel log, and so to
//! the consoles.
//!
//! `/dev/kmsg` (kernel doc: ABI/testing/dev-kmsg) keeps our lines in order with the
//! kernel's. If the kernel would not print a line on the console (`quiet`), or does not
//! accept it, the logger writes it to the consoles itself. So every line that a user
//! asked for is seen, and seen once.
//!
//! Invariant: logging never fails, and an error of the logger never stops the boot, because
//! nothing is left that could report the error.

use alloc::vec::Vec;
use core::ffi::CStr;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use proto::console::PREFIX;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};

use crate::rt;
use crate::rt::once::Once;
use crate::sys::file;

/// Length in bytes of the level at the start of a record, as in `<3>`.
const LEVEL_PREFIX: usize = 3;

/// Longest record in bytes that is written to `/dev/kmsg`, newline included. The kernel
/// refuses lines over `PRINTKRB_RECORD_MAX` less its prefix (1024 - 48 in
/// kernel/printk/printk.c of Linux 5).
const RECORD_MAX: usize = 960;

/// Whether debug messages are written as well.
static DEBUG: AtomicBool = AtomicBool::new(false);

/// Files to write to, from [`attach`] on. Until then, messages go to standard error, which the
/// kernel opened on the console.
static SINKS: Once<Sinks> = Once::new();

/// Level of a message: its number in syslog(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Level {
    /// An error.
    Error = 3,
    /// A warning.
    Warn = 4,
    /// A message for debugging.
    Debug = 7,
}

/// Lets debug messages through as well.
pub fn enable_debug() {
    DEBUG.store(true, Ordering::Relaxed);
}

/// Writes `message`, unless its level is [`Level::Debug`] and nobody asked for that. Call it
/// through the macros of `log`.
pub fn log(level: Level, message: fmt::Arguments<'_>) {
    if level == Level::Debug && !DEBUG.load(Ordering::Relaxed) {
        return;
    }
    let level = level as u8;
    let number = u64::from(level);
    let mut record = Record::new();
    // `Record` cuts instead of failing.
    let _ = write!(record, "<{number}>{PREFIX}{message}");
    write_record(record.finish(), level);
}

/// Opens `/dev/kmsg` and all consoles, unless they are open already.
///
/// Needs `/proc`, `/sys` and `/dev`. Without `printk.devkmsg=on` the kernel drops all but
/// ten lines in five seconds, or, with `off`, every line. The command line may have locked
/// either setting; then the logger uses the consoles alone.
pub fn attach() {
    const RATE_LIMIT: &CStr = c"/proc/sys/kernel/printk_devkmsg";
    if SINKS.get().is_some() {
        return;
    }
    let mut sinks = Sinks { kmsg: None, consoles: open_consoles(), console_level: 0 };
    let _ = file::write(RATE_LIMIT, b"on\n"); // refused if locked: the next line reads it back
    if file::read(RATE_LIMIT).is_ok_and(|mode| mode.starts_with(b"on")) {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        sinks.kmsg = rustix::fs::open(c"/dev/kmsg", flags, Mode::empty()).ok();
        if let Ok(levels) = file::read(c"/proc/sys/kernel/printk") {
            sinks.console_level = first_number(&levels);
        }
    }
    SINKS.set(sinks);
}

/// The open files of the logger.
#[derive(Debug)]
struct Sinks {
    kmsg: Option<OwnedFd>,
    /// Every console of the kernel. `/dev/console` is only the last of them, and perhaps
    /// nobody watches that one.
    consoles: Vec<OwnedFd>,
    /// The kernel prints records below this level on the console.
    console_level: u8,
}

fn write_record(record: &[u8], level: u8) {
    let sinks = SINKS.get();
    let in_kmsg = sinks
        .and_then(|sinks| sinks.kmsg.as_ref())
        .is_some_and(|kmsg| rustix::io::write(kmsg, record).is_ok());
    if in_kmsg && sinks.is_some_and(|sinks| level < sinks.console_level) {
        return;
    }
    let text = record.get(LEVEL_PREFIX..).unwrap_or_default();
    let mut is_shown = false;
    for console in sinks.map_or(&[][..], |sinks| &sinks.consoles) {
        // The end of a session hangs up its console, which then accepts nothing more;
        // standard error, which is `/dev/console`, still does.
        is_shown |= file::write_all(console, text).is_ok();
    }
    if !is_shown {
        let _ = file::write_all(rt::stderr(), text); // there is nowhere else to go
    }
}

/// Opens the consoles that `/sys/class/tty/console/active` names (kernel doc:
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

/// One record for `/dev/kmsg`, cut at [`RECORD_MAX`].
struct Record {
    bytes: [u8; RECORD_MAX],
    len: usize,
}

impl Record {
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

impl Write for Record {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // One byte stays free for the newline.
        let room = self.bytes.get_mut(self.len..RECORD_MAX - 1).unwrap_or_default();
        for (slot, byte) in room.iter_mut().zip(text.bytes()) {
            // A newline would start another record, without level and prefix.
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
        let mut record = Record::new();
        for _ in 0..RECORD_MAX {
            record.write_str("abc").unwrap();
        }
        let record = record.finish();
        assert_eq!(record.len(), RECORD_MAX);
        assert!(record.starts_with(b"abcabc") && record.ends_with(b"\n"));
    }

    #[test]
    fn a_message_stays_one_record() {
        let mut record = Record::new();
        record.write_str("a\nb").unwrap();
        assert_eq!(record.finish(), b"a b\n");
    }

    #[test]
    fn console_level_is_the_first_field() {
        assert_eq!(first_number(b"4\t4\t1\t7\n"), 4);
        assert_eq!(first_number(b"15"), 15);
        assert_eq!(first_number(b"999"), 255);
        assert_eq!(first_number(b""), 0);
    }
}
