//! Errors as a person sees them: operation, object and hint in one line.

use alloc::boxed::Box;
use core::fmt;

use crate::text::compose;

/// A result whose error can be shown to a person.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// One line for a person. The line is composed when the error is made, so that the error
/// is no more than a pointer and a length.
#[derive(Debug, PartialEq, Eq)]
pub struct Error(Box<str>);

impl Error {
    /// An error: operation and object, as in `mount virtiofs tag "src" at /run/mnt/src`, and
    /// a hint. An empty `hint` is left out.
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
