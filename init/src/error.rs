//! Errors as the console shows them: operation, object, errno name, hint.
//!
//! Without `std` an `Errno` prints as a number, hence the table of names
//! (errno(3), `include/uapi/asm-generic/errno.h`).

use core::fmt;

use alloc::borrow::Cow;
use alloc::string::String;

use rustix::io::Errno;

/// A result whose error can be shown to a person.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// One line for the console.
#[derive(Debug, PartialEq, Eq)]
pub struct Error {
    /// Operation and object, as in `mount virtiofs tag "src" at /run/mnt/src`.
    what: String,
    /// What the kernel said, where it was asked.
    errno: Option<Errno>,
    /// What to do about it; empty where nothing sensible can be said.
    hint: Cow<'static, str>,
}

impl Error {
    /// An error that no system call reported.
    #[must_use]
    pub fn new(what: String, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { what, errno: None, hint: hint.into() }
    }

    /// An error that a system call reported.
    #[must_use]
    pub fn sys(what: String, errno: Errno, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { what, errno: Some(errno), hint: hint.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(errno) = self.errno {
            f.write_str(": ")?;
            write_errno(f, errno)?;
        }
        if !self.hint.is_empty() {
            write!(f, ": {}", self.hint)?;
        }
        Ok(())
    }
}

/// Gives the failed system call its operation, object and hint.
pub trait Context<T> {
    /// `what` is only built when there is an error; `hints` is searched for its
    /// errno.
    fn context(self, what: impl FnOnce() -> String, hints: Hints) -> Result<T>;
}

/// What to do about an errno, by errno. A row without one answers for the rest.
pub type Hints = &'static [(Option<Errno>, &'static str)];

/// For calls whose failure says all there is to say.
pub const NO_HINT: Hints = &[];

impl<T> Context<T> for Result<T, Errno> {
    fn context(self, what: impl FnOnce() -> String, hints: Hints) -> Result<T> {
        self.map_err(|errno| Error::sys(what(), errno, hint_for(hints, errno)))
    }
}

/// The hint for `errno`; empty where no row has one.
#[must_use]
pub fn hint_for(hints: Hints, errno: Errno) -> &'static str {
    hints.iter().find(|(row, _)| row.is_none_or(|row| row == errno)).map_or("", |(_, hint)| hint)
}

fn write_errno(f: &mut fmt::Formatter<'_>, errno: Errno) -> fmt::Result {
    match ERRNO_NAMES.iter().find(|(row, _)| *row == errno) {
        Some((_, name)) => f.write_str(name),
        None => write!(f, "errno {}", errno.raw_os_error()),
    }
}

/// The errnos that mounting, module loading and exec(2) can give.
#[rustfmt::skip]
const ERRNO_NAMES: &[(Errno, &str)] = &[
    (Errno::TOOBIG,      "E2BIG"),
    (Errno::ACCESS,      "EACCES"),
    (Errno::AGAIN,       "EAGAIN"),
    (Errno::BADF,        "EBADF"),
    (Errno::BADMSG,      "EBADMSG"),
    (Errno::BUSY,        "EBUSY"),
    (Errno::CONNREFUSED, "ECONNREFUSED"),
    (Errno::EXIST,       "EEXIST"),
    (Errno::FAULT,       "EFAULT"),
    (Errno::FBIG,        "EFBIG"),
    (Errno::INTR,        "EINTR"),
    (Errno::INVAL,       "EINVAL"),
    (Errno::IO,          "EIO"),
    (Errno::ISDIR,       "EISDIR"),
    (Errno::KEYREJECTED, "EKEYREJECTED"),
    (Errno::LIBBAD,      "ELIBBAD"),
    (Errno::LOOP,        "ELOOP"),
    (Errno::MFILE,       "EMFILE"),
    (Errno::NAMETOOLONG, "ENAMETOOLONG"),
    (Errno::NFILE,       "ENFILE"),
    (Errno::NODEV,       "ENODEV"),
    (Errno::NOENT,       "ENOENT"),
    (Errno::NOEXEC,      "ENOEXEC"),
    (Errno::NOKEY,       "ENOKEY"),
    (Errno::NOMEM,       "ENOMEM"),
    (Errno::NOSPC,       "ENOSPC"),
    (Errno::NOSYS,       "ENOSYS"),
    (Errno::NOTBLK,      "ENOTBLK"),
    (Errno::NOTCONN,     "ENOTCONN"),
    (Errno::NOTDIR,      "ENOTDIR"),
    (Errno::NOTEMPTY,    "ENOTEMPTY"),
    (Errno::NOTTY,       "ENOTTY"),
    (Errno::NXIO,        "ENXIO"),
    (Errno::OPNOTSUPP,   "EOPNOTSUPP"),
    (Errno::PERM,        "EPERM"),
    (Errno::ROFS,        "EROFS"),
    (Errno::TXTBSY,      "ETXTBSY"),
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
            result.context(|| "mount \"src\"".to_string(), HINTS).unwrap_err().to_string()
        };
        assert_eq!(fail(Errno::INVAL), "mount \"src\": EINVAL: no such tag");
        assert_eq!(fail(Errno::IO), "mount \"src\": EIO: odd");
        assert_eq!(Error::new("x".to_string(), "").to_string(), "x");
        assert_eq!(
            Error::sys("x".to_string(), Errno::from_raw_os_error(999), "").to_string(),
            "x: errno 999"
        );
    }

    /// The names against the C library's own numbers.
    #[test]
    fn names_match_numbers() {
        let number = |name: &str| match name {
            "EINVAL" => libc::EINVAL,
            "EKEYREJECTED" => libc::EKEYREJECTED,
            "ENOEXEC" => libc::ENOEXEC,
            "EOPNOTSUPP" => libc::EOPNOTSUPP,
            _ => -1,
        };
        let checked = ERRNO_NAMES.iter().filter(|(_, name)| number(name) != -1);
        assert_eq!(
            checked.map(|(errno, name)| assert_eq!(errno.raw_os_error(), number(name))).count(),
            4
        );
    }
}
