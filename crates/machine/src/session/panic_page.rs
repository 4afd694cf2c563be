//! The kernel's messages about the end of PID 1, found in the text of a console.
//!
//! If PID 1 ends, the kernel panics: it prints a page of text and resets the machine (`panic=`).
//! The first line of that page has the exit code of PID 1 (`do_exit()` of `kernel/exit.c`):
//!
//! ```text
//! [    2.039] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000300
//! ```
//!
//! The guest is not trusted: a program may print the same words. So text is only held back, and
//! the amount of held text is bounded.

/// Text of the panic between the time stamp and the exit code.
const MARK: &[u8] = b"Kernel panic - not syncing: Attempted to kill init! exitcode=0x";

/// Number of hexadecimal digits of the exit code.
const DIGITS: usize = 8;

/// Maximum length in bytes of a part in brackets in front of the mark: `printk.time` prints the
/// time, and `CONFIG_PRINTK_CALLER` the caller.
const BRACKETS_MAX: usize = 24;

/// Maximum number of these parts.
const PARTS_MAX: usize = 2;

/// Maximum size of the held text in bytes. A panic with a call trace takes 4 KiB.
const HELD_MAX: usize = 64 << 10;

/// End of PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pid1End {
    /// PID 1 has ended with this status.
    Exited(u8),
    /// A signal of this number has ended PID 1.
    Killed(u8),
}

impl Pid1End {
    /// The end that an exit code of the kernel describes, which has the form of wait(2).
    fn of_code(code: u32) -> Self {
        let [low, status, ..] = code.to_le_bytes();
        match low & 0x7f {
            0 => Self::Exited(status),
            signal => Self::Killed(signal),
        }
    }
}

/// Text that is held back because it is, or may become, the page of a panic.
#[derive(Debug, Default)]
pub struct PanicPage {
    held: Vec<u8>,
    found: Option<Pid1End>,
}

impl PanicPage {
    /// Takes text of the console, and returns the text that is no part of a page.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut free = Vec::new();
        for byte in bytes {
            self.held.push(*byte);
            while self.found.is_none() && !self.held.is_empty() {
                match compare(&self.held) {
                    Comparison::Partial => break,
                    Comparison::Whole(end) => self.found = Some(end),
                    Comparison::Different => free.push(self.held.remove(0)),
                }
            }
            if self.held.len() > HELD_MAX {
                free.append(&mut self.release());
            }
        }
        free
    }

    /// Gives up: returns the held text, which is no page.
    pub fn release(&mut self) -> Vec<u8> {
        self.found = None;
        std::mem::take(&mut self.held)
    }

    /// Whether text is held back.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// End of PID 1, if the held text begins with the kernel's message about it.
    #[must_use]
    pub fn found(&self) -> Option<Pid1End> {
        self.found
    }
}

/// Result of comparing text with the first line of a page.
#[derive(Debug, PartialEq, Eq)]
enum Comparison {
    Different,
    /// The text is the beginning of such a line.
    Partial,
    Whole(Pid1End),
}

fn compare(text: &[u8]) -> Comparison {
    let mut rest = text;
    for _ in 0..PARTS_MAX {
        let Some(inside) = rest.strip_prefix(b"[") else { break };
        let is_inside = |byte: &&u8| byte.is_ascii_digit() || b" .TC".contains(byte);
        let length = inside.iter().take_while(is_inside).count();
        rest = match inside.get(length) {
            _ if length > BRACKETS_MAX => return Comparison::Different,
            None => return Comparison::Partial,
            Some(b']') => &inside[length + 1..],
            Some(_) => return Comparison::Different,
        };
    }
    let rest = rest.strip_prefix(b" ").filter(|_| rest.len() < text.len()).unwrap_or(rest);
    let Some(code) = rest.strip_prefix(MARK) else {
        return if MARK.starts_with(rest) { Comparison::Partial } else { Comparison::Different };
    };
    let is_number = code.iter().all(u8::is_ascii_hexdigit);
    let code = std::str::from_utf8(code).ok().filter(|_| is_number);
    match code.map(|code| (code.len(), u32::from_str_radix(code, 16))) {
        Some((DIGITS, Ok(code))) => Comparison::Whole(Pid1End::of_code(code)),
        Some((0..DIGITS, _)) => Comparison::Partial,
        _ => Comparison::Different,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x";

    /// Text that is shown and text that is held, if `text` arrives in pieces of `size` bytes.
    fn taken(text: &str, size: usize) -> (String, String, Option<Pid1End>) {
        let mut page = PanicPage::default();
        let shown: Vec<u8> =
            text.as_bytes().chunks(size).flat_map(|piece| page.take(piece)).collect();
        let found = page.found();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(shown), text(page.release()), found)
    }

    #[test]
    fn only_the_kernels_message_is_held() {
        use Pid1End::{Exited, Killed};
        let stamp = "[    2.039456] ";
        for (name, shown, held, found) in [
            ("plain text", "ls\r\nbin  etc\r\n# ", String::new(), None),
            ("time stamp", "exit\r\n", format!("{stamp}{LINE}00000000\r\nCPU: 0"), Some(Exited(0))),
            ("no time stamp", "", format!("{LINE}00000300"), Some(Exited(3))),
            ("caller", "# ", format!("[    2.0][    T1] {LINE}0000ff00\n"), Some(Exited(255))),
            ("signal", "", format!("{stamp}{LINE}0000008b\n"), Some(Killed(11))),
            ("start of the line", "# ", format!("{stamp}Kernel pan"), None),
            ("start of a stamp", "\u{1b}[0m", "[ 12".into(), None),
            ("another panic", "[ 1.0] Kernel panic - not syncing: VFS\n", String::new(), None),
            (
                "another panic of init",
                "Kernel panic - not syncing: Attempted to kill the idle task!",
                String::new(),
                None,
            ),
            (
                "no number",
                "Kernel panic - not syncing: Attempted to kill init! exitcode=0xq",
                String::new(),
                None,
            ),
            ("brackets", "[[root@box ~]# [x] [1.0] K", String::new(), None),
            ("long brackets", &format!("[{}", "1".repeat(40)), String::new(), None),
            ("three stamps", "[1]", format!("[1][1] {LINE}00000000"), Some(Exited(0))),
        ] {
            // The last letter of this case could begin a message.
            let text = format!("{shown}{held}");
            for size in [1, 7, 4096] {
                let (seen, kept, end) = taken(&text, size);
                assert_eq!(format!("{seen}{kept}"), text, "{name} in pieces of {size}");
                if name != "brackets" {
                    assert_eq!((&*seen, kept, end), (shown, held.clone(), found), "{name}, {size}");
                }
            }
        }
    }

    #[test]
    fn a_guest_cannot_make_the_held_text_grow() {
        let mut page = PanicPage::default();
        page.take(format!("{LINE}00000000").as_bytes());
        assert!(page.found().is_some() && page.holds());
        let mut shown = Vec::new();
        for _ in 0..40 {
            shown.extend(page.take(&[b'x'; 4096]));
            assert!(page.held.len() <= HELD_MAX);
        }
        assert!(page.found().is_none());
        shown.extend(page.release());
        assert_eq!(shown.len(), LINE.len() + DIGITS + 40 * 4096);
    }
}
