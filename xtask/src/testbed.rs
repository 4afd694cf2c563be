//! Files for the demo and the tests: a stock kernel, a busybox root, a Debian root, and
//! the Rust virtiofsd.
//!
//! Each of them is made once below `target/testbed`, and appears there whole or not at
//! all. Kernel, busybox and Debian come from the distribution, virtiofsd is the released
//! crate.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace;
use anyhow::{Context, Result, ensure};
use files::lookup::Files;
use files::root_dir::RootDir;
use machine::kernel::installed;
pub use machine::kernel::modules::dir::ModulesDir;
use machine::kernel::modules::resolve::{Lookup, ModuleLookup, Need};

pub use machine::host::run;
pub use machine::kernel::small::proof::{busybox, make_root};

/// A kernel on this host, by paths of this host.
#[derive(Clone, Debug)]
pub struct HostKernel {
    /// The image.
    pub image: PathBuf,
    /// Its modules.
    pub modules: PathBuf,
}

/// Finds a kernel with virtiofs: the newest one of the host if it can be read, or else
/// the distribution's, which is fetched but not installed.
pub fn kernel(workspace: &Path) -> Result<HostKernel> {
    if let Ok(kernel) = usable_kernel(Path::new("/")) {
        return Ok(kernel);
    }
    let dir = dir(workspace)?.join("kernel");
    if !dir.exists() {
        log::info!("fetching a kernel into {}", dir.display());
        run(Command::new(workspace.join("scripts/fetch-kernel")).arg(&dir))?;
    }
    usable_kernel(&dir)
}

/// The kernel of the root file system `debian`.
///
/// # Errors
/// It has none with virtiofs.
pub fn kernel_of(debian: &Path) -> Result<HostKernel> {
    usable_kernel(debian)
}

/// Kernel and static busybox of another architecture.
#[derive(Clone, Debug)]
pub struct ForeignParts {
    /// The kernel.
    pub kernel: HostKernel,
    /// The busybox.
    pub busybox: PathBuf,
}

/// Finds or fetches a kernel and a busybox for the architecture `arch`, which is not the host's.
///
/// # Errors
/// They cannot be fetched here.
pub fn foreign(workspace: &Path, arch: &str) -> Result<ForeignParts> {
    let dir = dir(workspace)?.join(arch);
    if !dir.exists() {
        log::info!("fetching a kernel and busybox for {arch} into {}", dir.display());
        run(Command::new(workspace.join("scripts/fetch-kernel")).arg(&dir).arg(arch))?;
    }
    Ok(ForeignParts { kernel: usable_kernel(&dir)?, busybox: dir.join("bin/busybox") })
}

fn usable_kernel(root: &Path) -> Result<HostKernel> {
    let root = RootDir::open(root)?;
    let found = installed::find(&root)?;
    root.file(&found.image).with_context(|| format!("read {}", found.image.display()))?;
    let modules = ModulesDir::open(&root, &found.modules)?;
    ensure!(
        modules.lookup("virtiofs", Need::Must)? != Lookup::Unknown,
        "the kernel has no virtiofs"
    );
    Ok(HostKernel { image: root.host_path(&found.image), modules: root.host_path(&found.modules) })
}

/// Finds or makes a minimal Debian 12 with systemd and its own kernel.
///
/// # Errors
/// Debian has to be made, and the user is not root: debootstrap needs root.
pub fn debian(workspace: &Path) -> Result<PathBuf> {
    let debian = dir(workspace)?.join("debian");
    if debian.exists() {
        return Ok(debian);
    }
    ensure!(nix::unistd::geteuid().is_root(), "debootstrap needs root");
    let unfinished = debian.with_extension("tmp");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).context("remove an unfinished Debian")?;
    }
    log::info!("making a Debian in {} (about a minute)", debian.display());
    let log = fs::File::create(unfinished.with_extension("log"))?;
    // debootstrap mounts /proc. In a mount namespace, no mount stays after an interrupt.
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "debootstrap"])
        .args(["--variant=minbase", "--include=systemd-sysv,linux-image-cloud-amd64", "bookworm"])
        .arg(&unfinished)
        .stdout(log.try_clone()?)
        .stderr(log);
    run(&mut command)
        .with_context(|| format!("see {}", unfinished.with_extension("log").display()))?;
    fs::rename(&unfinished, &debian)?;
    Ok(debian)
}

/// Release of the Rust virtiofsd that the tests use.
const VIRTIOFSD: &str = "1.14.0";

/// Finds or builds the Rust virtiofsd. Debian 12 has no package of it.
pub fn virtiofsd(workspace: &Path) -> Result<PathBuf> {
    let program = virtiofsd_program(workspace)?;
    if program.exists() {
        return Ok(program);
    }
    let dir = virtiofsd_dir(workspace)?;
    let unfinished = dir.with_extension("tmp");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).context("remove an unfinished virtiofsd")?;
    }
    log::info!("building virtiofsd {VIRTIOFSD} in {} (about two minutes)", dir.display());
    let log = fs::File::create(dir.with_extension("log"))?;
    let mut command = workspace::cargo();
    command
        .args(["install", "virtiofsd", "--locked", "--version", VIRTIOFSD, "--root"])
        .arg(&unfinished)
        // It takes as long as the rest of the build.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .stdout(log.try_clone()?)
        .stderr(log);
    run(&mut command).with_context(|| format!("see {}", dir.with_extension("log").display()))?;
    fs::rename(&unfinished, &dir)?;
    Ok(program)
}

/// Path at which [`virtiofsd`] puts the program.
pub fn virtiofsd_program(workspace: &Path) -> Result<PathBuf> {
    Ok(virtiofsd_dir(workspace)?.join("bin/virtiofsd"))
}

fn virtiofsd_dir(workspace: &Path) -> Result<PathBuf> {
    Ok(dir(workspace)?.join("virtiofsd"))
}

/// Directory of all these files; it is made if it is missing.
pub fn dir(workspace: &Path) -> Result<PathBuf> {
    let dir = workspace.join("target/testbed");
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    Ok(dir)
}
