//! The base images of the Containerfiles, and the Debian packages that they install.
//!
//! | Path below `target/containerfiles` | Content |
//! |---|---|
//! | `busybox.oci.tar` | busybox of this host with all its links |
//! | `debian.oci.tar` | a minimal Debian, whose apt trusts the repository without a signature |
//! | `repository` | [`PACKAGES`] with what they depend on, as the mirror of debootstrap has them |
//!
//! Each of them is made once, and appears whole or not at all. Debian comes from debootstrap(8);
//! the packages are downloaded, and indexed with apt-ftparchive(1), inside that Debian.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use files::output;

use crate::testbed::{self, run};
use crate::{programs, workspace};

/// Names of the base images: what the Containerfiles call them, and the stems of their files.
pub(super) const BASES: &[&str] = &["busybox", "debian"];

/// Packages that the Containerfiles install; together with what they depend on, 240 MB.
const PACKAGES: &[&str] = &[
    "cargo",
    "gcc",
    "golang-go",
    "libc6-dev",
    "lighttpd",
    "make",
    "python3",
    "python3-venv",
    "rustc",
    "systemd",
    "systemd-sysv",
];

/// The release of Debian.
const SUITE: &str = "bookworm";

/// /etc/apt/sources.list of the base image. The repository has no signature.
const SOURCES: &str = "deb [trusted=yes] http://debian.invalid/debian bookworm main\n";

