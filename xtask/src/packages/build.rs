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
pub(super) enum Kind {
    /// Debian's, made by dpkg-buildpackage.
    Deb,
    /// That of Fedora, RHEL and openSUSE, made by rpmbuild.
    Rpm,
}

/// Contents of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// Name of the package.
    name: &'static str,
    /// Version of what it has.
    version: String,
    /// Which of the packages of this version it is.
    revision: String,
    /// Its files for debhelper, below the tree.
    debian: &'static str,
    /// Directory of the small kernel, if it has that.
    kernel: Option<PathBuf>,
}

/// Version of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Who makes the packages, as in `packaging/debian/control`.
const MAINTAINER: &str = "virtinitrd maintainers <maintainers@virtinitrd.invalid>";

impl Content {
    /// The programs.
    pub(super) fn programs() -> Self {
        Self {
            name: "virtinitrd",
            version: VERSION.to_owned(),
            revision: "1".to_owned(),
            debian: "packaging/debian",
            kernel: None,
        }
    }

    /// The small kernel in the directory `kernel`, with its configuration beside it.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn kernel(kernel: &Path) -> Result<Self> {
        let path = kernel.join("config");
        let config = fs::read_to_string(&path).with_context(|| {
            format!("read {}: `make kernel` builds a kernel first", path.display())
        })?;
        Ok(Self {
            name: "virtinitrd-kernel",
            version: kernel_version(&config).with_context(|| format!("{}", path.display()))?.into(),
            revision: VERSION.to_owned(),
            debian: "packaging/debian-kernel",
            // rpmbuild and make do not start in the directory of this program.
            kernel: Some(kernel.canonicalize().context("find the kernel")?),
        })
    }

    /// Documents that belong to the programs, below [`documents::DIRECTORY`].
    fn documents(&self) -> &'static [&'static str] {
        if self.kernel.is_none() { &documents::FILES } else { &[] }
    }

    /// Name of the file.
    #[must_use]
    pub(super) fn file_name(&self, kind: Kind) -> String {
        let Self { name, version, revision, .. } = self;
        match kind {
            Kind::Deb => format!("{name}_{version}-{revision}_amd64.deb"),
            Kind::Rpm => format!("{name}-{version}-{revision}.x86_64.rpm"),
        }
    }

    fn deb_changelog(&self, date: &str) -> String {
        let Self { name, version, revision, .. } = self;
        format!(
            "{name} ({version}-{revision}) unstable; urgency=medium\n\n  \
             * New release; changelog.gz of virtinitrd lists its changes.\n\n -- {MAINTAINER}  {date}\n"
        )
    }

    fn rpm_changelog(&self, day: &str) -> String {
        let Self { version, revision, .. } = self;
        format!(
            "%changelog\n* {day} {MAINTAINER} - {version}-{revision}\n\
             - New release; CHANGELOG.md of virtinitrd lists its changes\n"
        )
    }
}

/// The version of the kernel that a configuration is for, which its first lines name: `# Linux/x86
/// 6.1.192 Kernel Configuration` (scripts/kconfig/confdata.c).
fn kernel_version(config: &str) -> Result<&str> {
    let version = config.lines().find_map(|line| {
        line.strip_prefix("# Linux/")?.strip_suffix(" Kernel Configuration")?.split(' ').nth(1)
    });
    let is_version = |version: &&str| {
        version.starts_with(|first: char| first.is_ascii_digit())
            && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".~".contains(&byte))
    };
    version.filter(is_version).context("no version of a kernel, as `# Linux/x86 6.1 Kernel …`")
}

/// Makes a package of the tree `root`. Returns its path below `target/packages`, and its size in
/// bytes.
///
/// # Errors
/// Something is not built, a tool is missing or fails.
pub(super) fn build(kind: Kind, content: &Content, root: &Path) -> Result<(PathBuf, usize)> {
    for name in content.documents() {
        let path = root.join(documents::DIRECTORY).join(name);
        ensure!(path.is_file(), "{} is missing: run `cargo xtask documents`", path.display());
    }
    let stage = tempfile::tempdir().context("make a temporary directory")?;
    let time = source_date::of(root)?;
    let made = match kind {
        Kind::Deb => deb(content, root, stage.path(), time)?,
        Kind::Rpm => rpm(content, root, stage.path(), time)?,
    };
    let bytes = fs::read(&made).with_context(|| format!("read {}", made.display()))?;
    let directory = root.join("target/packages");
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let path = directory.join(content.file_name(kind));
    output::write(&path, &bytes)?;
    Ok((path, bytes.len()))
}

