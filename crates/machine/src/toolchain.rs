//! What programs of this host can build and are: the compiler, musl, static executables.

use std::ffi::{OsStr, OsString};
use std::process::Command;

use anyhow::{Context, Result, bail};
use object::Endianness;
use object::read::elf::{FileHeader, ProgramHeader};

use crate::host;

/// Links against musl on a host whose libc is another.
pub const MUSL_LINKER: &str = "musl-gcc";

/// The compiler that cargo uses.
#[must_use]
pub fn rustc() -> OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

/// What `/init` would be linked with; `None` where there is nothing.
#[must_use]
pub fn musl() -> Option<String> {
    let target = musl_target();
    if has_target(&target).unwrap_or(false) {
        return Some(format!("Rust target {target}"));
    }
    if host_triple().is_ok_and(|host| host.ends_with("musl")) {
        return Some("the host's own musl".to_owned());
    }
    let linker = host::find_program(OsStr::new(MUSL_LINKER))?;
    Some(linker.display().to_string())
}

/// The musl target of this processor.
#[must_use]
pub fn musl_target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// Whether the target's `core` is installed.
pub fn has_target(target: &str) -> Result<bool> {
    let mut command = Command::new(rustc());
    let libdir = output_of(command.args(["--print", "target-libdir", "--target", target]))?;
    let mut entries = std::fs::read_dir(libdir.trim()).into_iter().flatten().flatten();
    Ok(entries.any(|entry| entry.file_name().as_encoded_bytes().starts_with(b"libcore-")))
}

/// The target that rustc builds for by itself.
///
/// # Errors
/// Those of running rustc.
pub fn host_triple() -> Result<String> {
    let version = output_of(Command::new(rustc()).arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// What a command prints.
///
/// # Errors
/// A command that cannot be run, or that fails.
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether an ELF executable needs nothing but the kernel.
pub fn check_static(bytes: &[u8]) -> Result<()> {
    let header = object::elf::FileHeader64::<Endianness>::parse(bytes).context("no ELF file")?;
    let endian = header.endian()?;
    for segment in header.program_headers(endian, bytes)? {
        match segment.p_type(endian) {
            object::elf::PT_INTERP => bail!("not static: it names an interpreter"),
            object::elf::PT_DYNAMIC => bail!("not static: it has a dynamic section"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_refused() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let error = check_static(&own).unwrap_err().to_string();
        assert!(error.contains("not static"), "{error}");
    }
}
