//! The tools that build `/init`: the Rust compiler and musl; and a check that an executable
//! is static.
//!
//! Interfaces: the command line of rustc; ELF program headers (elf(5)).

use std::ffi::{OsStr, OsString};
use std::process::Command;

use anyhow::{Context, Result, bail};
use object::Endianness;
use object::read::elf::{FileHeader, ProgramHeader};

use crate::host;
use crate::plan::architecture::HOST;

/// Compiler driver that links against musl on a host with another libc.
pub const MUSL_LINKER: &str = "musl-gcc";

/// The compiler that cargo uses: `$RUSTC`, or `rustc`.
#[must_use]
pub fn rustc() -> OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

/// Name of the musl that `/init` would be linked with; `None` if there is no musl.
#[must_use]
pub fn musl() -> Option<String> {
    let target = musl_target();
    if has_target(&rustc(), &target).unwrap_or(false) {
        return Some(format!("Rust target {target}"));
    }
    if host_triple().is_ok_and(|host| host.ends_with("musl")) {
        return Some("the host's own musl".to_owned());
    }
    let linker = host::find_program(OsStr::new(MUSL_LINKER))?;
    Some(linker.display().to_string())
}

/// Rust target for this processor with musl.
#[must_use]
pub fn musl_target() -> String {
    let name = match HOST {
        "ppc64le" => "powerpc64le",
        "riscv64" => "riscv64gc",
        other => other,
    };
    format!("{name}-unknown-linux-musl")
}

/// Whether the Rust library `core` of the compiler `rustc` is installed for `target`.
///
/// # Errors
/// The compiler cannot be run, or does not know the target.
pub fn has_target(rustc: &OsStr, target: &str) -> Result<bool> {
    let mut command = Command::new(rustc);
    let libdir = output_of(command.args(["--print", "target-libdir", "--target", target]))?;
    let mut entries = std::fs::read_dir(libdir.trim()).into_iter().flatten().flatten();
    Ok(entries.any(|entry| entry.file_name().as_encoded_bytes().starts_with(b"libcore-")))
}

/// The target that rustc builds for by default.
///
/// # Errors
/// rustc cannot be run, or does not name its host.
pub fn host_triple() -> Result<String> {
    let version = output_of(Command::new(rustc()).arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV does not name its host")?.to_owned())
}

/// Runs a command and returns its standard output.
///
/// # Errors
/// The command cannot be run, or fails.
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Checks that an ELF executable needs only the kernel: no dynamic linker, no libraries.
///
/// # Errors
/// `bytes` is not an ELF file, or not a static one.
pub fn check_static(bytes: &[u8]) -> Result<()> {
    let header =
        object::elf::FileHeader64::<Endianness>::parse(bytes).context("not an ELF file")?;
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
    fn a_dynamic_executable_is_refused() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let error = check_static(&own).unwrap_err().to_string();
        assert!(error.contains("not static"), "{error}");
    }
}
