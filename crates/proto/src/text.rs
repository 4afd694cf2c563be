//! Text for people: any bytes, made printable.

use alloc::string::String;
use core::fmt::{self, Write};

/// Formats `what`, as `format!` does, but without a copy of the code at each call.
#[must_use]
#[inline(never)]
pub fn compose(what: fmt::Arguments<'_>) -> String {
    let mut line = String::new();
    // Writing to a string never fails.
    let _ = line.write_fmt(what);
    line
}

/// Any bytes in a message; bytes that are not printable are escaped.
#[derive(Clone, Copy, Debug)]
pub struct Show<'a>(&'a [u8]);

/// Wraps `bytes` for a message.
#[must_use]
pub fn show(bytes: &[u8]) -> Show<'_> {
    Show(bytes)
}

impl fmt::Display for Show<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut escaped = self.0.iter().flat_map(|&byte| core::ascii::escape_default(byte));
        escaped.try_for_each(|byte| f.write_char(byte.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn bytes_are_shown_as_core_escapes_them() {
        let bytes: alloc::vec::Vec<u8> = (0..=255).collect();
        assert_eq!(show(&bytes).to_string(), bytes.escape_ascii().to_string());
    }
}
