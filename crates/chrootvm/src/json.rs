//! Results as JSON (RFC 8259), for programs.
//!
//! Members are always there and keep their meaning; new versions may add some. Texts of images are
//! not trusted: no character steers a terminal.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde::Serialize;

/// Context of errors.
const WRITE: &str = "write JSON";

/// The JSON text of `value`, with a newline at its end.
///
/// # Errors
/// A value that JSON cannot express.
pub fn text(value: &impl Serialize) -> Result<String> {
    Ok(escaped(&serde_json::to_string_pretty(value).context(WRITE)?) + "\n")
}

/// The JSON text of `value` in one line, with a newline at its end: values of many programs can
/// stand in one file.
///
/// # Errors
/// A value that JSON cannot express.
pub fn line(value: &impl Serialize) -> Result<String> {
    Ok(escaped(&serde_json::to_string(value).context(WRITE)?) + "\n")
}

/// Escapes what serde_json leaves as it is, though it may steer a terminal: everything beyond
/// ASCII that `escape_debug` would not print. JSON has such characters only in strings.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\u{7f}' || (!c.is_ascii() && c.escape_debug().len() > 1) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}"); // a String takes all
            }
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_steers_a_terminal() {
        let value = "é \"\\\n\u{1b}[2J\u{7f}\u{9b}2J\u{202e}x\u{e0001}";
        let json = text(&value).unwrap();
        assert_eq!(json, "\"é \\\"\\\\\\n\\u001b[2J\\u007f\\u009b2J\\u202ex\\udb40\\udc01\"\n");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), value);
    }
}
