//! Kernels of Debian's releases, unpacked into `target/kernels` by `scripts/fetch-packages`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use files::lookup::Files;
use files::root_dir::RootDir;
use machine::kernel::installed;

use crate::testbed::{HostKernel, run};

/// Package with a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelPackage {
    /// Name of its directory.
    pub name: &'static str,
    /// Release of Debian.
    pub suite: &'static str,
    /// Package that depends on the newest kernel of its flavour.
    pub package: &'static str,
}

const CLOUD: &str = "linux-image-cloud-amd64";
const GENERIC: &str = "linux-image-amd64";

/// The packages. Debian 13 and later have virtiofs built in, and the generic flavour of Debian 12
/// has as many modules as a distribution's kernel can have.
#[rustfmt::skip]
pub const PACKAGES: &[KernelPackage] = &[
    KernelPackage { name: "bullseye-cloud",   suite: "bullseye", package: CLOUD },
    KernelPackage { name: "bullseye-generic", suite: "bullseye", package: GENERIC },
    KernelPackage { name: "bookworm-cloud",   suite: "bookworm", package: CLOUD },
    KernelPackage { name: "bookworm-generic", suite: "bookworm", package: GENERIC },
    KernelPackage { name: "trixie-cloud",     suite: "trixie",   package: CLOUD },
    KernelPackage { name: "trixie-generic",   suite: "trixie",   package: GENERIC },
    KernelPackage { name: "sid-cloud",        suite: "sid",      package: CLOUD },
    KernelPackage { name: "sid-generic",      suite: "sid",      package: GENERIC },
];

/// The packages whose kernels `cargo xtask test` boots.
pub const TESTED: [&str; 2] = ["bullseye-cloud", "trixie-cloud"];

/// Finds the kernel of the package with this `name`, or fetches it.
///
/// # Errors
/// There is no such package, or it cannot be fetched.
pub fn kernel(workspace: &Path, name: &str) -> Result<HostKernel> {
    let package = PACKAGES.iter().find(|package| package.name == name);
    let package = package.with_context(|| format!("no package {name}"))?;
    let dir = workspace.join("target/kernels").join(name);
    if !dir.exists() {
        log::info!("fetching {} of {} into {}", package.package, package.suite, dir.display());
        let mut fetch = Command::new(workspace.join("scripts/fetch-packages"));
        run(fetch.arg(package.suite).arg(&dir).args(["x86_64", package.package]))?;
    }
    let root = RootDir::open(&dir)?;
    let found = installed::find(&root)?;
    Ok(HostKernel { image: root.host_path(&found.image), modules: root.host_path(&found.modules) })
}
