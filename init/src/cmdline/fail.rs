//! `virtinit.fail=`: what to do with the machine after a fatal error.
//!
//! It is parsed separately, because it must hold even if the rest of the command line is
//! invalid.

use proto::words::{Word, Words, text};

/// The end of the machine after a fatal error was reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fail {
    /// Power off.
    #[default]
    PowerOff,
    /// Reset. Under `qemu -no-reboot` this ends QEMU, and the host can tell a failed boot
    /// from a payload that powered off.
    Reboot,
    /// Let PID 1 exit, which is a kernel panic.
    Panic,
    /// Execute a shell of the initramfs or the root; power off if neither has one.
    Shell,
}

impl Fail {
    /// The policy of a command line: the last known value wins.
    #[must_use]
    pub fn parse(line: &[u8]) -> Self {
        Words::new(line)
            .take_while(|word| *word != Word { param: b"--", value: None })
            .filter(|word| word.param == b"virtinit.fail")
            .filter_map(|word| Self::from_value(word.value?))
            .last()
            .unwrap_or_default()
    }

    /// Reads one value. `None`: the value is unknown.
    #[must_use]
    pub fn from_value(value: &[u8]) -> Option<Self> {
        match text(value) {
            "poweroff" => Some(Self::PowerOff),
            "reboot" => Some(Self::Reboot),
            "panic" => Some(Self::Panic),
            "shell" => Some(Self::Shell),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_known_policy_wins() {
        for (line, policy) in [
            ("", Fail::PowerOff),
            ("virtinit.fail=panic virtinit.fail=reboot", Fail::Reboot),
            ("virtinit.fail=panic virtinit.fail=explode", Fail::Panic),
            ("virtinit.fail", Fail::PowerOff),
            ("mount=a/b virtinit.fail=reboot", Fail::Reboot),
            ("-- virtinit.fail=reboot", Fail::PowerOff),
        ] {
            assert_eq!(Fail::parse(line.as_bytes()), policy, "{line}");
        }
    }
}
