//! Configuring and compiling a kernel, and looking at what came of it.
//!
//! Interface: the kernel's own Makefile (kernel doc: kbuild/kbuild.rst), and the
//! note by which a machine without firmware finds where to enter
//! (`XEN_ELFNOTE_PHYS32_ENTRY`; kernel: arch/x86/platform/pvh/head.S).

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use object::LittleEndian;
use object::read::elf::FileHeader;

use super::cache;
use super::fragment;
use crate::kernel::vmlinux::elf;

/// Lines of the log that an error shows.
const LAST_LINES: usize = 25;

/// A kernel to build.
#[derive(Debug)]
pub struct Compilation<'a> {
    /// The source.
    pub tree: &'a Path,
    /// Where everything that is built goes.
    pub output: &'a Path,
    /// What the build's programs print goes here.
    pub log: &'a Path,
}

impl Compilation<'_> {
    /// Makes a `.config` of `text`, a fragment, and returns it.
    ///
    /// # Errors
    /// A line that did not take effect.
    pub fn configure(&self, text: &str) -> Result<String> {
        fs::create_dir_all(self.output)
            .with_context(|| format!("make {}", self.output.display()))?;
        let fragment = self.output.join("fragment");
        fs::write(&fragment, fragment::expand(text))
            .with_context(|| format!("write {}", fragment.display()))?;
        let mut make = self.make();
        self.run(make.arg("allnoconfig").env("KCONFIG_ALLCONFIG", &fragment))?;
        let config = self.read(".config")?;
        let lost = fragment::lost(text, &config);
        ensure!(
            lost.is_empty(),
            "kernel/config: {} did not take effect: this kernel does not know it, or it needs what \
             is not there (see `grep -r 'config NAME' --include=Kconfig*` in {})",
            lost.join(", "),
            self.tree.display()
        );
        Ok(config)
    }

    /// Compiles, and returns the stripped `vmlinux`.
    pub fn compile(&self, jobs: usize) -> Result<PathBuf> {
        self.run(self.make().arg(format!("-j{jobs}")).arg("vmlinux"))?;
        let stripped = self.output.join("vmlinux.stripped");
        let mut strip = Command::new("strip");
        self.run(strip.arg("-o").arg(&stripped).arg(self.output.join("vmlinux")))?;
        Ok(stripped)
    }

    /// What `uname -r` will say.
    pub fn release(&self) -> Result<String> {
        Ok(self.read("include/config/kernel.release")?.trim().to_owned())
    }

    fn read(&self, name: &str) -> Result<String> {
        let file = self.output.join(name);
        fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))
    }

    fn make(&self) -> Command {
        let mut make = Command::new("make");
        make.arg("-s").arg("-C").arg(self.tree);
        let output: OsString = [OsStr::new("O="), self.output.as_os_str()].into_iter().collect();
        make.arg(output);
        // What a make that started us wants is not for the kernel's.
        make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MAKEOVERRIDES");
        // Who builds it where is nobody's business in the guest.
        make.env("KBUILD_BUILD_USER", "virtinitrd").env("KBUILD_BUILD_HOST", "virtinitrd");
        make
    }

    fn run(&self, command: &mut Command) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log);
        let log = log.with_context(|| format!("open {}", self.log.display()))?;
        command.stdout(log.try_clone()?).stderr(log);
        let program = command.get_program().to_string_lossy().into_owned();
        let status = command.status().with_context(|| format!("run {program}"))?;
        if !status.success() {
            let text = fs::read(self.log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<_> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
            bail!("{program} failed ({status}), see {}:\n{last}", self.log.display());
        }
        Ok(())
    }
}

/// Reads a built image with its `.config`.
///
/// # Errors
/// An image without the PVH note: QEMU would not boot it.
pub fn read(image: &Path, config: String) -> Result<cache::Build> {
    let bytes = fs::read(image).with_context(|| format!("read {}", image.display()))?;
    ensure!(has_pvh_note(&bytes)?, "{}: QEMU cannot enter it: no PVH note", image.display());
    Ok(cache::Build { image: bytes, config })
}

/// Whether an ELF file says where to enter it without firmware.
fn has_pvh_note(kernel: &[u8]) -> Result<bool> {
    let header = elf::header_of(kernel).context("no ELF file of x86-64")?;
    Ok(elf::entry(header.program_headers(LittleEndian, kernel)?, kernel)?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_no_kernel() {
        let own = fs::read("/proc/self/exe").unwrap();
        assert!(!has_pvh_note(&own).unwrap());
        assert!(has_pvh_note(b"no ELF").is_err());
    }

    /// A source whose Makefile does what the kernel's does.
    #[test]
    fn what_does_not_take_effect_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let output = dir.path().join("out");
        let text = "allnoconfig:\n\tgrep -v LOST $(KCONFIG_ALLCONFIG) > $(O)/.config\n\
                    vmlinux:\n\techo it broke >&2; exit 3\n";
        fs::write(dir.path().join("Makefile"), text).unwrap();
        let compilation = Compilation { tree: dir.path(), output: &output, log: &log };
        assert_eq!(compilation.configure("CONFIG_A=y\n").unwrap(), "CONFIG_A=y\n");
        let error = compilation.configure("CONFIG_A=y\nCONFIG_LOST=y\n").unwrap_err().to_string();
        assert!(error.contains("CONFIG_LOST=y did not take effect"), "{error}");
        let error = compilation.compile(1).unwrap_err().to_string();
        assert!(error.contains("it broke") && error.contains("/log"), "{error}");
    }
}
