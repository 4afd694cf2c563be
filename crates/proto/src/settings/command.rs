//! A command: its words, and the records that say how to run it.
//!
//! The [crate's documentation](crate) lists the records. They are the part of a run file that
//! an image may have, too ([`IMAGE_FILE`]).

use alloc::vec::Vec;
use core::ffi::CStr;
use core::time::Duration;

use super::health::{Health, Schedule, UNHEALTHY};
use super::restart::{Backoff, RESTARTS, RestartPolicy};
use super::{IMAGE_FILE, Size, from_millis, take_all};
use crate::error::{Error, Result};
use crate::signal;
use crate::text::show;
use crate::words::{named, number};

/// What happens if the working directory of a command is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingCwd {
    /// The command does not start.
    #[default]
    Refuse,
    /// The directory and those above it are made, with mode 0755 for root.
    Make,
}

/// Time for a command to end after its stop signal, in container engines as well.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A command, and how to run it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Command<'a> {
    /// The program and its arguments; empty if there is no command.
    pub args: Vec<&'a CStr>,
    /// Environment variables `NAME=VALUE`; `/init` adds defaults for `PATH` and `HOME`.
    pub env: Vec<&'a CStr>,
    /// Working directory; the default is `/`.
    pub cwd: Option<&'a CStr>,
    /// What happens if the working directory is missing.
    pub missing_cwd: MissingCwd,
    /// `NAME`, `UID`, `NAME:GROUP` or `UID:GID`; the default is root.
    pub user: Option<&'a [u8]>,
    /// Size of the controlling terminal. Without one, the command gets three streams. If there
    /// is no command, it is the size of the console.
    pub terminal: Option<Size>,
    /// Commands to run before it, one after the other, each with its arguments; none is empty.
    /// They have a meaning only for the command of an image, as have the next three.
    pub before: Vec<Vec<&'a CStr>>,
    /// Whether and when the command starts again.
    pub restart: RestartPolicy,
    /// Number of the signal that asks the command to end ([`signal`]); the default is SIGTERM.
    pub stop_signal: Option<u8>,
    /// Time for the command to end after that signal; the default is [`STOP_TIMEOUT`].
    pub stop_timeout: Option<Duration>,
    /// Absolute paths of directories that the command may write to, even in a read-only root.
    pub image_volumes: Vec<&'a [u8]>,
    /// Health check of the command.
    pub health: Health<'a>,
}

impl<'a> Command<'a> {
    /// Reads the text of [`IMAGE_FILE`].
    ///
    /// # Errors
    /// A record has no meaning in an image, or there is no command.
    pub fn parse(text: &'a [u8]) -> Result<Self> {
        let mut command = Self::default();
        take_all(text, &mut |key, value| command.take(key, value)).map_err(|record| {
            Error::new(
                format_args!("read {IMAGE_FILE}: unknown record \"{}\"", show(record)),
                "virtinitrd(7) lists the known records; each is ended by NUL",
            )
        })?;
        match command.args.is_empty() {
            true => Err(Error::new(format_args!("read {IMAGE_FILE}: no command"), "it needs arg=")),
            false => Ok(command),
        }
    }

    /// Takes what a run file says about a command. The rest of it is for [`super::Settings`].
    pub fn add(&mut self, run_file: &'a [u8]) {
        let mut add = |key: &str, value| {
            self.take(key, value);
            Some(())
        };
        // Somebody has read all of the file before.
        let _ = take_all(run_file, &mut add);
    }

    pub(super) fn take(&mut self, key: &str, value: &'a CStr) -> Option<()> {
        let bytes = value.to_bytes();
        match key {
            "arg" => self.args.push(value),
            "env" => self.env.push(value),
            "cwd" => (self.cwd, self.missing_cwd) = (Some(value), MissingCwd::Refuse),
            "make-cwd" => (self.cwd, self.missing_cwd) = (Some(value), MissingCwd::Make),
            "user" => self.user = Some(bytes),
            "stop-signal" => {
                let number = u8::try_from(number(bytes)?).ok()?;
                self.stop_signal = Some(number).filter(|number| signal::is_valid(*number));
                self.stop_signal?;
            }
            "image-volume" => {
                let path = Some(bytes).filter(|path| path.starts_with(b"/"))?;
                self.image_volumes.push(path);
            }
            "before" => self.before.push([value].into()),
            "before-arg" => self.before.last_mut()?.push(value),
            "stop-timeout" => self.stop_timeout = Some(from_millis(number(bytes)?)),
            "restart" => self.restart.when = named(&RESTARTS, bytes)?,
            "restart-max" => self.restart.max = Some(u32::try_from(number(bytes)?).ok()?),
            "restart-backoff" => self.restart.backoff = Backoff::parse(bytes)?,
            "no-health" => self.health.args.clear(),
            "health-arg" => self.health.args.push(value),
            "health" => self.health.schedule = Schedule::parse(bytes)?,
            "health-on-failure" => self.health.unhealthy = named(&UNHEALTHY, bytes)?,
            _ => return None,
        }
        Some(())
    }
}
