//! Text for people: bytes of any kind, made printable.

use alloc::string::String;
use core::fmt::{self, Write};

/// As `format!`, without its code at every place that uses it.
#[must_use]
#[inline(never)]
pub fn compose(what: fmt::Arguments<'_>) -> String {
    let mut line = String::new();
    // A string takes all that is written to it.
    let _ = line.write_fmt(what);
    line
}

/// Bytes that need not be text, with those escaped that are not printable.
#[derive(Clone, Copy, Debug)]
pub struct Show<'a>(&'a [u8]);

/// Shows `bytes` in a message.
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
