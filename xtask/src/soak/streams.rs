//! Streams of a command: pipes, or a terminal of its own.
//!
//! Interfaces: pts(4), setsid(1).

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};

/// Bytes that are read from a terminal at once.
const CHUNK: usize = 4096;

/// Gives `child` its input through a pipe, and waits for its end.
///
/// # Errors
/// It has no pipes, or they cannot be read.
pub(super) fn through_pipes(mut child: Child, input: &[u8]) -> Result<Output> {
    let mut stdin = child.stdin.take().context("stdin")?;
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input)); // if it fails, the output shows it
        child.wait_with_output().context("wait")
    })
}

/// A command that leads the session of a terminal. Its standard error is a pipe.
#[derive(Debug)]
pub(super) struct OnTerminal {
    pub(super) child: Child,
    /// Our end: if it is closed, the terminal hangs up.
    master: PtyMaster,
}

impl OnTerminal {
    /// Starts `command`; setsid(1) becomes it, so that it has the process id of the child.
    ///
    /// # Errors
    /// There is no terminal, or no setsid(1).
    pub(super) fn start(command: &Command) -> Result<Self> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).context("make a terminal")?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NOCTTY.bits())
            .open(ptsname_r(&master)?)
            .context("open the terminal")?;
        let mut setsid = Command::new("setsid");
        setsid.arg("--ctty").arg(command.get_program()).args(command.get_args());
        setsid.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        setsid.stdin(terminal.try_clone()?).stdout(terminal).stderr(Stdio::piped());
        let child = setsid.spawn().context("run setsid(1)")?;
        Ok(Self { child, master })
    }

    /// Types `line` when the terminal has shown `marker`, and waits for the end. The output has
    /// all that the terminal has shown, without the `\r` of its lines.
    ///
    /// # Errors
    /// The terminal cannot be read.
    pub(super) fn answer(self, marker: &str, line: &str) -> Result<Output> {
        let Self { child, mut master } = self;
        let (mut shown, mut untyped) = (Vec::new(), Some(line));
        while let Some(chunk) = read(&mut master).context("read the terminal")? {
            shown.extend(chunk.into_iter().filter(|byte| *byte != b'\r'));
            if let Some(line) = untyped.take_if(|_| shown.starts_with(marker.as_bytes())) {
                master.write_all(line.as_bytes()).context("type")?;
            }
        }
        Ok(Output { stdout: shown, ..child.wait_with_output().context("wait")? })
    }
}

/// The next bytes of a terminal; `None` if nobody else has it open.
fn read(master: &mut PtyMaster) -> io::Result<Option<Vec<u8>>> {
    let mut chunk = vec![0; CHUNK];
    match master.read(&mut chunk) {
        Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => Ok(None),
        Ok(0) => Ok(None),
        result => {
            chunk.truncate(result?);
            Ok(Some(chunk))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_what_is_typed_on_its_terminal() {
        let mut command = Command::new("sh");
        let script = "test -t 0 && test -t 1 && echo up; read word; echo \"$word $A\"; \
                      tty > /dev/tty; echo err >&2; exit 7";
        command.args(["-c", script]).env("A", "b");
        let output = OnTerminal::start(&command).unwrap().answer("up\n", "word\n").unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(stdout.starts_with("up\nword\nword b\n/dev/pts/"), "{stdout}");
        assert_eq!((output.status.code(), &*output.stderr), (Some(7), &b"err\n"[..]));
    }

    #[test]
    fn a_command_without_input_ends() {
        let output = OnTerminal::start(&Command::new("true")).unwrap().answer("up\n", "x");
        assert!(output.unwrap().status.success());
    }
}
