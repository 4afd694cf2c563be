//! The line on the terminal that says that a machine boots, for a boot that a person would take
//! for a hang.
//!
//! It is the status of [`files::tell`]: whatever is printed next erases it. The output of the
//! command must not begin before [`BootLine::end`] or [`tell::erase_status`].

use std::time::{Duration, Instant};

use files::tell;

/// Time after which a boot looks like a hang.
const DELAY: Duration = Duration::from_millis(500);

/// Interval at which the line shows the time.
const TICK: Duration = Duration::from_secs(1);

/// Text for a guest whose console is empty. An emulated kernel needs a second to start `/init`,
/// and neither of them reports anything if all goes well.
const SILENT: &str = "waiting for its kernel and /init";

/// The line of one boot. Dropping this value erases the line.
#[derive(Debug)]
pub struct BootLine {
    /// Name of the root for the user; `None` for no line.
    root: Option<String>,
    start: Instant,
    /// Time at which the line changes next.
    next: Instant,
}

impl BootLine {
    /// The line of a machine that starts now; `root` is the name of its root for the user, or
    /// `None` for no line.
    #[must_use]
    pub fn new(root: Option<String>) -> Self {
        let start = Instant::now();
        Self { root, start, next: start + DELAY }
    }

    /// Time at which the next [`BootLine::update`] is due; `None` for never.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.root.as_ref().map(|_| self.next)
    }

    /// Shows the line if that is due. `console` returns the last line of the guest's console.
    pub fn update(&mut self, console: impl FnOnce() -> Option<String>) {
        let now = Instant::now();
        let Some(root) = self.root.as_ref().filter(|_| self.next <= now) else { return };
        self.next = now + TICK;
        tell::status(text(root, now - self.start, console().as_deref()));
    }

    /// Erases the line for good.
    pub fn end(&mut self) {
        if self.root.take().is_some() {
            tell::erase_status();
        }
    }
}

impl Drop for BootLine {
    fn drop(&mut self) {
        self.end();
    }
}

/// The line after `elapsed`; `console` is the last line of the guest's console.
fn text(root: &str, elapsed: Duration, console: Option<&str>) -> String {
    let state = console.unwrap_or(SILENT);
    match elapsed.as_secs() {
        0 => format!("booting {root}: {state}"),
        seconds => format!("booting {root} ({seconds} s): {state}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_the_console_says() {
        for (millis, console, expected) in [
            (500, None, "booting ./r: waiting for its kernel and /init"),
            (3600, None, "booting ./r (3 s): waiting for its kernel and /init"),
            (1000, Some("[ 0.9] x: failed"), "booting ./r (1 s): [ 0.9] x: failed"),
        ] {
            assert_eq!(text("./r", Duration::from_millis(millis), console), expected);
        }
    }

    #[test]
    fn nothing_is_due_without_a_root_or_after_the_end() {
        assert_eq!(BootLine::new(None).next(), None);
        let mut line = BootLine::new(Some("./r".into()));
        assert!(line.next().is_some_and(|next| next > line.start));
        line.update(|| unreachable!("the line is not due yet"));
        line.end();
        assert_eq!(line.next(), None);
    }
}
