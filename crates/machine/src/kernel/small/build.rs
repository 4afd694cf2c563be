//! Configuration and compilation of a kernel, and a check of the result.
//!
//! Interfaces: the kernel's Makefile (kernel doc: kbuild/kbuild.rst); the note with the PVH
//! entry (`XEN_ELFNOTE_PHYS32_ENTRY`; kernel: arch/x86/platform/pvh/head.S).

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use object::LittleEndian;
use object::read::elf::FileHeader;

use super::cache::NewKernel;
use super::fragment;
use super::source::KernelSource;
use crate::kernel::vmlinux::elf;

/// Number of lines at the end of the log that an error shows.
const LAST_LINES: usize = 25;

/// A kernel that was compiled, but has not booted yet.
#[derive(Debug)]
pub struct CompiledKernel {
    /// Path of the stripped `vmlinux`.
    pub image: PathBuf,
    /// The release that `uname -r` prints in a machine with this kernel.
    pub release: String,
    /// Its files, to be kept.
    pub files: NewKernel,
}

/// Unpacks `source`, and compiles the small kernel of it in the directory `work`. The output
/// of make goes to the file `log`.
///
/// # Errors
/// tar(1), make or strip(1) fails, or a line of the configuration has no effect.
pub fn build(source: &KernelSource, work: &Path, log: &Path) -> Result<CompiledKernel> {
    let tree = source.unpack(&work.join("source"))?;
    let output = work.join("build");
    let compilation = Compilation { tree: &tree, output: &output, log };
    let config = compilation.configure(fragment::TEXT)?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let image = compilation.compile(jobs)?;
    // The first run finds the configuration by the name of the image.
    let beside = output.join("config.stripped");
    fs::write(&beside, &config).with_context(|| format!("write {}", beside.display()))?;
    let files = read(&image, config)?;
    let release = compilation.release()?;
    Ok(CompiledKernel { image, release, files })
}

/// Build of one kernel.
#[derive(Debug)]
struct Compilation<'a> {
    /// Directory of the unpacked source.
    tree: &'a Path,
    /// Directory for the files of the build (make variable `O`).
    output: &'a Path,
    /// File to which the output of make is appended.
    log: &'a Path,
}

impl Compilation<'_> {
    /// Makes the `.config` of the configuration `text`, and returns it.
    ///
    /// # Errors
    /// make fails, or a line of `text` has no effect.
    fn configure(&self, text: &str) -> Result<String> {
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
            "kernel/config: {} has no effect: this kernel does not know it, or it depends on another \
             option (see `grep -r 'config NAME' --include=Kconfig*` in {})",
            lost.join(", "),
            self.tree.display()
        );
        Ok(config)
    }

    /// Compiles with `jobs` processes, and returns the path of the stripped `vmlinux`.
    ///
    /// # Errors
    /// make or strip(1) fails; the error has the end of the log.
    fn compile(&self, jobs: usize) -> Result<PathBuf> {
        self.run(self.make().arg(format!("-j{jobs}")).arg("vmlinux"))?;
        let stripped = self.output.join("vmlinux.stripped");
        let mut strip = Command::new("strip");
        self.run(strip.arg("-o").arg(&stripped).arg(self.output.join("vmlinux")))?;
        Ok(stripped)
    }

    /// The release that `uname -r` prints in a machine with this kernel.
    ///
    /// # Errors
    /// The kernel is not configured yet.
    fn release(&self) -> Result<String> {
        Ok(self.read("include/config/kernel.release")?.trim().to_owned())
    }

    /// Reads a text file of the build.
    fn read(&self, name: &str) -> Result<String> {
        let file = self.output.join(name);
        fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))
    }

    /// The start of a call of make for this build.
    fn make(&self) -> Command {
        let mut make = Command::new("make");
        make.arg("-s").arg("-C").arg(self.tree);
        let output: OsString = [OsStr::new("O="), self.output.as_os_str()].into_iter().collect();
        make.arg(output);
        // The options of a make that runs chrootvm are not for the kernel's make.
        make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MAKEOVERRIDES");
        // /proc/version in the guest must not tell who built the kernel on which host.
        make.env("KBUILD_BUILD_USER", "virtinitrd").env("KBUILD_BUILD_HOST", "virtinitrd");
        make
    }

    /// Runs a command of the build, with its output in the log.
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

/// Reads the compiled `vmlinux` at `image`; `config` is its `.config`.
///
/// # Errors
/// The file cannot be read, or has no PVH entry, so that QEMU could not boot it.
fn read(image: &Path, config: String) -> Result<NewKernel> {
    let bytes = fs::read(image).with_context(|| format!("read {}", image.display()))?;
    ensure!(
        has_pvh_note(&bytes)?,
        "{}: QEMU cannot enter it: it has no PVH entry",
        image.display()
    );
    Ok(NewKernel { image: bytes, config })
}

/// Whether a kernel has the note with the PVH entry.
fn has_pvh_note(kernel: &[u8]) -> Result<bool> {
    let header = elf::header_of(kernel).context("not an ELF file of x86-64")?;
    Ok(elf::entry(header.program_headers(LittleEndian, kernel)?, kernel)?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_no_pvh_entry() {
        let own = fs::read("/proc/self/exe").unwrap();
        assert!(!has_pvh_note(&own).unwrap());
        assert!(has_pvh_note(b"no ELF").is_err());
    }

    /// The Makefile of this source has the targets of the kernel's Makefile.
    #[test]
    fn a_line_without_effect_and_a_failing_make_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let output = dir.path().join("out");
        let text = "allnoconfig:\n\tgrep -v LOST $(KCONFIG_ALLCONFIG) > $(O)/.config\n\
                    vmlinux:\n\techo it broke >&2; exit 3\n";
        fs::write(dir.path().join("Makefile"), text).unwrap();
        let compilation = Compilation { tree: dir.path(), output: &output, log: &log };
        assert_eq!(compilation.configure("CONFIG_A=y\n").unwrap(), "CONFIG_A=y\n");
        let error = compilation.configure("CONFIG_A=y\nCONFIG_LOST=y\n").unwrap_err().to_string();
        assert!(error.contains("CONFIG_LOST=y has no effect"), "{error}");
        let error = compilation.compile(1).unwrap_err().to_string();
        assert!(error.contains("it broke") && error.contains("/log"), "{error}");
    }
}
