//! The programs of Debian 12, unpacked into `target/inits/packages`.
//!
//! They come from the mirror of the testbed's Debian, whose apt downloads and unpacks them. That
//! Debian stays as it is: tmpfs of a mount namespace cover what apt writes to.
//!
//! The file `versions` beside `packages` lists what was unpacked, a package and its version a line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::programs::Program;
use crate::testbed::{self, run};

/// Script for a new mount namespace: `sh -c FETCH fetch DEBIAN OUTPUT PACKAGE...`. libc6 is
/// installed in the Debian, but not in the machines.
const FETCH: &str = r#"set -eu
debian=$1 output=$2
shift 2
for directory in var/lib/apt/lists var/cache/apt mnt; do
    mount -t tmpfs none "$debian/$directory"
done
mkdir -p "$debian/mnt/debs/partial"
chroot "$debian" sh -euc '
    apt-get update -qq
    apt-get install -qq --no-install-recommends --download-only --reinstall \
        -o Dir::Cache::archives=/mnt/debs libc6 "$@"
    mkdir /mnt/packages
    for deb in /mnt/debs/*.deb; do
        dpkg-deb --extract "$deb" /mnt/packages
        dpkg-deb --show "$deb" >> /mnt/versions
    done' fetch "$@"
cp -a "$debian/mnt/packages" "$debian/mnt/versions" "$output"
"#;

/// Finds the packages, or fetches them. Returns the directory into which they were unpacked.
///
/// # Errors
/// They have to be fetched, and the user is not root or has no network; or the packages have
/// other versions than the table.
pub(super) fn prepare(workspace: &Path, programs: &[Program]) -> Result<PathBuf> {
    let directory = workspace.join("target/inits");
    if !directory.exists() {
        fetch(workspace, programs, &directory).context("fetch the programs from Debian")?;
    }
    let versions = directory.join("versions");
    let text = fs::read_to_string(&versions)
        .with_context(|| format!("read {}: remove the directory", versions.display()))?;
    if let Some(program) = programs.iter().find(|program| !has_version(&text, program)) {
        let (name, version) = (program.name, program.version);
        let (file, directory) = (versions.display(), directory.display());
        bail!(
            "the table is about {name} {version}, but {file} has another version: \
             remove {directory} to fetch it again, or change the table"
        );
    }
    Ok(directory.join("packages"))
}

fn fetch(workspace: &Path, programs: &[Program], directory: &Path) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "chroot(8) needs root");
    let debian = testbed::debian(workspace)?;
    let unfinished = tempfile::Builder::new()
        .prefix("inits-")
        .tempdir_in(directory.parent().context("a path below target")?)
        .context("make a directory")?;
    let output = unfinished.path().join("inits");
    fs::create_dir(&output).with_context(|| format!("make {}", output.display()))?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", FETCH, "fetch"]).arg(debian).arg(&output);
    command.args(programs.iter().filter(|program| !is_ours(program)).map(|program| program.name));
    command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
    run(&mut command)?;
    fs::rename(&output, directory).with_context(|| format!("make {}", directory.display()))
}

/// Whether the list of versions has the upstream version of `program`, whatever Debian's revision.
fn has_version(versions: &str, program: &Program) -> bool {
    let mut rows = versions.lines().filter_map(|line| line.split_once('\t'));
    is_ours(program)
        || rows.any(|(name, version)| {
            let upstream = version.rsplit_once('-').map_or(version, |(upstream, _)| upstream);
            name == program.name && upstream == program.version
        })
}

fn is_ours(program: &Program) -> bool {
    program.version.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_of_debian_do_not_matter() {
        let tini = Program { name: "tini", version: "0.19.0", start: "" };
        for (versions, expected) in [
            ("libc6\t2.36-9\ntini\t0.19.0-1+b3\n", true),
            ("tini\t0.19.0", true),
            ("tini\t0.19.1-1\n", false),
            ("tini-static\t0.19.0-1\n", false),
            ("", false),
        ] {
            assert_eq!(has_version(versions, &tini), expected, "{versions}");
        }
        assert!(has_version("", &Program { name: "/init", version: "", start: "" }));
    }
}
