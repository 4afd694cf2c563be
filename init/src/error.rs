//! Errors as the console shows them: operation, object, errno name, hint.
//!
//! Without `std` an `Errno` prints as a number, hence the table of names
//! (errno(3), `include/uapi/asm-generic/errno.h`).

use core::fmt::{self, Write};

use alloc::boxed::Box;
use alloc::string::String;

use rustix::io::Errno;

/// A result whose error can be shown to a person.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// One line for the console. It is written when the error is made, so that what
/// every `?` passes on is no more than a pointer and a length.
#[derive(Debug, PartialEq, Eq)]
pub struct Error(Box<str>);

impl Error {
    /// An error that no system call reported: operation and object, as in `mount
    /// virtiofs tag "src" at /run/mnt/src`, and what to do about it; empty where
    /// nothing sensible can be said.
    #[must_use]
    pub fn new(what: fmt::Arguments<'_>, hint: &str) -> Self {
        Self::build(what, None, hint)
    }

    /// As [`Error::new`], with what the kernel said.
    #[must_use]
    pub fn sys(what: fmt::Arguments<'_>, errno: Errno, hint: &str) -> Self {
        Self::build(what, Some(errno), hint)
    }

    #[cold]
    #[inline(never)]
    fn build(what: fmt::Arguments<'_>, errno: Option<Errno>, hint: &str) -> Self {
        let mut line = compose(what);
        if let Some(errno) = errno {
            let _ = write!(line, ": {}", Name(errno));
        }
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

/// As `format!`, without its code at every place that uses it.
#[must_use]
#[inline(never)]
pub fn compose(what: fmt::Arguments<'_>) -> String {
    let mut line = String::new();
    // A string takes all that is written to it.
    let _ = line.write_fmt(what);
    line
}

/// Gives the failed system call its operation, object and hint.
pub trait Context<T> {
    /// For calls whose failure says all there is to say. `what` is only written
    /// when there is an error.
    fn context(self, what: fmt::Arguments<'_>) -> Result<T>;

    /// As [`Context::context`]; `hints` is searched for the errno.
    fn hinted(self, what: fmt::Arguments<'_>, hints: Hints) -> Result<T>;
}

/// What to do about an errno, by errno. A row without one answers for the rest.
pub type Hints = &'static [(Option<Errno>, &'static str)];

/// For calls whose failure says all there is to say.
pub const NO_HINT: Hints = &[];

impl<T> Context<T> for Result<T, Errno> {
    // Else opt-level=z makes a function of it for each type, and each caller passes
    // its result through memory.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn context(self, what: fmt::Arguments<'_>) -> Result<T> {
        match self {
            Ok(value) => Ok(value),
            Err(errno) => Err(Error::sys(what, errno, "")),
        }
    }

    #[allow(clippy::inline_always)] // likewise
    #[inline(always)]
    fn hinted(self, what: fmt::Arguments<'_>, hints: Hints) -> Result<T> {
        match self {
            Ok(value) => Ok(value),
            Err(errno) => Err(explain(what, errno, hints)),
        }
    }
}

/// All of [`Context::hinted`] that does not depend on the type.
#[cold]
#[inline(never)]
fn explain(what: fmt::Arguments<'_>, errno: Errno, hints: Hints) -> Error {
    Error::sys(what, errno, hint_for(hints, errno))
}

/// The hint for `errno`; empty where no row has one.
#[must_use]
pub fn hint_for(hints: Hints, errno: Errno) -> &'static str {
    hints.iter().find(|(row, _)| row.is_none_or(|row| row == errno)).map_or("", |(_, hint)| hint)
}

/// An errno as a person knows it.
#[derive(Clone, Copy, Debug)]
pub struct Name(pub Errno);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ERRNO_NAMES.iter().find(|(row, _)| *row == self.0) {
            Some((_, name)) => show(name.trim_ascii_end()).fmt(f),
            None => write!(f, "errno {}", self.0.raw_os_error().unsigned_abs()),
        }
    }
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

