//! Errors of system calls: operation, object, name of the errno, and a hint in one line.
//!
//! Without `std`, an `Errno` prints as a number, so this file has the names (errno(3)).

use core::fmt;

use proto::text::show;
use proto::words::words;
use rustix::io::Errno;

pub use proto::error::{Error, Result};

/// The error of a system call: operation and object, as in `mount virtiofs tag "src" at
/// /run/mnt/src`, the errno, and a hint. An empty `hint` is left out.
#[must_use]
#[cold]
#[inline(never)]
pub fn sys_error(what: fmt::Arguments<'_>, errno: Errno, hint: &str) -> Error {
    Error::new(format_args!("{what}: {}", ErrnoName(errno)), hint)
}

/// Turns the errno of a failed system call into an [`Error`].
pub trait Context<T> {
    /// Adds operation and object. `what` is formatted only if there is an error.
    fn context(self, what: fmt::Arguments<'_>) -> Result<T>;

    /// As [`Context::context`], with the hint that `hints` has for the errno.
    fn hinted(self, what: fmt::Arguments<'_>, hints: Hints) -> Result<T>;
}

/// Hints by errno. A row with `None` is for all other errnos.
pub type Hints = &'static [(Option<Errno>, &'static str)];

/// No hints, for calls whose errno says enough.
pub const NO_HINT: Hints = &[];

impl<T> Context<T> for Result<T, Errno> {
    // Without this, opt-level=z makes one function for each type, and each caller passes
    // its result through memory.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn context(self, what: fmt::Arguments<'_>) -> Result<T> {
        match self {
            Ok(value) => Ok(value),
            Err(errno) => Err(sys_error(what, errno, "")),
        }
    }

    #[allow(clippy::inline_always)] // as above
    #[inline(always)]
    fn hinted(self, what: fmt::Arguments<'_>, hints: Hints) -> Result<T> {
        match self {
            Ok(value) => Ok(value),
            Err(errno) => Err(explain(what, errno, hints)),
        }
    }
}

/// The part of [`Context::hinted`] that does not depend on the type.
#[cold]
#[inline(never)]
fn explain(what: fmt::Arguments<'_>, errno: Errno, hints: Hints) -> Error {
    sys_error(what, errno, hint_for(hints, errno))
}

/// The hint for `errno`; empty if no row matches.
#[must_use]
pub fn hint_for(hints: Hints, errno: Errno) -> &'static str {
    hints.iter().find(|(row, _)| row.is_none_or(|row| row == errno)).map_or("", |(_, hint)| hint)
}

/// An errno that prints as its name, such as `ENOENT`.
#[derive(Clone, Copy, Debug)]
pub struct ErrnoName(pub Errno);

impl fmt::Display for ErrnoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = u64::from(self.0.raw_os_error().unsigned_abs());
        // The kernel's errnos are below 4096 (`MAX_ERRNO`).
        let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        match at.and_then(|at| words(ERRNO_NAMES).nth(at)).filter(|name| *name != b"-") {
            Some(name) => write!(f, "E{}", show(name)),
            None => write!(f, "errno {number}"),
        }
    }
}

