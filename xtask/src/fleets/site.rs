//! The directory of all runs: a root, the files `kernels` and `commands`, and what the runs leave.
//!
//! Interfaces: proc(5), unix(7). Programs of a run are found by the path of the root in their
//! command lines.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::matrix::COMMANDS;
use crate::{testbed, workspace};

/// Time in which the programs of a run that was ended are gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two looks.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// Part of the name of a file that chrootvm is writing.
const OURS: &str = "virtinitrd";

/// The directory, removed when this value is dropped.
#[derive(Debug)]
pub(super) struct Site {
    dir: TempDir,
    /// Lines of the file `kernels`.
    pub(super) kernels: Vec<String>,
    /// The source tree.
    pub(super) tree: PathBuf,
}

impl Site {
    /// Makes the directory, for two releases of the kernel, each with two ways to enter it.
    ///
    /// # Errors
    /// A kernel or a file cannot be made.
    pub(super) fn make() -> Result<Self> {
        let tree = workspace::root()?;
        let dir = tempfile::Builder::new().prefix("virtinitrd-fleets-").tempdir()?;
        // munged wants a socket that all users can reach.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o711))?;
        let mut kernels = Vec::new();
        for kernel in [testbed::kernel(&tree)?, testbed::kernel_of(&testbed::debian(&tree)?)?] {
            let (image, modules) = (kernel.image.display(), kernel.modules.display());
            for pvh in ["auto", "never"] {
                kernels.push(format!("--pvh {pvh} --kernel {image} --modules {modules}"));
            }
        }
        let site = Self { dir, kernels, tree };
        testbed::make_root(&site.path("root"), &testbed::busybox()?, &[])?;
        for name in ["results", "tmp", "cache"] {
            fs::create_dir(site.path(name))?;
        }
        let lines: Vec<_> = COMMANDS.iter().map(|command| command.line).collect();
        fs::write(site.path("kernels"), site.kernels.join("\n") + "\n")?;
        fs::write(site.path("commands"), lines.join("\n") + "\n")?;
        Ok(site)
    }

    /// A path in the directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Empties the directory of results.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub(super) fn forget_results(&self) -> Result<()> {
        fs::remove_dir_all(self.path("results"))?;
        fs::create_dir(self.path("results")).context("make a directory for results")
    }

    /// The command `program` in the directory. It finds chrootvm of this checkout; temporary files
    /// and the cache are in the directory, too.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut path = OsString::from(self.tree.join("scripts"));
        path.push(":/usr/sbin:/sbin:");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = Command::new(program);
        command.current_dir(self.dir.path()).env("PATH", path);
        command.env("TMPDIR", self.path("tmp")).env("XDG_CACHE_HOME", self.path("cache"));
        command
    }

    /// Command line of a program that runs a machine of this directory, if there is one.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub(super) fn running(&self, program: &str) -> Result<Option<String>> {
        let mark = self.dir.path().to_string_lossy().into_owned();
        for entry in fs::read_dir("/proc").context("list /proc")? {
            let path = entry?.path();
            // It may have ended, or have no command line.
            let line = fs::read(path.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let environment = fs::read(path.join("environ")).unwrap_or_default();
            let is_ours = line.contains(&mark) || has(&environment, mark.as_bytes());
            let name = line.split(' ').next().unwrap_or_default();
            if is_ours && Path::new(name).file_name().is_some_and(|name| name == program) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// Nothing is left of the machines: no program, no socket whose name begins with `prefix`, no
    /// temporary file and no unfinished report.
    ///
    /// # Errors
    /// Something is left.
    pub(super) fn check_nothing_left(&self, prefix: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for program in ["chrootvm", "qemu-system-x86_64", "virtiofsd"] {
            while let Some(line) = self.running(program)? {
                ensure!(Instant::now() < deadline, "a process is left: {line}");
                std::thread::sleep(PAUSE);
            }
        }
        let sockets = fs::read_to_string("/proc/net/unix").context("read /proc/net/unix")?;
        let socket = sockets.lines().find(|line| line.contains(prefix));
        ensure!(socket.is_none(), "a socket is left: {socket:?}");
        for name in ["tmp", "results"] {
            let entries = fs::read_dir(self.path(name))?.collect::<Result<Vec<_>, _>>()?;
            let names = entries.into_iter().map(|entry| entry.file_name());
            let left = names.filter(|file| name == "tmp" || file.to_string_lossy().contains(OURS));
            let left: Vec<_> = left.collect();
            ensure!(left.is_empty(), "files are left in {name}: {left:?}");
        }
        Ok(())
    }
}

/// Whether `text` has `part`.
fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
