//! `cargo xtask vendor`, `dist` and `distcheck`: releases that build offline.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use files::tell;

use crate::testbed::run;
use crate::workspace;

/// Put all crates into vendor/
#[derive(Debug, clap::Args)]
pub struct Vendor {}

/// Make a release tarball of the last commit and its crates
#[derive(Debug, clap::Args)]
pub struct Dist {}

/// Build and install from the release tarball, without a network
#[derive(Debug, clap::Args)]
pub struct DistCheck {}

/// Name of the release, and of the directory in its tarball.
const RELEASE: &str = concat!("virtinitrd-", env!("CARGO_PKG_VERSION"));

impl Vendor {
    /// Fills `vendor/`. Its `config.toml`, which cargo prints, is written last, so that an
    /// unfinished `vendor/` is not used.
    pub fn run(self) -> Result<()> {
        let root = workspace::root()?;
        let mut cargo = workspace::cargo();
        cargo.current_dir(&root).args(["vendor", "--locked", "vendor"]);
        let output = cargo.output().context("run cargo vendor")?;
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cargo vendor: {message}");
        ensure!(!output.stdout.is_empty(), "cargo vendor printed no configuration");
        files::output::write(&root.join("vendor/config.toml"), &output.stdout)
    }
}

impl Dist {
    /// Writes `virtinitrd-VERSION.tar.gz`.
    pub fn run(self) -> Result<()> {
        let root = workspace::root()?;
        let stage = tempfile::tempdir().context("make a temporary directory")?;
        let tree = stage.path().join(RELEASE);
        let archive = stage.path().join("head.tar");
        fs::create_dir(&tree)?;
        run(git(&root).args(["archive", "--output"]).arg(&archive).arg("HEAD"))?;
        run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&tree))?;
        run(Command::new("cp").arg("-r").arg(root.join("vendor")).arg(&tree))?;
        // In a release, a plain `cargo build` also takes the crates from vendor/.
        let config = tree.join(".cargo/config.toml");
        let crates = fs::read_to_string(root.join("vendor/config.toml"))?;
        fs::write(&config, fs::read_to_string(&config)? + "\n" + &crates)?;
        // With the commit's time, plain modes and sorted names, equal commits give
        // equal tarballs.
        let output = git(&root).args(["log", "-1", "--format=@%ct"]).output()?;
        ensure!(output.status.success(), "git log: {}", String::from_utf8_lossy(&output.stderr));
        let time = String::from_utf8(output.stdout)?;
        let mut tar = Command::new("tar");
        tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
        tar.arg("--mode=u=rwX,go=rX");
        tar.arg(format!("--mtime={}", time.trim())).arg("-C").arg(stage.path());
        let output = tar.args(["-c", RELEASE]).output().context("run tar")?;
        ensure!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr));
        let compression = archive::compress::Compression::Gzip;
        let bytes = archive::compress::compress(output.stdout, compression)?;
        files::output::write(&tarball(&root), &bytes)?;
        tell::result(format_args!("{}: {} bytes\n", tarball(&root).display(), bytes.len()))
    }
}

impl DistCheck {
    /// Builds and installs with the Makefile in the tarball, while cargo is offline and has
    /// an empty home.
    pub fn run(self) -> Result<()> {
        let root = workspace::root()?;
        let stage = tempfile::tempdir().context("make a temporary directory")?;
        run(Command::new("tar").arg("-xf").arg(tarball(&root)).arg("-C").arg(stage.path()))?;
        let tree = stage.path().join(RELEASE);
        let install = stage.path().join("install");
        let make = || {
            let mut make = Command::new("make");
            make.current_dir(&tree).arg("--no-print-directory");
            make.env("CARGO_NET_OFFLINE", "true");
            // These variables describe this tree, not the unpacked one.
            make.env_remove("MAKEFLAGS");
            workspace::forget_package(make)
        };
        run(make().arg("all").env("CARGO_HOME", stage.path().join("cargo-home")))?;
        run(make().arg("install").arg(format!("DESTDIR={}", install.display())))?;
        for file in [
            "usr/lib/osbuild/initrd/initrd",
            "usr/lib/virtinitrd/step",
            "usr/bin/chrootvm",
            "usr/bin/mkvirtinitrd",
        ] {
            let installed = install.join(file);
            ensure!(machine::host::is_executable(&installed), "{file} was not installed");
        }
        for file in [
            "man/man1/chrootvm.1",
            "man/man1/mkvirtinitrd.1",
            "man/man5/recipe.toml.5",
            "man/man7/virtinitrd.7",
            "bash-completion/completions/chrootvm",
            "zsh/site-functions/_chrootvm",
            "fish/vendor_completions.d/chrootvm.fish",
        ] {
            let installed = install.join("usr/share").join(file);
            ensure!(installed.is_file(), "{file} was not installed");
        }
        tell::result("distcheck passed\n")
    }
}

fn tarball(root: &Path) -> PathBuf {
    root.join(format!("{RELEASE}.tar.gz"))
}

fn git(root: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(root);
    git
}
