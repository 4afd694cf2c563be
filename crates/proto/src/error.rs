//! Errors as a person sees them: operation, object, and what to do about it.

use alloc::boxed::Box;
use core::fmt;

use crate::text::compose;

/// A result whose error can be shown to a person.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// One line for a person.
#[derive(Debug, PartialEq, Eq)]
pub struct Error(Box<str>);

impl Error {
    /// An error about `what`, an operation and its object, as in `virtiofs tag "a/b"`,
    /// and what to do about it; empty where nothing sensible can be said.
    #[must_use]
    #[cold]
    #[inline(never)]
    pub fn new(what: fmt::Arguments<'_>, hint: &str) -> Self {
        let mut line = compose(what);
        if !hint.is_empty() {
            line.push_str(": ");
            line.push_str(hint);
        }
        Self(line.into_boxed_str())
    }

    /// The line.
    #[must_use]
    pub fn into_line(self) -> Box<str> {
        self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Error {}
