//! The escape sequence that ends a machine from a raw terminal: Enter, `~`, `.`.
//!
//! As in ssh(1), `~` counts only at the start of a line, and `~~` there sends one `~`.

/// Position in a line, as far as the escape sequence is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapeState {
    /// At the start of a line.
    #[default]
    LineStart,
    /// After a `~` at the start of a line; the `~` was not sent yet.
    Tilde,
    /// Anywhere else.
    Inside,
}

/// Result of typed bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TypedKeys {
    /// Bytes for the guest.
    pub bytes: Vec<u8>,
    /// Whether the escape sequence ends the machine.
    pub ends: bool,
}

impl EscapeState {
    /// Handles typed bytes.
    pub fn take(&mut self, bytes: &[u8]) -> TypedKeys {
        let mut typed = TypedKeys::default();
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

    /// Bytes for the guest that were held back, once the input has ended.
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
            let mut escape = EscapeState::default();
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
            let expected = TypedKeys { bytes: bytes.into(), ends };
            assert_eq!(EscapeState::default().take(keys.as_bytes()), expected, "{keys:?}");
            // The result is the same if the keys are typed one at a time.
            let mut escape = EscapeState::default();
            let mut all = TypedKeys::default();
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
