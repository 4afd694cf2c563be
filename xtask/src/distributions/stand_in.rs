//! Stand-in for a distribution: an empty root with a busybox, a cargo that does nothing, and a
//! package manager that only writes down what it is asked for.
//!
//! chroot(8) enters the root in a user namespace, so that nothing of this host is found there. The
//! tree lies at a path with a space; of it, there are only the scripts that the tests here run.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::rows::{CHECKS, StandIn};
use crate::outcomes::{Outcome, last_words};
use crate::testbed;

/// A program that writes down its name and arguments.
pub const RECORDER: &str = "#!/bin/sh\necho \"${0##*/} $*\" >>/asked\n";

/// User id of root in a root.
pub const ROOT_USER: u32 = 0;

/// Programs of busybox that these scripts call.
#[rustfmt::skip]
const APPLETS: [&str; 15] = [
    "sh", "awk", "paste", "grep", "id", "env", "cat", "uname", "dirname", "basename", "mkdir", "mv",
    "rm", "sed", "ln",
];

/// Seconds until a script in a root is killed.
const DEADLINE: &str = "60";

/// An empty root, removed when this value is dropped.
#[derive(Debug)]
pub struct Root(TempDir);

impl Root {
    /// Makes a root with the package manager `manager` for scripts of `tree`.
    ///
    /// # Errors
    /// The host has no static busybox, or makes no user namespace.
    pub fn new(tree: &Path, manager: &str) -> Result<Self> {
        let busybox = testbed::busybox()?;
        let root = Self(tempfile::tempdir().context("make a temporary directory")?);
        for directory in ["bin", "dev", "a tree/scripts"] {
            let path = root.path().join(directory);
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        }
        let copy = |from: &Path, to: &str| {
            fs::copy(from, root.path().join(to)).with_context(|| format!("copy {}", from.display()))
        };
        copy(&busybox, "bin/busybox")?;
        for script in ["scripts/setup", "scripts/fetch-kernel", "scripts/kernel-packages"] {
            copy(&tree.join(script), &format!("a tree/{script}"))?;
        }
        for applet in APPLETS {
            let link = root.path().join("bin").join(applet);
            symlink("busybox", &link).with_context(|| format!("make {}", link.display()))?;
        }
        // A file does: nobody reads what is written there.
        fs::write(root.path().join("dev/null"), "").context("make a file")?;
        root.program("bin/cargo", "#!/bin/sh\n")?;
        root.program("bin/rustc", "#!/bin/sh\necho /usr/lib/no-such-target\n")?;
        root.program("bin/apt-cache", "#!/bin/sh\n")?;
        root.program(&format!("bin/{manager}"), RECORDER)?;
        let output = root.shell(ROOT_USER, "exit 7")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(7), "no user namespace: {}", told.trim_end());
        Ok(root)
    }

    /// Path of the root on this host.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Installs the program `text` at `path` below the root.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn program(&self, path: &str, text: &str) -> Result<()> {
        let path = self.path().join(path);
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Runs a script in the root as the user with this id.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn shell(&self, user: u32, script: &str) -> Result<Output> {
        let mut command = Command::new("timeout");
        command.args([DEADLINE, "unshare", &format!("--map-user={user}"), "--root"]);
        command.arg(self.path()).args(["--wd", "/", "/bin/sh", "-c", script]).env_clear();
        command.env("PATH", "/usr/bin:/bin").output().context("run timeout")
    }

    /// Runs `scripts/setup` as a user. Returns whether it succeeded, and standard error.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn setup(&self, user: u32, arguments: &str) -> Result<(bool, String)> {
        let script = format!("cd '/a tree' && exec scripts/setup {arguments}");
        let output = self.shell(user, &script)?;
        Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// Calls of the package manager since the last time, a line for each.
    #[must_use]
    pub fn asked(&self) -> String {
        let path = self.path().join("asked");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(&path); // nothing was asked
        text
    }
}

/// Runs all checks, as far as they can be run without packages.
///
/// # Errors
/// The root cannot be made.
pub(super) fn outcomes(tree: &Path, manager: &str) -> Result<Vec<Outcome>> {
    let root = Root::new(tree, manager)?;
    let outcome = |stand_in: StandIn| match stand_in {
        StandIn::NeedsPackages => {
            Ok(Outcome::NotRun(format!("a stand-in for {manager} installs nothing")))
        }
        StandIn::Stage(stage) => {
            let (succeeded, told) = root.setup(ROOT_USER, stage)?;
            Ok(verdict(manager, succeeded, &told, &root.asked()))
        }
    };
    CHECKS.iter().map(|check| outcome(check.stand_in)).collect()
}

/// The outcome of a run of `scripts/setup` that `told` this on standard error, and `asked` the
/// package manager for that.
fn verdict(manager: &str, succeeded: bool, told: &str, asked: &str) -> Outcome {
    let calls = |line: &str| line.strip_prefix(manager).is_some_and(|words| words.starts_with(' '));
    if succeeded && asked.lines().count() > 0 && asked.lines().all(calls) {
        return Outcome::NamesOnly;
    }
    let why = last_words([told, asked]).unwrap_or("it asked for nothing");
    Outcome::Failed(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stand_in_must_have_been_asked() {
        let failed = |why: &str| Outcome::Failed(why.into());
        for (succeeded, told, asked, expected) in [
            (true, "setup: installing gcc\n", "dnf install -y gcc\n", Outcome::NamesOnly),
            (false, "setup: no\n", "dnf install -y gcc\n", failed("setup: no")),
            (true, "", "", failed("it asked for nothing")),
            (true, "", "dnfx install\n", failed("dnfx install")),
        ] {
            assert_eq!(verdict("dnf", succeeded, told, asked), expected, "{told}{asked}");
        }
    }
}
