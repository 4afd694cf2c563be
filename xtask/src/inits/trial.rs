//! One program in one case: a machine whose PID 1 it is, and what the console shows.
//!
//! The machine ends when the console has shown an outcome, or at its time limit.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use proto::settings::{Record, encode};
use tempfile::TempDir;

use super::cases::{Case, SAY, TESTER};
use super::programs::{Program, title};
use crate::testbed::{self, HostKernel, run};

/// Time limit of a machine, as `--timeout` takes it. The slowest one makes 1000 processes, which
/// takes half a minute without KVM.
const LIMIT: &str = "180s";

/// Most bytes of a console. One machine writes some kilobytes.
const CONSOLE_MAX: u64 = 4 << 20;

/// Lines of the console in an error.
const TAIL: usize = 20;

/// A root with all programs, and how to boot it.
#[derive(Debug)]
pub(super) struct Site {
    root: TempDir,
    init: PathBuf,
    kernel: HostKernel,
}

/// A machine that is killed when this value is dropped.
#[derive(Debug)]
struct Machine(Child);

impl Site {
    /// Makes the root of a busybox and of what `packages` has.
    ///
    /// # Errors
    /// The host has no static busybox, or a file cannot be written.
    pub(super) fn new(init: PathBuf, kernel: HostKernel, packages: &Path) -> Result<Self> {
        let root = tempfile::Builder::new()
            .prefix("virtinitrd-inits-")
            .tempdir()
            .context("make a directory")?;
        testbed::make_root(root.path(), &testbed::busybox()?, &[])?;
        run(Command::new("cp").arg("-a").arg(packages.join(".")).arg(root.path()))?;
        fs::create_dir_all(root.path().join("etc/virtinit")).context("make etc/virtinit")?;
        Ok(Self { root, init, kernel })
    }

    /// Boots a machine, and returns the outcome.
    ///
    /// # Errors
    /// The machine does not start, or ends without one of the outcomes of the case.
    pub(super) fn observe(&self, program: &Program, case: &Case) -> Result<&'static str> {
        self.write_files(program, case)?;
        let mut command = Command::new(crate::programs::chrootvm()?);
        command.args(["--no-config", "--quiet", "--timeout", LIMIT]);
        command.arg("--init").arg(&self.init);
        command.arg("--kernel").arg(&self.kernel.image);
        command.arg("--modules").arg(&self.kernel.modules);
        command.arg(self.root.path()).args((!program.start.is_empty()).then_some("/bin/start"));
        let (console, writer) = std::io::pipe().context("make a pipe")?;
        command.stdin(Stdio::null()).stdout(writer.try_clone().context("share the pipe")?);
        command.stderr(writer);
        let _machine = Machine(command.spawn().context("start chrootvm")?);
        // It holds the pipe open.
        drop(command);
        let mut lines = Vec::new();
        for line in BufReader::new(console.take(CONSOLE_MAX)).split(b'\n') {
            let line = line.context("read the console")?;
            let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
            if let Some(outcome) = outcome(case, &line) {
                return Ok(outcome);
            }
            lines.push(line);
        }
        let (title, name) = (title(program), case.name);
        let tail = lines.split_at(lines.len().saturating_sub(TAIL)).1.join("\n");
        bail!("{title}: {name}: the console shows no known outcome; it ends with\n{tail}")
    }

    /// Writes the scripts of a case, and the run file of `/init`.
    fn write_files(&self, program: &Program, case: &Case) -> Result<()> {
        let tester = if case.tester.is_empty() { "" } else { "setsid /bin/tester &\n" };
        for (name, text) in [
            ("bin/start", format!("#!/bin/sh\n{}\n", program.start)),
            ("bin/main", [SAY, tester, case.main, "\n"].concat()),
            ("bin/child", [SAY, case.child, "\n"].concat()),
            ("bin/tester", [SAY, TESTER, case.tester, "\n"].concat()),
        ] {
            let file = self.root.path().join(name);
            let writing = || format!("write {}", file.display());
            fs::write(&file, text).with_context(writing)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).with_context(writing)?;
        }
        let records = [&[Record::Arg(b"/bin/main")], case.records].concat();
        let file = self.root.path().join("etc/virtinit/run");
        fs::write(&file, encode(&records)).with_context(|| format!("write {}", file.display()))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only if it has ended. QEMU and virtiofsd end with chrootvm.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The outcome that a line of the console means.
fn outcome(case: &Case, line: &str) -> Option<&'static str> {
    case.outcomes.iter().find(|(text, _)| line.contains(text)).map(|(_, outcome)| *outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inits::cases::CASES;

    #[test]
    fn lines_of_the_console_are_outcomes() {
        let case = |name: &str| CASES.iter().find(|case| case.name == name).unwrap();
        let status = case("main process exits with 42");
        let orphans = case("1000 orphans end");
        let panic = "[    3.2] Kernel panic - not syncing: Attempted to kill init! exitcode=0x";
        for (case, line, expected) in [
            (status, format!("{panic}00002a00"), Some("status 42")),
            (status, format!("{panic}00000000"), None),
            (status, "virtinit: the command has ended with status 42".into(), Some("status 42")),
            (orphans, "[    9.1] inits: zombies: 0.".into(), Some("reaps them")),
            (orphans, "[    9.1] inits: zombies: 10.".into(), Some("leaves zombies")),
            (orphans, String::new(), None),
        ] {
            assert_eq!(outcome(case, &line), expected, "{line}");
        }
    }
}
