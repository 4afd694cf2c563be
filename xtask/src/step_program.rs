//! Builds the static program that runs the steps of recipes in their machine.
//!
//! It uses `std`, which every toolchain has for the target of the host. So it is linked against
//! the host's libc, statically: musl on Alpine, glibc elsewhere. It calls nothing that makes
//! glibc load its name services.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use machine::toolchain::{check_static, host_triple};

use crate::{guest_binary, workspace};

/// Profile of cargo for the program.
const PROFILE: &str = "guest-std";

/// Builds the program, installs it at [`workspace::step_path`], and returns that path.
///
/// # Errors
/// The build fails, or the result needs an interpreter or a shared library.
pub fn build() -> Result<PathBuf> {
    let root = workspace::root()?;
    let target_dir = root.join("target/guest");
    let host = host_triple()?;
    let status = workspace::cargo()
        .current_dir(&root)
        .args(["build", "--quiet", "--locked", "--profile", PROFILE])
        .args(["--package", "virtinitrd-step", "--bin", "virtinitrd-step"])
        .args(["--target", &host, "--target-dir"])
        .arg(&target_dir)
        .args(workspace::vendor_arguments(&root))
        // RUSTFLAGS are for the host's programs.
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&root).join("\x1f"))
        .status()
        .context("run cargo")?;
    ensure!(
        status.success(),
        "cargo build of the program for steps failed: with glibc, it needs libc.a (Debian: libc6-dev)"
    );
    let built = target_dir.join(host).join(PROFILE).join("virtinitrd-step");
    let bytes = std::fs::read(&built).with_context(|| format!("read {}", built.display()))?;
    check_static(&bytes).with_context(|| format!("check {}", built.display()))?;
    guest_binary::install(&bytes, &workspace::step_path(&root))
}

fn rustflags(root: &Path) -> Vec<String> {
    let flags = [
        // A fixed address: a static executable that is not needs a dynamic section.
        "-Crelocation-model=static",
        "-Ctarget-feature=+crt-static",
        "-Clink-arg=-Wl,--build-id=none",
    ];
    flags.map(String::from).into_iter().chain(guest_binary::remapped(root)).collect()
}
