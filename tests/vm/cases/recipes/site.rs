//! A package with a recipe, and builds of it with a cache that no other test has.
//!
//! The directory of a site has `package` (the recipe and its files), `root` (a root of busybox,
//! the base of the recipes), `cache`, `home` and `tmp`. A build that has left a process, a
//! temporary file or an unfinished file of the cache is a failure of the test.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use tempfile::TempDir;
use xtask::testbed;

use crate::harness::processes::{eventually, family, is_empty, still_running};
use crate::harness::programs::exit_status;
use crate::harness::{Bed, new_directory};

/// Prefix of a file that is still being written.
const UNFINISHED: &str = ".virtinitrd-";

/// What the tests of this crate share of a cache: unpacked kernels, and templates of machines that
/// have not run a step yet.
const SHARED: [&str; 3] = ["vmlinux", "answers", "warm"];

/// Beginning of a recipe whose base is the root of the site.
pub(crate) const HEAD: &str = "version = 1\nfrom.dir = \"../root\"\n";

/// Applets of busybox that the steps use.
const APPLETS: &str = "[ cat chmod chown cp dd echo env find grep hostname id ln ls mkdir mkfifo mknod mv printf readlink \
    nc nslookup od ping ps pwd rm rmdir sed seq setsid sha256sum sleep sort stat sync test timeout touch tr wc wget";

/// Users and groups of the root.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/srv/app:/bin/sh\n";
const GROUP: &str = "root:x:0:\napp:x:1001:\nstaff:x:50:app\n";

/// The directories, and the programs that build.
pub(crate) struct Site {
    directory: TempDir,
    program: PathBuf,
    kernel: [PathBuf; 2],
}

/// What a build has said, and how it ended.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Site {
    /// A site with a root of busybox that has two users, and without a recipe.
    pub(crate) fn new(bed: &Bed) -> Result<Self> {
        let kernel = [bed.kernel.image.clone(), bed.kernel.modules.clone()];
        let site = Self { directory: new_directory()?, program: bed.chrootvm(), kernel };
        for name in ["package", "cache/virtinitrd", "home", "tmp", "root/etc"] {
            fs::create_dir_all(site.path(name)).with_context(|| format!("make {name}"))?;
        }
        if let Some(cache) = std::env::var_os("XDG_CACHE_HOME") {
            for name in SHARED {
                let shared = Path::new(&cache).join("virtinitrd").join(name);
                fs::create_dir_all(&shared).context("make a shared part of the cache")?;
                symlink(shared, site.path("cache/virtinitrd").join(name))?;
            }
        }
        testbed::make_root(&site.path("root"), &bed.busybox, &[])?;
        for applet in APPLETS.split_whitespace() {
            symlink("busybox", site.path("root/bin").join(applet))?;
        }
        fs::write(site.path("root/etc/passwd"), PASSWD)?;
        fs::write(site.path("root/etc/group"), GROUP)?;
        Ok(site)
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A path in the package.
    pub(crate) fn own(&self, name: &str) -> PathBuf {
        self.path("package").join(name)
    }

    /// Writes a file of the package, and the directories above it.
    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> Result<()> {
        let path = self.own(name);
        fs::create_dir_all(path.parent().context("a path in the package")?)?;
        fs::write(path, contents).with_context(|| format!("write {name}"))
    }

    /// `chrootvm image build recipe.toml WORDS` in the package.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.command_without_kernel(&["recipe.toml"]);
        self.give_kernel(&mut command);
        command.args(words);
        command
    }

    /// `chrootvm image build WORDS` in the package. A step that runs fails unless
    /// [`Self::give_kernel`] is called.
    pub(crate) fn command_without_kernel(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["image", "build"]).args(words);
        self.set_surroundings(&mut command);
        command
    }

    /// Adds the options that name the kernel of the machine.
    pub(crate) fn give_kernel(&self, command: &mut Command) {
        let [image, modules] = &self.kernel;
        command.arg("--kernel").arg(image).arg("--modules").arg(modules);
    }

    /// Gives a program the directories of the site.
    pub(crate) fn set_surroundings(&self, command: &mut Command) {
        command.current_dir(self.path("package")).stdin(Stdio::null());
        command.env("XDG_CACHE_HOME", self.path("cache")).env("HOME", self.path("home"));
        command.env("TMPDIR", self.path("tmp")).env("CHROOTVM_NO_CONFIG", "1");
        command.env_remove("SOURCE_DATE_EPOCH");
    }

    /// Writes the recipe [`HEAD`] with `text` behind it, and builds it.
    pub(crate) fn build(&self, text: &str, words: &[&str]) -> Result<Built> {
        self.write("recipe.toml", format!("{HEAD}{text}"))?;
        self.run(&mut self.command(words))
    }

    /// Runs a command, after which nothing may be left.
    pub(crate) fn run(&self, command: &mut Command) -> Result<Built> {
        let output = command.output().with_context(|| format!("start {command:?}"))?;
        self.leaves_nothing().with_context(|| format!("{command:?}: {output:?}"))?;
        Ok(output.into())
    }

    /// Standard output of `chrootvm image WORDS` in the package, which must succeed.
    pub(crate) fn image(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.arg("image").args(words);
        self.set_surroundings(&mut command);
        let output = command.output().with_context(|| format!("start {command:?}"))?;
        ensure!(output.status.success(), "{words:?}: {output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// No process of this test runs, and no temporary file is left.
    pub(crate) fn leaves_nothing(&self) -> Result<()> {
        let this = Pid::this();
        eventually("all programs of the build have ended", || {
            let mut left = still_running(&family(this)?);
            left.retain(|(pid, _)| *pid != this);
            Ok(left.is_empty().then_some(()))
        })?;
        is_empty(&self.path("tmp"))?;
        for dir in [self.path("package"), self.path("cache/virtinitrd/steps")] {
            for entry in fs::read_dir(&dir).into_iter().flatten() {
                let name = entry?.file_name();
                let is_unfinished = name.to_string_lossy().starts_with(UNFINISHED);
                ensure!(!is_unfinished, "{} is left in {}", name.display(), dir.display());
            }
        }
        Ok(())
    }

    /// Paths of the files that builds have kept, with this ending.
    pub(crate) fn kept(&self, ending: &str) -> Result<Vec<PathBuf>> {
        let dir = self.path("cache/virtinitrd/steps");
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|found| found == ending) {
                found.push(path);
            }
        }
        Ok(found)
    }

    /// What an archive in the package has, by path: see [`describe`].
    pub(crate) fn archive(&self, name: &str) -> Result<BTreeMap<String, String>> {
        let file = fs::File::open(self.own(name)).with_context(|| format!("open {name}"))?;
        let mut archive = tar::Archive::new(file);
        let mut found = BTreeMap::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().trim_end_matches('/').to_owned();
            found.insert(path, describe(&mut entry)?);
        }
        Ok(found)
    }

    /// The text of a file in an archive of the package.
    pub(crate) fn text(&self, archive: &str, path: &str) -> Result<String> {
        self.image(&["cat", archive, path])
    }
}

