//! A build that a test watches while it runs.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use anyhow::{Context, Result, bail};

use super::site::Built;
use crate::harness::processes::PATIENCE;
use crate::harness::programs::{exit_status, send_chunks};

/// A build that runs. Standard error is read while it runs.
pub(crate) struct Live {
    pub(crate) process: Child,
    chunks: Receiver<Vec<u8>>,
    stderr: Vec<u8>,
}

impl Live {
    /// Starts a build in a process group of its own.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("start {command:?}"))?;
        let (sender, chunks) = channel();
        send_chunks(process.stderr.take().context("standard error")?, sender, |chunk| chunk);
        Ok(Self { process, chunks, stderr: Vec::new() })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Waits until a line of standard error is `line`.
    pub(crate) fn wait_for(&mut self, line: &str) -> Result<()> {
        while !self.text().lines().any(|found| found == line) {
            match self.chunks.recv_timeout(PATIENCE) {
                Ok(chunk) => self.stderr.extend(chunk),
                Err(RecvTimeoutError::Timeout) => bail!("no {line:?} in time: {}", self.text()),
                Err(RecvTimeoutError::Disconnected) => bail!("no {line:?}: {}", self.text()),
            }
        }
        Ok(())
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> Result<Built> {
        let mut stdout = String::new();
        let pipe = self.process.stdout.take();
        pipe.context("standard output")?.read_to_string(&mut stdout)?;
        let status = exit_status(self.process.wait()?);
        while let Ok(chunk) = self.chunks.recv_timeout(PATIENCE) {
            self.stderr.extend(chunk);
        }
        Ok(Built { status, stdout, stderr: self.text() })
    }
}