/// Names of the errnos from 1 on, without their `E`; `-` for a number that is not in
/// use (`include/uapi/asm-generic/errno-base.h` and `errno.h`, which are those of x86,
/// Arm and RISC-V). One text takes a third of the space of 133 references.
const ERRNO_NAMES: &[u8] = b"\
    PERM NOENT SRCH INTR IO NXIO 2BIG NOEXEC BADF CHILD AGAIN NOMEM ACCES FAULT NOTBLK \
    BUSY EXIST XDEV NODEV NOTDIR ISDIR INVAL NFILE MFILE NOTTY TXTBSY FBIG NOSPC SPIPE \
    ROFS MLINK PIPE DOM RANGE DEADLK NAMETOOLONG NOLCK NOSYS NOTEMPTY LOOP - NOMSG IDRM \
    CHRNG L2NSYNC L3HLT L3RST LNRNG UNATCH NOCSI L2HLT BADE BADR XFULL NOANO BADRQC \
    BADSLT - BFONT NOSTR NODATA TIME NOSR NONET NOPKG REMOTE NOLINK ADV SRMNT COMM PROTO \
    MULTIHOP DOTDOT BADMSG OVERFLOW NOTUNIQ BADFD REMCHG LIBACC LIBBAD LIBSCN LIBMAX \
    LIBEXEC ILSEQ RESTART STRPIPE USERS NOTSOCK DESTADDRREQ MSGSIZE PROTOTYPE NOPROTOOPT \
    PROTONOSUPPORT SOCKTNOSUPPORT OPNOTSUPP PFNOSUPPORT AFNOSUPPORT ADDRINUSE \
    ADDRNOTAVAIL NETDOWN NETUNREACH NETRESET CONNABORTED CONNRESET NOBUFS ISCONN NOTCONN \
    SHUTDOWN TOOMANYREFS TIMEDOUT CONNREFUSED HOSTDOWN HOSTUNREACH ALREADY INPROGRESS \
    STALE UCLEAN NOTNAM NAVAIL ISNAM REMOTEIO DQUOT NOMEDIUM MEDIUMTYPE CANCELED NOKEY \
    KEYEXPIRED KEYREVOKED KEYREJECTED OWNERDEAD NOTRECOVERABLE RFKILL HWPOISON";

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn an_error_is_one_line() {
        const HINTS: Hints = &[(Some(Errno::INVAL), "no such tag"), (None, "odd")];
        let fail = |errno| {
            let result: Result<(), Errno> = Err(errno);
            result.hinted(format_args!("mount \"src\""), HINTS).unwrap_err().to_string()
        };
        assert_eq!(fail(Errno::INVAL), "mount \"src\": EINVAL: no such tag");
        assert_eq!(fail(Errno::IO), "mount \"src\": EIO: odd");
        assert_eq!(Error::new(format_args!("x"), "").to_string(), "x");
        assert_eq!(
            sys_error(format_args!("x"), Errno::from_raw_os_error(999), "").to_string(),
            "x: errno 999"
        );
    }

    /// The names against the C library's own numbers, at the ends and around the
    /// gaps.
    #[test]
    fn names_match_numbers() {
        for (number, name) in [
            (libc::EPERM, "EPERM"),
            (libc::E2BIG, "E2BIG"),
            (libc::EINVAL, "EINVAL"),
            (libc::EDEADLK, "EDEADLK"),
            (libc::ELOOP, "ELOOP"),
            (libc::ENOMSG, "ENOMSG"),
            (libc::EBADSLT, "EBADSLT"),
            (libc::EBFONT, "EBFONT"),
            (libc::EREMOTE, "EREMOTE"),
            (libc::ELIBEXEC, "ELIBEXEC"),
            (libc::EOPNOTSUPP, "EOPNOTSUPP"),
            (libc::ECONNREFUSED, "ECONNREFUSED"),
            (libc::ESTALE, "ESTALE"),
            (libc::EUCLEAN, "EUCLEAN"),
            (libc::EKEYREJECTED, "EKEYREJECTED"),
            (libc::EHWPOISON, "EHWPOISON"),
        ] {
            assert_eq!(ErrnoName(Errno::from_raw_os_error(number)).to_string(), name);
        }
        for number in [41, 58, 134, 999, 4095] {
            let errno = Errno::from_raw_os_error(number);
            assert_eq!(ErrnoName(errno).to_string(), alloc::format!("errno {number}"));
        }
        let known = (1..=133).filter(|number| {
            let name = ErrnoName(Errno::from_raw_os_error(*number)).to_string();
            name.starts_with('E') && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        assert_eq!(known.count(), 131);
    }
}
