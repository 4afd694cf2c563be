//! What happens to the machine after a fatal error: `virtinit.fail=`.
//!
//! It is read by itself, for it must hold even where the rest of the command
//! line cannot be understood.

use virtinitrd_proto::words::{Word, Words, text};

/// What a fatal error does to the machine once it was reported
/// (`virtinit.fail=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fail {
    /// Power off.
    #[default]
    PowerOff,
    /// Reset. Under `qemu -no-reboot` this ends the VM and lets the host tell
    /// a failed boot from a payload that powered off.
    Reboot,
    /// Let PID 1 exit, which is a kernel panic.
    Panic,
    /// Become a shell, of the initramfs or the root; without one, power off.
    Shell,
}

impl Fail {
    /// The policy of a command line: the last that is given and known.
    #[must_use]
    pub fn parse(line: &[u8]) -> Self {
        Words::new(line)
            .take_while(|word| *word != Word { param: b"--", value: None })
            .filter(|word| word.param == b"virtinit.fail")
            .filter_map(|word| Self::from_value(word.value?))
            .last()
            .unwrap_or_default()
    }

    /// Reads one value; `None` where it is none of ours.
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
    fn the_last_known_policy_counts() {
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
