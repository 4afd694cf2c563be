//! The way out of a machine that has taken the terminal: Enter ~ .
//!
//! As in ssh(1), where it is the first thing on a line; `~~` there is one `~`.

/// Where on a line the person is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// At the start.
    #[default]
    LineStart,
    /// After a `~` at the start, which is held back.
    Tilde,
    /// Elsewhere.
    Inside,
}

/// What to make of some bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// For the guest.
    pub bytes: Vec<u8>,
    /// Whether the machine is to end.
    pub ends: bool,
}

impl Escape {
    /// Takes what was typed.
    pub fn take(&mut self, bytes: &[u8]) -> Typed {
        let mut typed = Typed::default();
        for &byte in bytes {
            *self = match (*self, byte) {
                (Self::Tilde, b'.') => {
                    typed.ends = true;
                    return typed;
                }
                (Self::LineStart, b'~') => Self::Tilde,
                (state, byte) => {
                    if state == Self::Tilde && byte != b'~' {
                        typed.bytes.push(b'~');
                    }
                    typed.bytes.push(byte);
                    match byte {
                        b'\r' | b'\n' => Self::LineStart,
                        _ => Self::Inside,
                    }
                }
            };
        }
        typed
    }

    /// What is held back, for the guest, when nothing follows any more.
    #[must_use]
    pub fn rest(self) -> &'static [u8] {
        if self == Self::Tilde { b"~" } else { b"" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_tilde_is_not_lost() {
        for (keys, rest) in [("ls\r~", "~"), ("~~", ""), ("a~", ""), ("", "")] {
            let mut escape = Escape::default();
            escape.take(keys.as_bytes());
            assert_eq!(escape.rest(), rest.as_bytes(), "{keys:?}");
        }
    }

    #[test]
    fn only_a_tilde_at_the_start_of_a_line_escapes() {
        for (keys, bytes, ends) in [
            ("ls\r", "ls\r", false),
            ("~.", "", true),
            ("ls\r~.rest", "ls\r", true),
            ("a~.\r", "a~.\r", false),
            ("~x", "~x", false),
            ("~~.\r", "~.\r", false),
            ("~\r~.", "~\r", true),
        ] {
            let expected = Typed { bytes: bytes.into(), ends };
            assert_eq!(Escape::default().take(keys.as_bytes()), expected, "{keys:?}");
            // Typed one key at a time it is the same.
            let mut escape = Escape::default();
            let mut all = Typed::default();
            for key in keys.bytes() {
                let typed = escape.take(&[key]);
                all.bytes.extend(typed.bytes);
                all.ends |= typed.ends;
                if all.ends {
                    break;
                }
            }
            assert_eq!(all, expected, "{keys:?}");
        }
    }
}
