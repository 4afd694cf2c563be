//! Making a package of a tree in which everything is built.
//!
//! Interfaces: deb-changelog(5), dpkg-buildpackage(1); rpmbuild(8), the changelog of a spec file.
//! The bytes of a package depend on the files in it, the version and the time of the source, but
//! neither on the clock, directories, the file mode mask, the time zone nor the language.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use files::output;
use machine::host::run;

use crate::{documents, source_date};

/// A kind of package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Debian's, made by dpkg-buildpackage.
    Deb,
    /// That of Fedora, RHEL and openSUSE, made by rpmbuild.
    Rpm,
}

/// Version of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Who makes the packages, as in `packaging/debian/control`.
const MAINTAINER: &str = "virtinitrd maintainers <maintainers@virtinitrd.invalid>";

impl Kind {
    /// Name of the file.
    #[must_use]
    pub fn file_name(self) -> String {
        match self {
            Self::Deb => format!("virtinitrd_{VERSION}-1_amd64.deb"),
            Self::Rpm => format!("virtinitrd-{VERSION}-1.x86_64.rpm"),
        }
    }
}

/// Makes the package of the tree `root`. Returns its path below `target/packages`, and its size in
/// bytes.
///
/// # Errors
/// Something is not built, a tool is missing or fails.
pub(super) fn build(kind: Kind, root: &Path) -> Result<(PathBuf, usize)> {
    for name in documents::FILES {
        let path = root.join(documents::DIRECTORY).join(name);
        ensure!(path.is_file(), "{} is missing: run `cargo xtask documents`", path.display());
    }
    let stage = tempfile::tempdir().context("make a temporary directory")?;
    let time = source_date::of(root)?;
    let made = match kind {
        Kind::Deb => deb(root, stage.path(), time)?,
        Kind::Rpm => rpm(root, stage.path(), time)?,
    };
    let bytes = fs::read(&made).with_context(|| format!("read {}", made.display()))?;
    let directory = root.join("target/packages");
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let path = directory.join(kind.file_name());
    output::write(&path, &bytes)?;
    Ok((path, bytes.len()))
}

/// Makes the .deb in `stage`, in which dpkg-buildpackage puts it beside the tree.
fn deb(root: &Path, stage: &Path, time: u64) -> Result<PathBuf> {
    let tree = stage.join(format!("virtinitrd-{VERSION}"));
    fs::create_dir(&tree).context("make a directory")?;
    run(Command::new("cp").arg("-r").arg(root.join("packaging/debian")).arg(tree.join("debian")))?;
    run(Command::new("cp").arg(root.join("CHANGELOG.md")).arg(&tree))?;
    for name in documents::FILES {
        run(Command::new("cp").arg(root.join(documents::DIRECTORY).join(name)).arg(&tree))?;
    }
    let date = source_date::format(time, source_date::RFC_5322)?;
    output::write(&tree.join("debian/changelog"), deb_changelog(&date).as_bytes())?;
    let mut command = tool("dpkg-buildpackage", &tree, time);
    command.args(["--build=binary", "--unsigned-source", "--unsigned-changes"]);
    quietly(command.env("TREE", root))?;
    Ok(stage.join(Kind::Deb.file_name()))
}

/// Makes the .rpm in `stage`.
fn rpm(root: &Path, stage: &Path, time: u64) -> Result<PathBuf> {
    let path = root.join("packaging/rpm/virtinitrd.spec");
    let spec = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let day = source_date::format(time, source_date::RPM_DAY)?;
    let spec_of_release = stage.join("virtinitrd.spec");
    output::write(&spec_of_release, format!("{spec}{}", rpm_changelog(&day)).as_bytes())?;
    let mut command = tool("rpmbuild", stage, time);
    command.args(["-bb", "--quiet"]);
    for (name, value) in [
        ("_topdir", stage.join("rpm").display().to_string()),
        ("tree", root.display().to_string()),
        ("release_version", VERSION.to_owned()),
        ("_buildhost", "localhost".to_owned()),
        ("use_source_date_epoch_as_buildtime", "1".to_owned()),
        ("clamp_mtime_to_source_date_epoch", "1".to_owned()),
        ("build_mtime_policy", "clamp_to_source_date_epoch".to_owned()),
    ] {
        command.arg("--define").arg(format!("{name} {value}"));
    }
    quietly(command.arg(&spec_of_release))?;
    Ok(stage.join("rpm/RPMS/x86_64").join(Kind::Rpm.file_name()))
}

fn deb_changelog(date: &str) -> String {
    format!(
        "virtinitrd ({VERSION}-1) unstable; urgency=medium\n\n  \
         * New release; changelog.gz lists its changes.\n\n -- {MAINTAINER}  {date}\n"
    )
}

fn rpm_changelog(day: &str) -> String {
    format!(
        "%changelog\n* {day} {MAINTAINER} - {VERSION}-1\n\
         - New release; CHANGELOG.md lists its changes\n"
    )
}

/// A tool that makes a package in `directory` with files of `time`, and of modes that do not
/// depend on this process.
fn tool(name: &str, directory: &Path, time: u64) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "umask 022; exec \"$0\" \"$@\"", name]).current_dir(directory);
    command.env(source_date::VARIABLE, time.to_string());
    // make(1) tells its children about its own options and jobs.
    for variable in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "DESTDIR"] {
        command.env_remove(variable);
    }
    command.envs([("LC_ALL", "C.UTF-8"), ("TZ", "UTC")]).stdin(Stdio::null());
    command
}

/// Runs the command; its output is part of the error if it fails.
fn quietly(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let (told, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(
        output.status.success(),
        "{command:?} failed: {}; `scripts/setup packages` installs what it needs\n{told}{errors}",
        output.status
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_packages_name_the_version_and_the_maintainer() {
        let control = include_str!("../../../packaging/debian/control");
        assert!(control.contains(&format!("\nMaintainer: {MAINTAINER}\n")));
        let spec = include_str!("../../../packaging/rpm/virtinitrd.spec");
        assert!(spec.contains(&format!("\nPackager:       {MAINTAINER}\n")));
        let changelog = deb_changelog("Mon, 30 Nov 2026 06:58:09 +0000");
        assert!(changelog.starts_with(&format!("virtinitrd ({VERSION}-1) ")));
        assert!(
            changelog.ends_with(&format!(" -- {MAINTAINER}  Mon, 30 Nov 2026 06:58:09 +0000\n"))
        );
        let changelog = rpm_changelog("Mon Nov 30 2026");
        assert!(changelog.contains(&format!("* Mon Nov 30 2026 {MAINTAINER} - {VERSION}-1\n")));
    }
}
