//! The subject of a measurement: our `/init`, a kernel and a root, and the command line
//! of chrootvm with them.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use machine::host::canonical;
use machine::plan::architecture;
use machine::process::qemu;
use machine::process::qemu::version;

use super::scratch;
use crate::testbed::{self, HostKernel};
use crate::{guest, programs, workspace};

/// Which kernel and root to measure with
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Kernel image [default: the tests' stock kernel]
    #[arg(long, value_name = "FILE", requires = "modules")]
    kernel: Option<PathBuf>,
    /// Modules of the kernel
    #[arg(long, value_name = "DIR", requires = "kernel")]
    modules: Option<PathBuf>,
}

/// Which machine to run commands in
#[derive(Debug, clap::Args)]
pub struct MachineOptions {
    #[command(flatten)]
    subject: Options,
    /// Root directory, which must have true(1) and cat(1) [default: a busybox]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Options for chrootvm
    #[arg(last = true, value_name = "OPTION")]
    pub options: Vec<OsString>,
}

impl MachineOptions {
    /// Builds what a run needs, and finds or makes the root.
    pub fn prepare(&self) -> Result<(Subject, PathBuf)> {
        let subject = Subject::prepare(&self.subject)?;
        let root = match &self.root {
            Some(root) => canonical(root)?,
            None => subject.root()?,
        };
        Ok((subject, root))
    }
}

/// Everything that a run needs.
#[derive(Debug)]
pub struct Subject {
    /// The `/init` binary.
    pub init: PathBuf,
    /// The kernel.
    pub kernel: HostKernel,
    /// Removed when this is dropped.
    scratch: tempfile::TempDir,
}

impl Subject {
    /// Builds `/init` and chrootvm, and downloads a kernel if none is given.
    pub fn prepare(options: &Options) -> Result<Self> {
        let kernel = match (&options.kernel, &options.modules) {
            (Some(image), Some(modules)) => {
                HostKernel { image: canonical(image)?, modules: canonical(modules)? }
            }
            _ => testbed::kernel(&workspace::root()?)?,
        };
        programs::build()?;
        Ok(Self { init: guest::build()?, kernel, scratch: scratch()? })
    }

    /// Directory that is removed at the end.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Makes a busybox root that has `true`.
    pub fn root(&self) -> Result<PathBuf> {
        let root = self.scratch().join("root");
        testbed::make_root(&root, &testbed::busybox()?, &[])?;
        std::os::unix::fs::symlink("busybox", root.join("bin/true")).context("make bin/true")?;
        Ok(root)
    }

    /// Makes the command `chrootvm OPTIONS ROOT -- COMMAND` with our `/init` and the kernel. It
    /// boots, unless the options have `--warm`.
    pub fn chrootvm(&self, options: &[OsString], root: &Path, command: &[&str]) -> Result<Command> {
        let mut chrootvm = Command::new(programs::chrootvm()?);
        chrootvm.arg("--init").arg(&self.init);
        if !options.iter().any(|option| option == "--kernel-builtin") {
            chrootvm.arg("--kernel").arg(&self.kernel.image);
            chrootvm.arg("--modules").arg(&self.kernel.modules);
        }
        if !options.iter().any(|option| option.as_encoded_bytes().starts_with(b"--warm")) {
            chrootvm.arg("--warm=never");
        }
        chrootvm.args(options).arg(root).arg("--").args(command);
        Ok(chrootvm)
    }

    /// Makes another command from text for sh(1); its environment names the parts of the
    /// subject.
    #[must_use]
    pub fn shell(&self, text: &OsStr, root: &Path) -> Command {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(text).env("INIT", &self.init).env("ROOT", root);
        shell.env("KERNEL", &self.kernel.image).env("MODULES", &self.kernel.modules);
        shell
    }

    /// Release of the kernel, such as `6.1.0-56-cloud-amd64`.
    #[must_use]
    pub fn kernel_name(&self) -> String {
        let name = self.kernel.modules.file_name().unwrap_or(OsStr::new("unknown"));
        name.to_string_lossy().into_owned()
    }
}

/// Version of QEMU, such as `7.2.22`.
pub fn qemu_version() -> Result<String> {
    let mut qemu = Command::new(qemu::find(architecture::of_host()?, None)?);
    let (stdout, _) = output(qemu.arg("-version"))?;
    version(&String::from_utf8_lossy(&stdout)).with_context(|| format!("{qemu:?} names none"))
}

/// Runs a command that must succeed, and returns its standard output and error.
pub fn output(command: &mut Command) -> Result<(Vec<u8>, String)> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{command:?} failed, {}: {stderr}", output.status);
    Ok((output.stdout, stderr))
}
