//! What this host has: programs, KVM.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

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

/// The user's cache directory; `home` is asked for where nothing else tells. What
/// is not an absolute path counts as not given (XDG Base Directory Specification,
/// 0.8).
pub fn cache_home(
    xdg_cache_home: Option<OsString>,
    home: impl FnOnce() -> Option<PathBuf>,
) -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let explicit = xdg_cache_home.map(PathBuf::from).filter(absolute);
    explicit.or_else(|| Some(home().filter(absolute)?.join(".cache")))
}

/// Why KVM cannot be used; `None` where it can.
#[must_use]
pub fn kvm_problem() -> Option<String> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Some(format!("/dev/kvm cannot be opened: {error}"));
    }
    (!can_virtualize(std::env::consts::ARCH, &cpuinfo())).then(|| {
        "/dev/kvm opens, but /proc/cpuinfo has neither vmx nor svm: \
         guests hang in such a nested machine"
            .into()
    })
}

/// What the kernel tells of the processors; empty where it tells nothing.
#[must_use]
pub fn cpuinfo() -> String {
    std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()
}

/// On x86 a usable KVM shows in the processor's flags; elsewhere the device is
/// all there is to see.
fn can_virtualize(arch: &str, cpuinfo: &str) -> bool {
    arch != "x86_64" || cpuinfo.split_whitespace().any(|word| word == "vmx" || word == "svm")
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtualization_shows_in_the_flags() {
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
    fn programs_are_found_in_path() {
        assert!(find_program(OsStr::new("sh")).is_some());
        assert!(find_program(OsStr::new("no-such-program-here")).is_none());
    }
}