/// `KIND MODE UID:GID`, followed by the target of a link, the numbers of a device, and extended
/// attributes.
fn describe<R: std::io::Read>(entry: &mut tar::Entry<'_, R>) -> Result<String> {
    use tar::EntryType;
    let header = entry.header();
    let kind = header.entry_type();
    let name = match kind {
        EntryType::Regular => "file",
        EntryType::Directory => "dir",
        EntryType::Symlink => "link",
        EntryType::Link => "hard",
        EntryType::Char => "char",
        EntryType::Block => "block",
        EntryType::Fifo => "pipe",
        _ => "other",
    };
    let mut text = format!("{name} {:o} {}:{}", header.mode()?, header.uid()?, header.gid()?);
    if let (EntryType::Char | EntryType::Block, Some(major), Some(minor)) =
        (kind, header.device_major()?, header.device_minor()?)
    {
        write!(text, " {major}:{minor}")?;
    }
    if let Some(target) = entry.link_name()? {
        write!(text, " -> {}", target.display())?;
    }
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        if let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) {
            let value = String::from_utf8_lossy(extension.value_bytes());
            write!(text, " {name}={value:?}")?;
        }
    }
    Ok(text)
}

impl From<Output> for Built {
    fn from(output: Output) -> Self {
        Self {
            status: exit_status(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Built {
    /// Checks the exit status, and that standard error has all of `texts`.
    pub(crate) fn is(self, status: i32, texts: &[&str]) -> Result<Self> {
        ensure!(self.status == status, "status {} instead of {status}: {self}", self.status);
        for text in texts {
            ensure!(self.stderr.contains(text), "no {text:?}: {self}");
        }
        Ok(self)
    }

    /// Checks that neither stream has `text`.
    pub(crate) fn lacks(self, text: &str) -> Result<Self> {
        let has = self.stderr.contains(text) || self.stdout.contains(text);
        ensure!(!has, "{text:?} should not be there: {self}");
        Ok(self)
    }

    /// Numbers of the steps that ran, by the lines that name them.
    pub(crate) fn ran(&self) -> Vec<usize> {
        let number = |line: &str| {
            let (number, title) = line.strip_prefix("step ")?.split_once(": ")?;
            number.parse().ok().filter(|_| !title.ends_with(" (kept)"))
        };
        self.stderr.lines().filter_map(number).collect()
    }
}

impl std::fmt::Display for Built {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {}\n{}{}", self.status, self.stdout, self.stderr)
    }
}

/// A step that runs a script, as text of a recipe.
pub(crate) fn run(script: &str) -> String {
    format!("[[step]]\nrun = '''\n{script}\n'''\n")
}

/// An output, as text of a recipe.
pub(crate) fn output(file: &str) -> String {
    format!("[[output]]\nfile = \"{file}\"\n")
}