/// The errnos that mounting, module loading and exec(2) can give. Names of one
/// length take half the room of references to strings.
#[rustfmt::skip]
const ERRNO_NAMES: &[(Errno, [u8; 12])] = &[
    (Errno::TOOBIG,      *b"E2BIG       "),
    (Errno::ACCESS,      *b"EACCES      "),
    (Errno::AGAIN,       *b"EAGAIN      "),
    (Errno::BADF,        *b"EBADF       "),
    (Errno::BADMSG,      *b"EBADMSG     "),
    (Errno::BUSY,        *b"EBUSY       "),
    (Errno::CONNREFUSED, *b"ECONNREFUSED"),
    (Errno::EXIST,       *b"EEXIST      "),
    (Errno::FAULT,       *b"EFAULT      "),
    (Errno::FBIG,        *b"EFBIG       "),
    (Errno::INTR,        *b"EINTR       "),
    (Errno::INVAL,       *b"EINVAL      "),
    (Errno::IO,          *b"EIO         "),
    (Errno::ISDIR,       *b"EISDIR      "),
    (Errno::KEYREJECTED, *b"EKEYREJECTED"),
    (Errno::LIBBAD,      *b"ELIBBAD     "),
    (Errno::LOOP,        *b"ELOOP       "),
    (Errno::MFILE,       *b"EMFILE      "),
    (Errno::NAMETOOLONG, *b"ENAMETOOLONG"),
    (Errno::NFILE,       *b"ENFILE      "),
    (Errno::NODATA,      *b"ENODATA     "),
    (Errno::NODEV,       *b"ENODEV      "),
    (Errno::NOENT,       *b"ENOENT      "),
    (Errno::NOEXEC,      *b"ENOEXEC     "),
    (Errno::NOKEY,       *b"ENOKEY      "),
    (Errno::NOMEM,       *b"ENOMEM      "),
    (Errno::NOSPC,       *b"ENOSPC      "),
    (Errno::NOSYS,       *b"ENOSYS      "),
    (Errno::NOTBLK,      *b"ENOTBLK     "),
    (Errno::NOTCONN,     *b"ENOTCONN    "),
    (Errno::NOTDIR,      *b"ENOTDIR     "),
    (Errno::NOTEMPTY,    *b"ENOTEMPTY   "),
    (Errno::NOTTY,       *b"ENOTTY      "),
    (Errno::NXIO,        *b"ENXIO       "),
    (Errno::OPNOTSUPP,   *b"EOPNOTSUPP  "),
    (Errno::PERM,        *b"EPERM       "),
    (Errno::ROFS,        *b"EROFS       "),
    (Errno::TXTBSY,      *b"ETXTBSY     "),
];

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn one_line_says_all() {
        const HINTS: Hints = &[(Some(Errno::INVAL), "no such tag"), (None, "odd")];
        let fail = |errno| {
            let result: Result<(), Errno> = Err(errno);
            result.hinted(format_args!("mount \"src\""), HINTS).unwrap_err().to_string()
        };
        assert_eq!(fail(Errno::INVAL), "mount \"src\": EINVAL: no such tag");
        assert_eq!(fail(Errno::IO), "mount \"src\": EIO: odd");
        assert_eq!(Error::new(format_args!("x"), "").to_string(), "x");
        assert_eq!(
            Error::sys(format_args!("x"), Errno::from_raw_os_error(999), "").to_string(),
            "x: errno 999"
        );
    }

    #[test]
    fn bytes_are_shown_as_core_escapes_them() {
        let bytes: alloc::vec::Vec<u8> = (0..=255).collect();
        assert_eq!(show(&bytes).to_string(), bytes.escape_ascii().to_string());
    }

    /// The names against the C library's own numbers.
    #[test]
    fn names_match_numbers() {
        let number = |name: &[u8]| match name.trim_ascii_end() {
            b"EINVAL" => libc::EINVAL,
            b"EKEYREJECTED" => libc::EKEYREJECTED,
            b"ENOEXEC" => libc::ENOEXEC,
            b"EOPNOTSUPP" => libc::EOPNOTSUPP,
            _ => -1,
        };
        let checked = ERRNO_NAMES.iter().filter(|(_, name)| number(name) != -1);
        assert_eq!(
            checked.map(|(errno, name)| assert_eq!(errno.raw_os_error(), number(name))).count(),
            4
        );
    }
}
