//! The parts that all tests share: the built programs, a kernel, a busybox.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use machine::plan::architecture::{self, Architecture};
use tempfile::TempDir;
use xtask::testbed::{self, ForeignParts, HostKernel};

use crate::harness::Machine;

/// Top directory of this source tree.
pub(crate) fn workspace() -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    Ok(workspace.context("the package has moved")?.to_path_buf())
}

/// A new temporary directory for one test.
pub(crate) fn new_directory() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("virtinitrd-test-").tempdir().context("make a temporary directory")
}

/// The parts that all tests share.
#[derive(Clone, Debug)]
pub(crate) struct Bed {
    pub(crate) workspace: PathBuf,
    pub(crate) kernel: HostKernel,
    pub(crate) busybox: PathBuf,
    /// Architecture of kernel and busybox.
    pub(crate) architecture: &'static Architecture,
    /// The virtiofsd to run instead of the installed one.
    pub(crate) virtiofsd: Option<PathBuf>,
    /// Whether each machine boots; otherwise one with a command starts from a template.
    pub(crate) is_cold: bool,
    /// Number of processors of each machine.
    pub(crate) processors: Processors,
}

/// Number of processors of the machines of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processors {
    /// As many as `chrootvm` gives a machine by itself: all of the host.
    Default,
    /// One. Without KVM, a boot with two costs a third more.
    One,
}

impl Bed {
    /// # Errors
    /// A part is missing here, so that no machine can be booted.
    pub(crate) fn new() -> Result<Self> {
        let workspace = workspace()?;
        for built in ["target/release/xtask", "target/release/chrootvm", "target/guest/init"] {
            ensure!(workspace.join(built).exists(), "{built} is missing: run `make` first");
        }
        machine::process::virtiofsd::find(None)?;
        let kernel = testbed::kernel(&workspace)?;
        let busybox = testbed::busybox()?;
        Ok(Self {
            workspace,
            kernel,
            busybox,
            architecture: architecture::of_host()?,
            virtiofsd: None,
            is_cold: false,
            processors: Processors::Default,
        })
    }

    /// This bed for machines of the architecture `arch`, which is not the host's.
    ///
    /// # Errors
    /// A part for it is missing.
    pub(crate) fn foreign(&self, arch: &str) -> Result<Self> {
        let architecture = architecture::named(arch).context("no such architecture")?;
        let ForeignParts { kernel, busybox } = testbed::foreign(&self.workspace, arch)?;
        let bed = Self { kernel, busybox, architecture, ..self.clone() };
        let init = bed.init();
        ensure!(
            init.exists(),
            "{} is missing: run `cargo xtask build --target {arch}` first",
            init.display()
        );
        machine::process::qemu::find(architecture, None)?;
        Ok(bed)
    }

    /// This bed with the Rust virtiofsd that the testbed built.
    ///
    /// # Errors
    /// That virtiofsd has not been built.
    pub(crate) fn with_rust_virtiofsd(&self) -> Result<Self> {
        let program = testbed::virtiofsd_program(&self.workspace)?;
        ensure!(program.exists(), "{} is missing: `cargo xtask test` builds it", program.display());
        Ok(Self { virtiofsd: Some(program), ..self.clone() })
    }

    /// This bed, whose machines all boot.
    pub(crate) fn cold(&self) -> Self {
        Self { is_cold: true, ..self.clone() }
    }

    /// This bed, whose machines have this number of processors.
    pub(crate) fn with_processors(self, processors: Processors) -> Self {
        Self { processors, ..self }
    }

    /// This bed with another image of its kernel.
    pub(crate) fn with_kernel_image(&self, image: PathBuf) -> Self {
        self.with_kernel(HostKernel { image, modules: self.kernel.modules.clone() })
    }

    /// This bed with another kernel.
    pub(crate) fn with_kernel(&self, kernel: HostKernel) -> Self {
        Self { kernel, ..self.clone() }
    }

    /// The built `/init`.
    pub(crate) fn init(&self) -> PathBuf {
        match self.architecture.is_of_host() {
            true => self.workspace.join("target/guest/init"),
            false => self.workspace.join(format!("target/guest-{}/init", self.architecture.arch)),
        }
    }

    /// The built program for developers' tasks.
    pub(crate) fn xtask(&self) -> Command {
        Command::new(self.workspace.join("target/release/xtask"))
    }

    /// `chrootvm`, as a user starts it in a checkout.
    pub(crate) fn chrootvm(&self) -> PathBuf {
        self.workspace.join("scripts/chrootvm")
    }

    /// A Debian with its own kernel.
    pub(crate) fn debian_root(&self) -> Result<PathBuf> {
        testbed::debian(&self.workspace).context("make a Debian")
    }

    /// A machine with a busybox root and the testbed's kernel. Its PID 1 is a script that
    /// runs `body` and powers off.
    pub(crate) fn machine(&self, body: &str) -> Result<Machine> {
        let mut machine = self.bare_machine()?;
        // A busybox shell finds no applets without /proc, so the script names busybox by its path.
        let script = format!("#!/bin/sh\n{body}\n/bin/busybox poweroff -f\n");
        testbed::make_root(&machine.root(), &self.busybox, &[("bin/test-init", &script)])?;
        machine.payload("test-init");
        Ok(machine)
    }

    /// A machine with a busybox root and the default payload.
    pub(crate) fn busybox_machine(&self) -> Result<Machine> {
        let machine = self.bare_machine()?;
        testbed::make_root(&machine.root(), &self.busybox, &[])?;
        Ok(machine)
    }

    /// A machine with an empty root and the default payload.
    pub(crate) fn bare_machine(&self) -> Result<Machine> {
        let directory = new_directory()?;
        std::fs::create_dir(directory.path().join("root"))?;
        Ok(self.new_machine(directory).with_kernel(&self.kernel))
    }

    /// A machine on an existing root, which contains the kernel.
    pub(crate) fn machine_on(&self, root: &Path) -> Result<Machine> {
        let mut machine = self.new_machine(new_directory()?);
        machine.root_is(root);
        Ok(machine)
    }

    fn new_machine(&self, directory: TempDir) -> Machine {
        let mut machine = Machine::new(self.chrootvm(), directory);
        if let Some(program) = &self.virtiofsd {
            machine.option("--virtiofsd", program);
        }
        if self.is_cold {
            machine.option("--warm", "never");
        }
        if self.processors == Processors::One {
            machine.option("--cpus", "1");
        }
        machine
    }
}
