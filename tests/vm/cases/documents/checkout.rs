//! A shell in a fresh directory in which the examples of the documents run.
//!
//! The directory looks like a checkout that `make build` has built. The shell runs on a
//! terminal, as the reader's does, and in a network namespace (network_namespaces(7)), in
//! which no port and no machine's name is taken.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use virtinitrd_vm_tests::console::Step;
use xtask::testbed;

use crate::harness::Bed;
use crate::harness::processes::PATIENCE;
use crate::harness::programs::stdout_of;
use crate::harness::terminal::Terminal;

/// End of a step, which no output contains (ASCII's record separator).
const END: &str = "\x1e";

/// Shell script that runs each line that is typed, in one shell, so that jobs and variables
/// last. The terminal does not show what is typed.
const SHELL: &str = r#"
stty -echo
set -m
"$1" ip link set lo up
printf '\036'
while IFS= read -r line; do
	eval "$line"
	printf '\036'
done
"#;

/// A directory, and the shell in it.
pub(super) struct Checkout {
    shell: Terminal,
    /// Whether the last steps started a job in the background.
    has_job: bool,
    directory: TempDir,
}

impl Checkout {
    /// A directory with the built programs. It is beside the testbed's Debian, so that files
    /// can be linked.
    pub(super) fn new(bed: &Bed) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("documents-")
            .tempdir_in(testbed::dir(&bed.workspace)?)
            .context("make a directory")?;
        for name in ["scripts", "target"] {
            symlink(bed.workspace.join(name), directory.path().join(name))?;
        }
        let mut shell = Command::new("unshare");
        shell.args(["--net", "bash", "--norc", "--noprofile", "-c", SHELL, "bash"]);
        shell.arg(&bed.busybox).current_dir(directory.path());
        let path = std::env::var("PATH").unwrap_or_default();
        shell.env("PATH", format!("{}/scripts:{path}", bed.workspace.display()));
        // Without control sequences, in English.
        shell.env("TERM", "dumb").env("LC_ALL", "C");
        // Files of settings are read, but none of the developer's.
        fs::write(directory.path().join(".chrootvm.toml"), "")?;
        shell.env("CHROOTVM_NO_CONFIG", "").env("XDG_CONFIG_HOME", directory.path().join("config"));
        let mut shell = Terminal::open(&shell)?;
        shell.wait_for(END)?;
        Ok(Self { shell, has_job: false, directory })
    }

    /// Puts the testbed's Debian where debootstrap would have made one. Its files are linked,
    /// except those of `/etc`, which examples change. The packages are not exactly those of
    /// the example: systemd is one more, and busybox is the host's.
    pub(super) fn add_debian(&self, bed: &Bed) -> Result<()> {
        let debian = self.directory.path().join("debian");
        let copy = |options: &str, from: &Path, to: &Path| {
            stdout_of(Command::new("cp").arg(options).arg(from).arg(to)).map(drop)
        };
        let source = bed.debian_root()?;
        copy("-al", &source, &debian)?;
        fs::remove_dir_all(debian.join("etc")).context("remove the links in /etc")?;
        copy("-a", &source.join("etc"), &debian)?;
        fs::copy(&bed.busybox, debian.join("usr/bin/busybox")).context("copy busybox")?;
        Ok(())
    }

    /// Writes a file into the directory.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.directory.path().join(name), text).context(name.to_owned())
    }

    /// Runs a step, whose output must be that of the document. A step beside a job in the
    /// background is repeated until it is: the job needs time to start, as does a reader.
    pub(super) fn run(&mut self, step: &Step) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        self.has_job &= !step.command.starts_with("kill ");
        loop {
            let shown = self.shell.step(&step.command, step.typed(), END)?;
            let shown = without_noise(&shown);
            if step.has_shown(&shown) {
                break;
            }
            if !self.has_job || Instant::now() > deadline {
                let (command, lines) = (&step.command, step.lines.join("\n"));
                bail!("{command}\n--- the document has\n{lines}\n--- the terminal has\n{shown}");
            }
        }
        self.has_job |= step.command.ends_with('&');
        Ok(())
    }
}

/// Text without control sequences (console_codes(4)), which bash of a guest prints, and
/// without the shell's lines about its jobs, which depend on the moment.
fn without_noise(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_final = |c: char| ('@'..='~').contains(&c);
        plain += part.split_once(is_final).map_or("", |(_, after)| after);
    }
    let is_job = |line: &str| {
        line.strip_prefix('[').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    plain.split_inclusive('\n').filter(|line| !is_job(line)).collect()
}
