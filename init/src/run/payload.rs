//! The payload: the program that becomes PID 1 after `/init`.
//!
//! Interface: execve(2).

use alloc::vec::Vec;
use core::convert::Infallible;
use core::ffi::CStr;

use proto::text::show;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::cmdline::config::Config;
use crate::report::log;
use crate::root::new_root::NewRoot;
use crate::rt;
use crate::run::interpreter;
use crate::sys::error::{Context, Hints, Result, hint_for, sys_error};
use crate::sys::file;

/// Default of `PATH`. The kernel passes a `PATH` only if the command line has `PATH=`.
pub const DEFAULT_PATH: &CStr =
    c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Hints for an existing executable file that execve(2) refuses.
#[rustfmt::skip]
pub const EXEC_HINTS: Hints = &[
    (Some(Errno::NOENT),  "the interpreter that its first line or its ELF header names is missing in the root"),
    (Some(Errno::NOEXEC), "it is no program for this machine: wrong architecture, or a script without #!"),
    (Some(Errno::ACCESS), "it, or its interpreter, may not be executed (mode, or a noexec mount)"),
    // FUSE passes flags of open(2) as the guest numbers them. POWER's O_LARGEFILE, which the kernel
    // always adds, is O_DIRECTORY on x86: QEMU's virtiofsd answers EINVAL, the one in Rust ENOTDIR.
    #[cfg(target_arch = "powerpc64")]
    (Some(Errno::INVAL),  OTHER_FLAGS),
    #[cfg(target_arch = "powerpc64")]
    (Some(Errno::NOTDIR), OTHER_FLAGS),
];

/// Hint for a file that the host refuses to open.
#[cfg(target_arch = "powerpc64")]
const OTHER_FLAGS: &str =
    "over virtiofs, a host of another architecture cannot open files for this guest; use a disk";

/// Hints for a payload that cannot be found.
const CHECK_HINTS: Hints = &[
    (Some(Errno::NOENT), "no such file; init= names a program inside the root, or below /run/mnt"),
    (Some(Errno::NOTDIR), "a part of the path is no directory"),
    (Some(Errno::LOOP), "too many symbolic links"),
];

/// Hints for a missing interpreter of the payload.
const INTERPRETER_HINTS: Hints =
    &[(Some(Errno::NOENT), "install it there, or name a program that needs none")];

/// Checks that `path` of the new root is a program that execve(2) can execute, and that its
/// interpreter exists.
pub fn check(new_root: &NewRoot, path: &[u8]) -> Result<()> {
    let refuse = |errno, hint| {
        Err(sys_error(format_args!("find init={} in the new root", show(path)), errno, hint))
    };
    let found = new_root.locate(path, OFlags::empty());
    let stat = match found.and_then(|fd| rustix::fs::fstat(&fd)) {
        Err(errno) => return refuse(errno, hint_for(CHECK_HINTS, errno)),
        Ok(stat) => stat,
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return refuse(Errno::ACCESS, "it is no regular file; init= must name a program");
    }
    if stat.st_mode & 0o111 == 0 {
        return refuse(Errno::ACCESS, "it is not executable; chmod +x it");
    }
    let mut head = [0; interpreter::HEAD];
    // A program that is not readable may still be executable; execve(2) decides.
    let Ok(length) = new_root.read_head(path, &mut head) else { return Ok(()) };
    match interpreter::interpreter(head.get(..length).unwrap_or_default()) {
        Err(hint) => refuse(Errno::NOEXEC, hint),
        Ok(None) => Ok(()),
        Ok(Some(interpreter)) => new_root.locate(interpreter, OFlags::empty()).map(drop).hinted(
            format_args!(
                "find {}, the interpreter of init={}, in the new root",
                show(interpreter),
                show(path)
            ),
            INTERPRETER_HINTS,
        ),
    }
}

/// Replaces this process by the payload. Its `argv[0]` is the base name of the program; the
/// words after `--` follow.
pub fn exec(config: &Config<'_>, mut environment: rt::Environment) -> Result<Infallible> {
    if !environment.iter().any(|variable| variable.to_bytes().starts_with(b"PATH=")) {
        environment.push(DEFAULT_PATH);
    }
    let errno = execute(config, &environment).unwrap_or_else(|errno| errno);
    Err(errno).hinted(format_args!("execute init={}", show(config.init)), EXEC_HINTS)
}

/// Calls execve(2); returns its errno.
///
/// # Errors
/// EINVAL: an argument contains NUL.
fn execute(config: &Config<'_>, environment: &[&CStr]) -> Result<Errno, Errno> {
    let path = file::c_string(&[config.init])?;
    let mut arguments = Vec::new();
    arguments.push(file::c_string(&[base_name(config.init)])?);
    for argument in &config.args {
        arguments.push(file::c_string(&[argument])?);
    }
    let arguments: Vec<&CStr> = arguments.iter().map(AsRef::as_ref).collect();
    Ok(rt::exec(&path, &arguments, environment))
}

/// Replaces this process by `/bin/sh` of the initramfs or, if it has no shell, of the mounted
/// root (`virtinit.fail=shell`). Returns only if neither has a shell.
pub fn shell() {
    log::warn!("a shell follows; its exit is a kernel panic");
    let run = || rt::exec(c"/bin/sh", &[c"sh"], &[DEFAULT_PATH, c"TERM=linux"]);
    let _ = run(); // returns only if there is no such shell
    if rustix::process::chroot(c"/sysroot").is_ok() && rustix::process::chdir(c"/").is_ok() {
        let _ = run(); // as above
    }
    log::warn!("neither the initramfs nor the root has a /bin/sh");
}

/// The last part of `path`.
#[must_use]
pub fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').find(|part| !part.is_empty()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_names() {
        for (path, name) in
            [("/bin/sh", "sh"), ("sh", "sh"), ("/a/b/", "b"), ("/", "/"), ("//", "//")]
        {
            assert_eq!(base_name(path.as_bytes()), name.as_bytes(), "{path}");
        }
    }
}
