//! This host: programs in `PATH`, KVM, paths.
//!
//! Interfaces: `/dev/kvm` and /proc/cpuinfo (proc(5)); the XDG Base Directory
//! Specification, version 0.8.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use files::private_dir::{self, Writers};

use crate::plan::architecture::HOST;

/// Searches `PATH` for an executable file.
#[must_use]
pub fn find_program(name: &OsStr) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| is_executable(file))
}

/// Whether `path` is a file that somebody may execute.
#[must_use]
pub fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// The user's cache directory: `xdg_cache_home` (`$XDG_CACHE_HOME`), or else `.cache` in the
/// home directory that `home` returns. A relative path counts as not given.
pub fn cache_home(
    xdg_cache_home: Option<OsString>,
    home: impl FnOnce() -> Option<PathBuf>,
) -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let explicit = xdg_cache_home.map(PathBuf::from).filter(absolute);
    explicit.or_else(|| Some(home().filter(absolute)?.join(".cache")))
}

/// The cache directory of the current user; `None` if the environment names none.
#[must_use]
pub fn user_cache() -> Option<PathBuf> {
    // Root with another user's HOME (sudo -E) must not leave files there.
    let home = || {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        home.filter(|home| private_dir::writers(home) != Writers::Foreign)
    };
    cache_home(std::env::var_os("XDG_CACHE_HOME"), home)
}

/// Whether `path` is an ELF file (elf.h), and no script, which may run any other program.
#[must_use]
pub fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut magic, 0));
    read.is_ok() && magic == *b"\x7fELF"
}

/// Identity of the file to which `path` leads: its real path and its numbers in stat(2). A program
/// that is installed again has another one.
///
/// # Errors
/// The file is missing, or nobody may look for it.
pub fn identity(path: &Path) -> Result<Vec<u8>> {
    let real = path.canonicalize().with_context(|| format!("find {}", path.display()))?;
    let metadata = path.metadata().with_context(|| format!("find {}", path.display()))?;
    Ok([numbers(&metadata).as_bytes(), real.as_os_str().as_bytes()].concat())
}

fn numbers(metadata: &Metadata) -> String {
    let numbers = [
        metadata.dev().into(),
        metadata.ino().into(),
        metadata.size().into(),
        i128::from(metadata.mtime()),
        metadata.mtime_nsec().into(),
        metadata.ctime().into(),
        metadata.ctime_nsec().into(),
    ];
    numbers.map(|number| format!("{number} ")).concat()
}

/// The reason why KVM cannot be used for machines of the architecture `arch`; `None` if it can.
#[must_use]
pub fn kvm_problem(arch: &str) -> Option<String> {
    if arch != HOST {
        return Some(format!("this host is {HOST}, and KVM runs no code of {arch}"));
    }
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Some(format!("/dev/kvm cannot be opened: {error}"));
    }
    (!can_virtualize(HOST, &cpuinfo())).then(|| {
        "/dev/kvm opens, but /proc/cpuinfo has neither vmx nor svm: \
         guests hang in such a nested machine"
            .into()
    })
}

/// The contents of /proc/cpuinfo; empty if it cannot be read.
#[must_use]
pub fn cpuinfo() -> String {
    std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()
}

/// Whether the processor supports virtualization. On x86 its flags tell; on other
/// architectures only `/dev/kvm` tells, so the answer is yes.
fn can_virtualize(arch: &str, cpuinfo: &str) -> bool {
    arch != "x86_64" || cpuinfo.split_whitespace().any(|word| word == "vmx" || word == "svm")
}

/// Runs a command and waits for it.
///
/// # Errors
/// The command cannot be run, or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

/// Makes `path` absolute and leaves symbolic links in it alone.
///
/// # Errors
/// The path is empty, or the current directory is gone.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("find {}", path.display()))
}

/// As [`canonical`], but a file without a name is found by the path of its descriptor, which
/// proc(5) shows as a link that leads nowhere.
///
/// # Errors
/// The path does not exist.
pub fn canonical_or_open(path: &Path) -> Result<PathBuf> {
    match path.canonicalize() {
        Err(_) if path.metadata().is_ok() => absolute(path),
        _ => canonical(path),
    }
}

/// Makes `path` absolute and resolves symbolic links in it.
///
/// # Errors
/// The path does not exist.
pub fn canonical(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("find {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_flags_tell_of_virtualization() {
        for (arch, cpuinfo, expected) in [
            ("x86_64", "flags : fpu vmx sse", true),
            ("x86_64", "flags : fpu svm\n", true),
            ("x86_64", "flags : fpu svm_lock novmx", false),
            ("aarch64", "", true),
        ] {
            assert_eq!(can_virtualize(arch, cpuinfo), expected, "{cpuinfo}");
        }
    }

    #[test]
    fn kvm_runs_only_code_of_the_host() {
        let problem = kvm_problem("vax").unwrap();
        assert!(problem.ends_with("KVM runs no code of vax"), "{problem}");
    }

    #[test]
    fn programs_are_found_in_path() {
        assert!(find_program(OsStr::new("sh")).is_some());
        assert!(find_program(OsStr::new("no-such-program-here")).is_none());
    }
}
