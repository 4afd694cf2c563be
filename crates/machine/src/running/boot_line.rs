//! The line on the terminal that says that a machine boots, for a boot that a person would take
//! for a hang.
//!
//! It is the status of [`files::tell`]: whatever is printed next erases it. The output of the
//! command must not begin before [`BootLine::end`] or [`tell::end_status`].

use std::time::{Duration, Instant};

use files::tell;

/// Time after which a boot looks like a hang.
const DELAY: Duration = Duration::from_millis(500);

/// Interval at which the line shows the time.
const TICK: Duration = Duration::from_secs(1);

/// State of a guest that has reported nothing, before its command starts. An emulated kernel
/// needs a second to start `/init`, and neither of them reports anything if all goes well.
pub const SILENT: &str = "waiting for its kernel and /init";

/// State of a guest that runs INIT, until there is text on the console. Nothing else tells
/// whether INIT has started.
pub const EMPTY_CONSOLE: &str = "nothing on its console yet";

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

    /// Shows the line if that is due; `state` returns the state of the guest.
    pub fn update(&mut self, state: impl FnOnce() -> String) {
        let now = Instant::now();
        let Some(root) = self.root.as_ref().filter(|_| self.next <= now) else { return };
        self.next = now + TICK;
        tell::status(text(root, now - self.start, &state()));
        if tell::has_status_ended() {
            self.root = None;
        }
    }

    /// Erases the line for good.
    pub fn end(&mut self) {
        if self.root.take().is_some() {
            tell::end_status();
        }
    }
}

impl Drop for BootLine {
    fn drop(&mut self) {
        self.end();
    }
}

/// The line after `elapsed`.
fn text(root: &str, elapsed: Duration, state: &str) -> String {
    match elapsed.as_secs() {
        0 => format!("booting {root}: {state}"),
        seconds => format!("booting {root} ({seconds} s): {state}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_the_time_and_the_state() {
        for (millis, state, expected) in [
            (500, SILENT, "booting ./r: waiting for its kernel and /init"),
            (3600, EMPTY_CONSOLE, "booting ./r (3 s): nothing on its console yet"),
            (1000, "[ 0.9] x: failed", "booting ./r (1 s): [ 0.9] x: failed"),
        ] {
            assert_eq!(text("./r", Duration::from_millis(millis), state), expected);
        }
    }

    #[test]
    fn nothing_is_due_without_a_root_or_after_the_end() {
        assert_eq!(BootLine::new(None).next(), None);
        let mut line = BootLine::new(Some("./r".into()));
        assert!(line.next().is_some_and(|next| next > line.start));
        // A busy host must not make the line due meanwhile.
        line.next += Duration::from_secs(3600);
        line.update(|| unreachable!("the line is not due yet"));
        line.end();
        assert_eq!(line.next(), None);
    }
}