/// Makes the .deb in `stage`, in which dpkg-buildpackage puts it beside the tree.
fn deb(content: &Content, root: &Path, stage: &Path, time: u64) -> Result<PathBuf> {
    let tree = stage.join(content.name);
    fs::create_dir(&tree).context("make a directory")?;
    run(Command::new("cp").arg("-r").arg(root.join(content.debian)).arg(tree.join("debian")))?;
    if content.kernel.is_none() {
        run(Command::new("cp").arg(root.join("CHANGELOG.md")).arg(&tree))?;
    }
    for name in content.documents() {
        run(Command::new("cp").arg(root.join(documents::DIRECTORY).join(name)).arg(&tree))?;
    }
    let date = source_date::format(time, source_date::RFC_5322)?;
    output::write(&tree.join("debian/changelog"), content.deb_changelog(&date).as_bytes())?;
    let mut command = tool("dpkg-buildpackage", &tree, time);
    command.args(["--build=binary", "--unsigned-source", "--unsigned-changes"]);
    command.envs(content.kernel.iter().map(|kernel| ("SMALL_KERNEL", kernel)));
    quietly(command.env("TREE", root))?;
    Ok(stage.join(content.file_name(Kind::Deb)))
}

/// Makes the .rpm in `stage`.
fn rpm(content: &Content, root: &Path, stage: &Path, time: u64) -> Result<PathBuf> {
    let spec_file = format!("{}.spec", content.name);
    let path = root.join("packaging/rpm").join(&spec_file);
    let spec = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let day = source_date::format(time, source_date::RPM_DAY)?;
    let spec_of_release = stage.join(spec_file);
    let changelog = content.rpm_changelog(&day);
    output::write(&spec_of_release, format!("{spec}{changelog}").as_bytes())?;
    let mut command = tool("rpmbuild", stage, time);
    command.args(["-bb", "--quiet"]);
    let kernel = content.kernel.iter().map(|kernel| ("small_kernel", kernel.display().to_string()));
    let fixed = [
        ("_topdir", stage.join("rpm").display().to_string()),
        ("tree", root.display().to_string()),
        ("release_version", content.version.clone()),
        ("release_revision", content.revision.clone()),
        ("_buildhost", "localhost".to_owned()),
        ("use_source_date_epoch_as_buildtime", "1".to_owned()),
        ("clamp_mtime_to_source_date_epoch", "1".to_owned()),
        ("build_mtime_policy", "clamp_to_source_date_epoch".to_owned()),
    ];
    for (name, value) in fixed.into_iter().chain(kernel) {
        command.arg("--define").arg(format!("{name} {value}"));
    }
    quietly(command.arg(&spec_of_release))?;
    Ok(stage.join("rpm/RPMS/x86_64").join(content.file_name(Kind::Rpm)))
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
        for (name, text) in [
            ("virtinitrd", include_str!("../../../packaging/debian/control")),
            ("virtinitrd-kernel", include_str!("../../../packaging/debian-kernel/control")),
        ] {
            assert!(text.starts_with(&format!("Source: {name}\n")), "{name}");
            assert!(text.contains(&format!("\nMaintainer: {MAINTAINER}\n")), "{name}");
        }
        for (name, text) in [
            ("virtinitrd", include_str!("../../../packaging/rpm/virtinitrd.spec")),
            ("virtinitrd-kernel", include_str!("../../../packaging/rpm/virtinitrd-kernel.spec")),
        ] {
            assert!(text.contains(&format!("\nName:           {name}\n")), "{name}");
            assert!(text.contains(&format!("\nPackager:       {MAINTAINER}\n")), "{name}");
        }
        let content = Content::programs();
        let changelog = content.deb_changelog("Mon, 30 Nov 2026 06:58:09 +0000");
        assert!(changelog.starts_with(&format!("virtinitrd ({VERSION}-1) ")));
        assert!(
            changelog.ends_with(&format!(" -- {MAINTAINER}  Mon, 30 Nov 2026 06:58:09 +0000\n"))
        );
        let changelog = content.rpm_changelog("Mon Nov 30 2026");
        assert!(changelog.contains(&format!("* Mon Nov 30 2026 {MAINTAINER} - {VERSION}-1\n")));
    }

    #[test]
    fn a_kernel_has_the_version_of_its_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let error = Content::kernel(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("/config: `make kernel` builds a kernel first"), "{error}");
        let head = "#\n# Automatically generated file; DO NOT EDIT.\n# Linux/x86 6.1.192 Kernel Configuration\n#\n";
        fs::write(dir.path().join("config"), head).unwrap();
        let content = Content::kernel(dir.path()).unwrap();
        for (kind, name) in [
            (Kind::Deb, format!("virtinitrd-kernel_6.1.192-{VERSION}_amd64.deb")),
            (Kind::Rpm, format!("virtinitrd-kernel-6.1.192-{VERSION}.x86_64.rpm")),
        ] {
            assert_eq!(content.file_name(kind), name);
        }
        for config in
            ["", "# Linux/x86 Kernel Configuration\n", "# Linux/x86 1/../2 Kernel Configuration\n"]
        {
            assert!(kernel_version(config).is_err(), "{config}");
        }
    }
}
