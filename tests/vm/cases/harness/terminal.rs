//! A command on a pseudo-terminal: the test types keys and reads the screen.
//!
//! Interfaces: pts(4), ioctl_tty(2), setsid(1). As after a login, a shell leads the session
//! of the terminal, and runs `chrootvm`.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::harness::Machine;
use crate::harness::command_run::{CommandRun, DEADLINE};
use crate::harness::processes::{Family, family, kill_family, pid_of};
use crate::harness::programs::send_chunks;

/// Shell script that runs `chrootvm`, and prints its status. It then waits until the terminal
/// has its former settings again: if `chrootvm` was killed, another process restores them.
const SHELL: &str = r#"
before=$(stty -g)
"$@"
echo "status $?"
tries=0
until [ "$before" = "$(stty -g)" ]; do
	tries=$((tries + 1)); [ $tries -lt 100 ] || { stty -a; exit 1; }
	sleep 0.05
done
echo restored
"#;

/// A terminal on which a shell runs.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: File,
    shell: Child,
    shown: Receiver<Vec<u8>>,
    text: String,
    /// Offset in the text behind everything that [`Terminal::wait_for`] has found.
    seen: usize,
    deadline: Instant,
    /// The command on the terminal, unless that is any shell; it owns the root.
    run: Option<CommandRun>,
}

impl Terminal {
    /// Starts `machine` with its payload on a terminal.
    pub(crate) fn boot(machine: Machine) -> Result<Self> {
        let chrootvm = format!("exec {:?}", machine.command());
        Self::start(CommandRun::new(machine, &[]).through(&chrootvm))
    }

    /// Starts `run`, and shows its status at the end.
    pub(crate) fn start(run: CommandRun) -> Result<Self> {
        let direct = run.command();
        let mut shell = Command::new("sh");
        shell.args(["-c", SHELL, "sh"]).arg(direct.get_program()).args(direct.get_args());
        shell.envs(direct.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut terminal = Self::open(&shell)?;
        terminal.run = Some(run);
        Ok(terminal)
    }

    /// Starts a shell on a terminal of 30 lines with 100 columns. The shell leads a session.
    pub(crate) fn open(shell: &Command) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let end = || ioctl_tiocgptpeer(&master, flags).context("open the terminal");
        let mut command = Command::new("setsid");
        command.args(["-w", "-c"]).arg(shell.get_program()).args(shell.get_args());
        command.envs(shell.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(shell.get_current_dir().unwrap_or(Path::new(".")));
        command.stdin(Stdio::from(end()?)).stdout(Stdio::from(end()?)).stderr(Stdio::from(end()?));
        let master = File::from(master);
        resize(&master, 30, 100)?;
        let shell = command.spawn().context("run setsid(1)")?;
        // The command owns descriptors of the terminal, which would keep it open.
        drop(command);
        let (sender, shown) = channel();
        send_chunks(master.try_clone()?, sender, |bytes| bytes);
        let (deadline, text) = (Instant::now() + DEADLINE, String::new());
        Ok(Self { master, shell, shown, text, seen: 0, deadline, run: None })
    }

    /// Types `line` into the shell, and answers each prompt of `typed`. Returns the text up to
    /// `end`, which the shell shows when it has run the line.
    pub(crate) fn step<'a>(
        &mut self,
        line: &str,
        typed: impl Iterator<Item = (&'a str, &'a str)>,
        end: &str,
    ) -> Result<String> {
        self.deadline = Instant::now() + DEADLINE;
        let start = self.seen;
        self.keys(&format!("{line}\r"))?;
        for (prompt, line) in typed {
            self.wait_for(prompt)?;
            self.keys(&format!("{line}\r"))?;
        }
        self.wait_for(end)?;
        Ok(self.text[start..self.seen - end.len()].to_owned())
    }

    /// Waits until the screen shows `marker` behind everything that was waited for before.
    pub(crate) fn wait_for(&mut self, marker: &str) -> Result<()> {
        loop {
            if let Some(at) = self.text[self.seen..].find(marker) {
                self.seen += at + marker.len();
                return Ok(());
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                // Markers are ASCII. Depending on the moment, the terminal of the guest or
                // that of the host makes `\r\n` of `\n`.
                Ok(bytes) => {
                    let shown = bytes.iter().filter(|byte| **byte != b'\r');
                    self.text.extend(shown.map(|byte| char::from(*byte)));
                }
                Err(end) => {
                    let command = self.run.as_ref().map(|run| format!("{:?}", run.command()));
                    bail!(
                        "no \"{marker}\" ({end})\n--- shown\n{}\n--- repeat with\n{}",
                        self.text,
                        command.as_deref().unwrap_or("(see the steps of the test)")
                    )
                }
            }
        }
    }

    /// Types keys.
    pub(crate) fn keys(&mut self, keys: &str) -> Result<()> {
        self.master.write_all(keys.as_bytes()).context("type")
    }

    /// Types `line`, and waits until the terminal has shown `answer`.
    pub(crate) fn line(&mut self, line: &str, answer: &str) -> Result<()> {
        self.keys(&format!("{line}\r"))?;
        self.wait_for(answer)
    }

    /// Changes the size of the terminal; the kernel sends SIGWINCH.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        resize(&self.master, rows, columns)
    }

    /// Process id of `chrootvm`.
    pub(crate) fn chrootvm(&self) -> Result<Pid> {
        let all = family(pid_of(&self.shell))?;
        let chrootvm = all.iter().find(|(_, line)| line.contains("/release/chrootvm "));
        Ok(chrootvm.with_context(|| format!("no chrootvm in {all:?}"))?.0)
    }

    /// `chrootvm` and its descendants.
    pub(crate) fn family(&self) -> Result<Family> {
        family(self.chrootvm()?)
    }

    /// Sends a signal to `chrootvm` alone.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.chrootvm()?, signal).context("send a signal")
    }

    /// `chrootvm` ends with `status`, and the terminal has its former settings.
    pub(crate) fn ends_with(self, status: i32) -> Result<()> {
        self.ends(status).map(drop)
    }

    /// As [`Terminal::ends_with`]. Returns all text that the terminal has shown.
    pub(crate) fn ends(mut self, status: i32) -> Result<String> {
        self.wait_for(&format!("status {status}\n"))?;
        self.wait_for("restored\n")?;
        self.shell.wait()?;
        Ok(std::mem::take(&mut self.text))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Ok(None) = self.shell.try_wait() {
            kill_family(pid_of(&self.shell));
            let _ = self.shell.wait(); // it was killed
        }
    }
}

fn resize(terminal: &File, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).context("resize the terminal")
}
