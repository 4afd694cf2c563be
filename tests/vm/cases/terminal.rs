//! A pseudo-terminal with a person at it: what is typed, what is shown.
//!
//! Interfaces: pts(4), ioctl_tty(2), setsid(1). chrootvm is run by a shell that
//! leads the terminal's session, as it is from a login.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::command_run::CommandRun;
use crate::processes::{self, Family, family};

/// As that of other runs.
const DEADLINE: Duration = Duration::from_secs(120);

/// Runs chrootvm, then tells its status and whether the terminal's settings are
/// those of before, for which a process that outlives chrootvm may have to see.
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
    /// Where in the text [`Terminal::wait_for`] goes on.
    seen: usize,
    deadline: Instant,
    /// Its root, and what repeats it.
    run: CommandRun,
}

impl Terminal {
    /// Starts `run` on a terminal of 30 lines with 100 characters.
    pub(crate) fn start(run: CommandRun) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let end = || ioctl_tiocgptpeer(&master, flags).context("open the terminal");
        let direct = run.command();
        let mut command = Command::new("setsid");
        command.args(["-w", "-c", "sh", "-c", SHELL, "sh"]);
        command.arg(direct.get_program()).args(direct.get_args());
        command.stdin(Stdio::from(end()?)).stdout(Stdio::from(end()?)).stderr(Stdio::from(end()?));
        let master = File::from(master);
        resize(&master, 30, 100)?;
        let shell = command.spawn().context("run setsid(1)")?;
        // The command holds the ends of the terminal that are not the shell's.
        drop(command);
        let (sender, shown) = channel();
        let mut from = master.try_clone()?;
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // EIO: nobody has the terminal open any more.
            while let Ok(count @ 1..) = from.read(&mut chunk) {
                if sender.send(chunk[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let deadline = Instant::now() + DEADLINE;
        Ok(Self { master, shell, shown, text: String::new(), seen: 0, deadline, run })
    }

    /// Waits until `marker` is shown after all that was waited for before.
    pub(crate) fn wait_for(&mut self, marker: &str) -> Result<()> {
        loop {
            if let Some(at) = self.text[self.seen..].find(marker) {
                self.seen += at + marker.len();
                return Ok(());
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                // What is waited for is ASCII. Whose terminal makes `\r\n` of `\n`, the
                // guest's or ours, depends on when output comes.
                Ok(bytes) => {
                    let shown = bytes.iter().filter(|byte| **byte != b'\r');
                    self.text.extend(shown.map(|byte| char::from(*byte)));
                }
                Err(end) => {
                    bail!(
                        "no \"{marker}\" ({end})\n--- shown\n{}\n--- repeat with\n{:?}",
                        self.text,
                        self.run.command()
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

    /// As somebody who pulls at a window's corner; the kernel sends SIGWINCH.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        resize(&self.master, rows, columns)
    }

    /// chrootvm and all that it has started.
    pub(crate) fn family(&self) -> Result<Family> {
        let shell = Pid::from_raw(i32::try_from(self.shell.id())?);
        let all = family(shell)?;
        let chrootvm = all.iter().find(|(_, line)| line.contains(" chrootvm --init"));
        let (pid, _) = chrootvm.ok_or_else(|| anyhow!("no chrootvm in {all:?}"))?;
        family(*pid)
    }

    /// Sends a signal to chrootvm alone.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let family = self.family()?;
        let (pid, _) = family.first().context("no chrootvm")?;
        kill(*pid, signal).context("send a signal")
    }

    /// chrootvm ends with `status`, and the terminal is as it was.
    pub(crate) fn ends_with(mut self, status: i32) -> Result<()> {
        self.wait_for(&format!("status {status}\n"))?;
        self.wait_for("restored\n")?;
        self.shell.wait()?;
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Ok(None) = self.shell.try_wait() {
            let pid = Pid::from_raw(i32::try_from(self.shell.id()).unwrap_or(i32::MAX));
            for (pid, _) in processes::family(pid).unwrap_or_default() {
                let _ = kill(pid, Signal::SIGKILL); // it may have ended meanwhile
            }
            let _ = self.shell.wait(); // it was killed
        }
    }
}

fn resize(terminal: &File, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).context("resize the terminal")
}
