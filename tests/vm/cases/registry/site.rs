//! A registry with images, and users who read them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use virtinitrd_vm_tests::tool;
use xtask::registry::{Registry, RegistrySettings};

use crate::harness::make::user::{RANGES, UID, UserBed, give};
use crate::harness::programs::stdout_of;
use crate::harness::trial::needs;
use crate::harness::{Bed, Machine, new_directory};

/// Programs that make, push and serve images.
const TOOLS: &[&str] = &["docker-registry", "skopeo", "umoci", "tar", "setpriv"];

/// A registry, and a directory for the trees, layers and layouts of its images.
pub(super) struct Site {
    user: UserBed,
    directory: TempDir,
    registry: Registry,
}

/// A user without root, who has a home directory and works in it.
pub(super) struct Reader<'a> {
    site: &'a Site,
    id: u32,
    home: PathBuf,
}

impl Site {
    /// A registry with neither TLS nor passwords.
    pub(super) fn new(bed: &Bed) -> Result<Self> {
        Self::in_directory(bed, new_directory()?, &RegistrySettings::default())
    }

    /// A registry with these settings, whose files may be in `directory`.
    pub(super) fn in_directory(
        bed: &Bed,
        directory: TempDir,
        settings: &RegistrySettings<'_>,
    ) -> Result<Self> {
        needs(TOOLS)?;
        let user = UserBed::new(bed, RANGES)?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let registry = Registry::start(directory.path(), settings)?;
        Ok(Self { user, directory, registry })
    }

    /// A path in the directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes an empty directory.
    pub(super) fn tree(&self, name: &str) -> Result<Tree> {
        let path = self.path(name);
        fs::create_dir(&path).with_context(|| format!("make {name}"))?;
        Ok(Tree { path })
    }

    /// Makes an image of one layer for each tree, and returns skopeo's name of it. `config` has
    /// options of `umoci config`, such as `--config.user=app`.
    pub(super) fn image(&self, name: &str, trees: &[&Tree], config: &[&str]) -> Result<String> {
        let layout = self.path(name);
        let image = format!("{}:1", layout.display());
        stdout_of(tool("umoci").args(["init", "--layout"]).arg(&layout))?;
        stdout_of(tool("umoci").args(["new", "--image", &image]))?;
        for (number, tree) in trees.iter().enumerate() {
            let layer = self.path(&format!("{name}.{number}.tar"));
            stdout_of(
                tool("tar")
                    .args(["--xattrs", "--xattrs-include=*", "--format=pax", "--sort=name", "-C"])
                    .arg(&tree.path)
                    .args(LEFT_OUT)
                    .arg("-cf")
                    .arg(&layer)
                    .arg("."),
            )?;
            stdout_of(tool("umoci").args(["raw", "add-layer", "--image", &image]).arg(&layer))?;
            fs::remove_file(&layer).context("remove a layer")?;
        }
        // The wall clock must not decide about the bytes.
        let created = "--created=2024-01-02T03:04:05Z";
        stdout_of(tool("umoci").args(["config", "--image", &image, created]).args(config))?;
        Ok(format!("oci:{image}"))
    }

    /// Pushes an image, and returns our word for it. `options` are those of `skopeo copy`.
    pub(super) fn push(&self, image: &str, name: &str, options: &[&str]) -> Result<String> {
        self.registry.push(image, name, options)?;
        Ok(self.word(name))
    }

    /// Our word for an image that was pushed.
    pub(super) fn word(&self, name: &str) -> String {
        format!("oci:{}/{name}", self.registry.authority())
    }

    /// A user of this number, counted from 0, who has nothing yet.
    pub(super) fn reader(&self, number: u32) -> Result<Reader<'_>> {
        let (id, home) = (UID + number, self.path(&format!("home{number}")));
        fs::create_dir_all(&home)?;
        give(&home, id)?;
        Ok(Reader { site: self, id, home })
    }

    /// The user's machine whose root is the image at `path`.
    pub(super) fn machine(&self, path: &Path) -> Result<Machine> {
        let mut machine = self.user.bed.bare_machine()?;
        give(&machine.path(""), UID)?;
        machine.root_is(path);
        Ok(machine)
    }
}

/// Options of tar(1) that leave out what no image of these tests needs: the testbed's Debian has
/// a kernel and documentation.
const LEFT_OUT: [&str; 5] = [
    "--exclude=./boot/*",
    "--exclude=./usr/lib/modules",
    "--exclude=./usr/share/doc",
    "--exclude=./usr/share/locale",
    "--exclude=./var/cache/apt",
];

/// A directory that becomes a layer.
pub(super) struct Tree {
    path: PathBuf,
}

impl Tree {
    /// The tree of an existing directory.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Writes a file with this mode, whose owner is also its group.
    pub(super) fn file(
        &self,
        name: &str,
        mode: u32,
        owner: u32,
        bytes: impl AsRef<[u8]>,
    ) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().context("a name in the tree")?)?;
        fs::write(&path, bytes).with_context(|| format!("write {name}"))?;
        self.set(name, mode, owner)?;
        Ok(path)
    }

    /// Makes a directory with this mode and owner.
    pub(super) fn directory(&self, name: &str, mode: u32, owner: u32) -> Result<()> {
        fs::create_dir_all(self.path.join(name)).with_context(|| format!("make {name}"))?;
        self.set(name, mode, owner)
    }

    /// Path of a name of the tree.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn set(&self, name: &str, mode: u32, owner: u32) -> Result<()> {
        let path = self.path.join(name);
        chown(&path, Some(owner), Some(owner)).with_context(|| format!("chown {name}"))?;
        // After chown(2), which removes set-id bits.
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(&path, permissions).with_context(|| format!("chmod {name}"))
    }

    /// busybox and links to it.
    pub(super) fn add_busybox(&self, bed: &Bed) -> Result<()> {
        self.file("bin/busybox", 0o755, 0, fs::read(&bed.busybox)?)?;
        for applet in ["cat", "echo", "id", "ls", "pwd", "sh", "sleep", "stat", "wc"] {
            symlink("busybox", self.path.join("bin").join(applet))?;
        }
        Ok(())
    }
}

impl Reader<'_> {
    /// A path in the home directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// The directory of the images that are kept.
    pub(super) fn cache(&self) -> PathBuf {
        self.path("cache/virtinitrd/oci")
    }

    /// `chrootvm image WORDS` of the user, in the home directory.
    pub(super) fn image(&self, words: &[&str]) -> Command {
        let program = self.site.user.bed.workspace.join("target/release/chrootvm");
        let mut command = tool("setpriv");
        let id = self.id;
        command.args([format!("--reuid={id}"), format!("--regid={id}")]);
        command.arg("--clear-groups").arg(program).arg("image").args(words);
        command.current_dir(&self.home).env("HOME", &self.home).env("TMPDIR", &self.home);
        command.env("XDG_CACHE_HOME", self.path("cache")).stdin(Stdio::null());
        for name in ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"] {
            command.env_remove(name);
        }
        command
    }

    /// Standard output of a command that must succeed.
    pub(super) fn prints(&self, words: &[&str]) -> Result<String> {
        stdout_of(&mut self.image(words))
    }

    /// The message of a command that must fail and must not leave `file`.
    pub(super) fn fails(&self, words: &[&str], file: &str) -> Result<String> {
        let output = self.image(words).output()?;
        ensure!(!output.status.success(), "{words:?} has not failed");
        ensure!(!self.path(file).exists(), "{words:?} leaves {file}");
        Ok(messages(&output))
    }
}

/// Standard error as text.
pub(super) fn messages(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
