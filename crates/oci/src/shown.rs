//! Text of documents, and of other programs, as a part of messages.
//!
//! Documents are not trusted, and each may have megabytes of text in one member. What a message
//! shows of it is short and has no control characters.

use std::fmt::Write;

use files::tell::printable;

/// Most characters that are shown.
pub(crate) const SHOWN_MAX: usize = 300;

/// Text as a part of one line, with escapes for unprintable characters, and `…` in place of what
/// is too long.
#[must_use]
pub(crate) fn shown(text: &str) -> String {
    let mut line = String::new();
    for (number, c) in text.chars().enumerate() {
        if number == SHOWN_MAX {
            line.push('…');
            break;
        }
        match c {
            // They need no escape here, and text that is shown twice stays the same.
            '"' | '\'' | '\\' => line.push(c),
            // Writing to a string cannot fail.
            c => drop(write!(line, "{}", c.escape_debug())),
        }
    }
    line
}

/// What another program says, as a part of one line: without control characters, and as short as
/// [`shown`] makes it.
#[must_use]
pub(crate) fn told(text: &str) -> String {
    shown(&printable(text.trim().as_bytes()).replace(['\n', '\t'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_short_and_printable() {
        let long = "é".repeat(1 << 20);
        let cut = format!("{}…", "é".repeat(SHOWN_MAX));
        for (text, expected) in [
            ("", ""),
            ("a \"b\" 'c'", "a \"b\" 'c'"),
            ("a\n\u{1b}[2J\u{202e}", "a\\n\\u{1b}[2J\\u{202e}"),
            (&long[..2 * SHOWN_MAX], &cut[..2 * SHOWN_MAX]),
            (&long, &cut),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert_eq!(shown(&shown("a\n\\")), shown("a\n\\"));
    }
}