/// Search path of the base images, which Docker's images have as well.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What debootstrap leaves and a base image must not have (gitignore(5)).
const LEFT: &[&str] = &[
    "/dev/*",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/var/cache/apt/*.bin",
    "/var/cache/apt/archives/*.deb",
    "/var/lib/apt/lists/*_*",
    "/var/log/*.log",
    "/var/log/apt/*",
];

/// Makes `/served` in a Debian: the packages that are the arguments, and an index of them.
const DOWNLOAD: &str = r#"set -eu
mkdir -p /packages/partial /tools/partial /served/debian/pool
apt-get update -qq
get() { DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "$@"; }
get -o Dir::Cache::archives=/packages --download-only "$@"
get -o Dir::Cache::archives=/tools apt-utils
mv /packages/*.deb /served/debian/pool/
cd /served/debian
index=dists/bookworm/main/binary-amd64
mkdir -p "$index"
apt-ftparchive packages pool > "$index/Packages"
gzip -9nk "$index/Packages"
apt-ftparchive -o APT::FTPArchive::Release::Suite=bookworm \
    -o APT::FTPArchive::Release::Codename=bookworm \
    -o APT::FTPArchive::Release::Components=main \
    -o APT::FTPArchive::Release::Architectures=amd64 release dists/bookworm > /tmp/Release
mv /tmp/Release dists/bookworm/Release
echo "$*" > packages
"#;

/// Files of the busybox image, by path and text.
const BUSYBOX_FILES: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/shadow", "root:*:::::::\n"),
];

/// Directories of the busybox image, with their permissions.
const BUSYBOX_DIRECTORIES: &[(&str, u32)] = &[
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
];

/// The base images and the packages.
#[derive(Debug)]
pub(super) struct Bases {
    directory: PathBuf,
}

impl Bases {
    /// Finds them in `directory`, or makes them there.
    ///
    /// # Errors
    /// Something has to be made, and the user is not root, or a program is missing or fails.
    pub(super) fn prepare(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        let bases = Self { directory: directory.into() };
        if !bases.image("busybox").exists() {
            bases.make_busybox().context("make the busybox image")?;
        }
        let packages = fs::read_to_string(bases.repository().join("debian/packages"));
        let is_current =
            packages.is_ok_and(|names| names.split_whitespace().eq(PACKAGES.iter().copied()));
        if !is_current || !bases.image("debian").exists() {
            bases.make_debian().context("make the Debian image and its packages")?;
        }
        Ok(bases)
    }

    /// The archive of the base image `name`.
    pub(super) fn image(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.oci.tar"))
    }

    /// The directory of the packages.
    pub(super) fn repository(&self) -> PathBuf {
        self.directory.join("repository")
    }

    fn make_busybox(&self) -> Result<()> {
        let root = self.new_directory("busybox.tmp")?;
        for (name, mode) in BUSYBOX_DIRECTORIES {
            let path = root.join(name);
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
        }
        for (name, text) in BUSYBOX_FILES {
            output::write(&root.join(name), text.as_bytes())?;
        }
        let busybox = testbed::busybox()?;
        fs::copy(&busybox, root.join("bin/busybox")).context("copy busybox")?;
        let list = Command::new(&busybox).arg("--list").output().context("run busybox --list")?;
        ensure!(list.status.success(), "busybox --list failed: {}", list.status);
        let names = String::from_utf8(list.stdout).context("read the list of busybox")?;
        for name in names.lines().filter(|name| *name != "busybox") {
            symlink("busybox", root.join("bin").join(name))
                .with_context(|| format!("link {name}"))?;
        }
        self.pack(&root, "busybox")?;
        remove(&root)
    }

    fn make_debian(&self) -> Result<()> {
        ensure!(nix::unistd::geteuid().is_root(), "debootstrap and chroot need root");
        let root = self.new_directory("debian.tmp")?;
        log::info!("making a Debian and fetching packages in {} (minutes)", root.display());
        // debootstrap mounts /proc. In a mount namespace, no mount stays after an interrupt.
        let mut debootstrap = Command::new("unshare");
        debootstrap.args(["--mount", "debootstrap", "--variant=minbase", SUITE]).arg(&root);
        self.logged(&mut debootstrap, "debootstrap")?;
        let sources = root.join("etc/apt/sources.list");
        let writing = || format!("write {}", sources.display());
        let mirror = fs::read(&sources).with_context(|| format!("read {}", sources.display()))?;
        fs::write(&sources, SOURCES).with_context(writing)?;
        self.pack(&root, "debian")?;
        fs::write(&sources, mirror).with_context(writing)?;

        let mut download = Command::new("unshare");
        download.args(["--mount", "chroot"]).arg(&root);
        download.args(["sh", "-c", DOWNLOAD, "download"]).args(PACKAGES);
        self.logged(&mut download, "packages")?;
        let repository = self.repository();
        if repository.exists() {
            remove(&repository)?;
        }
        fs::rename(root.join("served"), &repository).context("move the packages")?;
        remove(&root)
    }

    /// A directory `name` that is empty.
    fn new_directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        if path.exists() {
            remove(&path)?;
        }
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }

    /// Makes the archive of the base image `name` from the directory `root`.
    fn pack(&self, root: &Path, name: &str) -> Result<()> {
        let mut build = Command::new(programs::chrootvm()?);
        build.current_dir(workspace::root()?).args(["image", "build", "--quiet"]).arg(root);
        build.args(LEFT.iter().flat_map(|pattern| ["--exclude", pattern]));
        build.args(["--env", PATH, "-o"]).arg(self.image(name));
        run(&mut build)
    }

    /// Runs a program whose output goes to the file `name.log`.
    fn logged(&self, command: &mut Command, name: &str) -> Result<()> {
        let path = self.directory.join(name).with_extension("log");
        let log = fs::File::create(&path).with_context(|| format!("write {}", path.display()))?;
        command.stdout(log.try_clone().context("share the log")?).stderr(log);
        run(command).with_context(|| format!("see {}", path.display()))
    }
}

fn remove(directory: &Path) -> Result<()> {
    fs::remove_dir_all(directory).with_context(|| format!("remove {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The repository is compared with the list, so the list has one order.
    #[test]
    fn packages_are_sorted_and_known_once() {
        assert!(PACKAGES.is_sorted_by(|a, b| a < b), "{PACKAGES:?}");
        assert!(DOWNLOAD.contains(&format!("dists/{SUITE}")) && SOURCES.contains(SUITE));
    }
}
