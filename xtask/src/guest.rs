//! `cargo xtask build`: builds the static `/init`, by one of the routes of `route`.

use machine::plan::architecture::HOST;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use files::tell;
use object::Endianness;
use object::read::elf::{FileHeader, ProgramHeader};

use crate::route::{self, Route};
use crate::{guest_binary, programs, step_program, workspace};
pub use machine::toolchain::{check_static, output_of, rustc};

/// Build the static programs of the guest, chrootvm and mkvirtinitrd, and completions for shells
#[derive(Debug, clap::Args)]
pub struct Build {
    /// Build only /init, for machines of this architecture
    #[arg(long, value_name = "ARCH", default_value = HOST, hide_default_value = true)]
    target: String,
}

/// Options of LLVM that make the program smaller, half a percent each. An LLVM that lacks
/// one builds without it.
const LLVM_OPTIONS: &[&str] = &[
    // Blocks in the order that needs the fewest and shortest jumps.
    "--apply-ext-tsp-for-size",
    // Equal instructions of several functions become one.
    "--enable-machine-outliner=always",
    // A call is shorter than the body of all but the smallest functions.
    "--inline-threshold=10",
    // Tables of jumps are larger than comparisons.
    "--min-jump-table-entries=10",
    // A value that is computed again needs no register to be kept in, and no room to save it.
    "--disable-licm-promotion",
    // It finds more values that are computed twice.
    "--enable-newgvn",
    // Both ways of a branch share what they begin with.
    "--hoist-common-insts",
];

impl Build {
    /// Builds, checks, and prints path and size.
    pub fn run(self) -> Result<()> {
        let programs = match &*self.target {
            HOST => {
                programs::build()?;
                vec![build()?, step_program::build()?]
            }
            other => vec![build_for(other)?],
        };
        for program in programs {
            let meta = program.metadata();
            let size = meta.with_context(|| format!("find {}", program.display()))?.len();
            let program = program.display();
            tell::result(format_args!("{program}: {size} bytes, statically linked\n"))?;
        }
        Ok(())
    }
}

/// Whether a binary has the names of its functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symbols {
    /// No names: the binary is small.
    Stripped,
    /// With names: the size of its parts can be measured.
    Kept,
}

/// Builds `/init` for this host's architecture, as [`build_for`].
pub fn build() -> Result<PathBuf> {
    build_for(HOST)
}

/// Builds `/init` for the architecture `arch`, puts it where chrootvm looks for it, and returns its
/// path.
///
/// # Errors
/// A tool is missing, or the result needs an interpreter or a shared library.
pub fn build_for(arch: &str) -> Result<PathBuf> {
    let built = compile(arch, Symbols::Stripped)?;
    let bytes = std::fs::read(&built).with_context(|| format!("read {}", built.display()))?;
    check_static(&bytes).with_context(|| format!("check {}", built.display()))?;
    let bytes = without_sections(bytes).with_context(|| format!("strip {}", built.display()))?;
    guest_binary::install(&bytes, &route::init_path(&workspace::root()?, arch))
}

/// Builds `/init` for the architecture `arch`, and returns the path of the file that cargo made.
pub fn compile(arch: &str, symbols: Symbols) -> Result<PathBuf> {
    let root = workspace::root()?;
    let (target_dir, strip) = match symbols {
        Symbols::Stripped => (route::target_dir(arch), "symbols"),
        Symbols::Kept => ("target/guest-symbols".into(), "none"),
    };
    let target_dir = root.join(target_dir);
    let route = Route::to(arch)?;
    let status = workspace::cargo()
        .current_dir(&root)
        .args(["build", "--quiet", "--locked", "--profile", "guest"])
        .args(["--package", "virtinitrd-init", "--bin", "init", "--features", "guest"])
        .args(["--target", &route.target, "--target-dir"])
        .arg(&target_dir)
        .args(workspace::vendor_arguments(&root))
        // RUSTFLAGS are for the host's programs.
        .env_remove("RUSTFLAGS")
        .env("RUSTC", &route.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&route, &root).join("\x1f"))
        .env("CARGO_PROFILE_GUEST_STRIP", strip)
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "cargo build of /init failed");
    Ok(target_dir.join(&route.target).join("guest/init"))
}

fn rustflags(route: &Route, root: &Path) -> Vec<String> {
    let mut flags: Vec<String> = [
        // A fixed address: no relocations have to be processed at start.
        "-Crelocation-model=static",
        "-Ctarget-feature=+crt-static",
        // The guest aborts on panic, so it needs no tables for unwinding.
        "-Cforce-unwind-tables=no",
        "-Clink-arg=-Wl,--no-eh-frame-hdr",
        // No page of padding between segments, no machine-dependent note.
        "-Clink-arg=-Wl,-z,noseparate-code",
        // No page for data that is read-only after relocation: there are no relocations.
        "-Clink-arg=-Wl,-z,norelro",
        "-Clink-arg=-Wl,--build-id=none",
        // The linker may pad the file by up to a page to save a page of memory. With this
        // small page size it pads next to nothing. The kernel maps the file as before.
        "-Clink-arg=-Wl,-z,common-page-size=16",
    ]
    .map(String::from)
    .to_vec();
    // Drop the tables that come with core and alloc.
    let script = root.join("init/discard.ld");
    flags.push(format!("-Clink-arg=-Wl,-T,{}", script.display()));
    flags.extend(route.flags());
    let options = LLVM_OPTIONS.iter().map(|option| format!("-Cllvm-args={option}"));
    flags.extend(options.filter(|option| is_known(&route.rustc, option)));
    flags.extend(guest_binary::remapped(root));
    flags
}

/// Whether the compiler `rustc` and its LLVM accept `option`.
fn is_known(rustc: &OsStr, option: &str) -> bool {
    output_of(Command::new(rustc).args([option, "--print=cfg"])).is_ok()
}

/// Removes the section headers of an ELF executable, as `llvm-strip --strip-sections`
/// does. The kernel reads only program headers.
fn without_sections(mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    /// `e_shoff`, and `e_shentsize` to `e_shstrndx`, of `Elf64_Ehdr` (elf(5)).
    const SECTION_FIELDS: [std::ops::Range<usize>; 2] = [40..48, 58..64];
    let header = object::elf::FileHeader64::<Endianness>::parse(&*bytes).context("no ELF file")?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, &*bytes)?.iter();
    let end = segments.map(|segment| segment.p_offset(endian) + segment.p_filesz(endian)).max();
    bytes.truncate(usize::try_from(end.context("no segments")?)?);
    for field in SECTION_FIELDS {
        bytes.get_mut(field).context("no ELF header")?.fill(0);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_sections_keeps_segments() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let bare = without_sections(own.clone()).unwrap();
        let header = object::elf::FileHeader64::<Endianness>::parse(&*bare).unwrap();
        let endian = header.endian().unwrap();
        assert_eq!((header.e_shoff(endian), header.e_shnum(endian)), (0, 0));
        let headers = size_of_val(header);
        assert!(own[headers..].starts_with(&bare[headers..]));
        let segments = header.program_headers(endian, &*bare).unwrap().iter();
        let ends = segments.map(|segment| segment.p_offset(endian) + segment.p_filesz(endian));
        assert_eq!(ends.max(), Some(bare.len() as u64));
        assert!(without_sections(b"#!/bin/sh".to_vec()).is_err());
    }
}
