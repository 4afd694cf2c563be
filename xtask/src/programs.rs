//! The host's programs, `chrootvm` and `mkvirtinitrd`, in a checkout.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::testbed::run;
use crate::workspace;

/// Builds both programs in `target/release`, where the scripts look for them, and writes their
/// completions.
///
/// # Errors
/// The build fails, or a file cannot be written.
pub fn build() -> Result<()> {
    let root = workspace::root()?;
    let status = workspace::cargo()
        .current_dir(&root)
        .args(["build", "--quiet", "--locked", "--release", "--package", "chrootvm"])
        .args(workspace::vendor_arguments(&root))
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "cargo build of chrootvm failed");
    write_completions()
}

/// Directories of the completions below `target/completions`, and the names of the files in
/// them; `@` stands for the program. `make install` copies them.
const COMPLETIONS: &[(&str, &str)] = &[("bash", "@"), ("zsh", "_@"), ("fish", "@.fish")];

fn write_completions() -> Result<()> {
    let directory = workspace::root()?.join("target/completions");
    for (shell, file) in COMPLETIONS {
        let directory = directory.join(shell);
        let context = || format!("make {}", directory.display());
        std::fs::create_dir_all(&directory).with_context(context)?;
        for program in ["chrootvm", "mkvirtinitrd"] {
            let mut command = Command::new(chrootvm()?);
            let output = command.args(["completions", shell, program]).output();
            let output = output.context("run chrootvm completions")?;
            ensure!(output.status.success(), "chrootvm completions {shell} {program} failed");
            files::output::write(&directory.join(file.replace('@', program)), &output.stdout)?;
        }
    }
    Ok(())
}

/// Makes the image `image`, in the format of its ending, of the directory `root`, with these
/// `options` of `chrootvm image build`.
///
/// # Errors
/// cargo did not start this program, or `chrootvm image build` fails.
pub fn make_image(root: &Path, image: &Path, options: &[&str]) -> Result<()> {
    let mut build = Command::new(chrootvm()?);
    run(build.args(["image", "build", "--quiet"]).args(options).arg(root).arg("-o").arg(image))
}

/// Path of the built `chrootvm`.
///
/// # Errors
/// cargo did not start this program.
pub fn chrootvm() -> Result<PathBuf> {
    Ok(workspace::root()?.join("target/release/chrootvm"))
}
