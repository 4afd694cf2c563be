//! Records of the run file, which describe a command and the settings of its machine.
//!
//! The [crate's documentation](crate) lists them. The host writes [`Record`]s into the run
//! file, which is a segment of the initrd, or sends them over a control channel: for a machine
//! that waits for its orders, and for one more session. An image may have the records of its own command in [`IMAGE_FILE`].
//! `/init` reads them as [`Settings`] or [`Command`].

mod command;
pub mod health;
pub mod restart;

use alloc::format;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::time::Duration;

use crate::error::{Error, Result};
use crate::text::show;
use crate::volume::{Volume, VolumeKind};
use crate::words::{self, name_in, number, numbers};

pub use command::{Command, MissingCwd, STOP_TIMEOUT};
use health::{Schedule, UNHEALTHY, Unhealthy};
use restart::{Backoff, RESTARTS, Restart};

/// Name of the run file, in the root directory of the initramfs.
pub const FILE: &str = "virtinit.run";

/// Path of the file with an image's own command, which runs if the host gives none.
pub const IMAGE_FILE: &str = "/etc/virtinit/run";

/// Longest text of all records in bytes, because the memory of `/init` is small.
pub const MAX: usize = 1 << 20;

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Number of lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// All records of a run file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings<'a> {
    /// Host name of the guest.
    pub hostname: Option<&'a [u8]>,
    /// Volumes in the order in which they are mounted; files are mounted after all directories.
    pub volumes: Vec<Volume<'a>>,
    /// Whether to set up QEMU's user network.
    pub network: bool,
    /// Whether the guest powers off by itself: no host waits for the status of the command.
    pub alone: bool,
    /// Whether the command is a workload: PID 1 obeys orders to end the machine while it runs. If
    /// there are no `args`, it is the command of [`IMAGE_FILE`], whose records come before those
    /// of this file.
    pub workload: bool,
    /// Words of the kernel command line that only this run has.
    pub words: &'a [u8],
    /// Time of day, in nanoseconds since 1970.
    pub time: Option<u64>,
    /// Random bytes for the kernel; empty if there are none.
    pub seed: &'a [u8],
    /// The command; the run file has no command if `args` is empty.
    pub command: Command<'a>,
}

/// One record as the host writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// One more word of the command.
    Arg(&'a [u8]),
    /// An environment variable `NAME=VALUE`.
    Env(&'a [u8]),
    /// Working directory of the command, which must exist.
    Cwd(&'a [u8]),
    /// Working directory of the command, which is made if it is missing.
    MakeCwd(&'a [u8]),
    /// User and group of the command.
    User(&'a [u8]),
    /// First word of one more command to run before the command.
    Before(&'a [u8]),
    /// One more word of the last of those commands.
    BeforeArg(&'a [u8]),
    /// After which end the command starts again.
    Restart(Restart),
    /// Most starts after the first one.
    RestartMax(u32),
    /// Pauses before the command starts again.
    RestartBackoff(Backoff),
    /// Number of the signal that asks the command to end.
    StopSignal(u8),
    /// Time for the command to end after that signal. Parts of a millisecond count as a whole
    /// one.
    StopTimeout(Duration),
    /// One more directory that the command may write to.
    ImageVolume(&'a [u8]),
    /// The words of the health check so far do not count.
    NoHealth,
    /// One more word of the health check.
    HealthArg(&'a [u8]),
    /// Times and limits of the health check.
    Health(Schedule),
    /// What happens if the command is unhealthy.
    Unhealthy(Unhealthy),
    /// A terminal of this size for the command, or the size of the console without a command.
    Terminal(Size),
    /// Host name of the guest.
    Hostname(&'a [u8]),
    /// One more volume.
    Volume(Volume<'a>),
    /// Set up QEMU's user network.
    Network,
    /// Power off after the command.
    Alone,
    /// The command is a workload; without words of its own, it is that of the image.
    Workload,
    /// Words of the kernel command line that only this run has. Those of the kernel come last,
    /// and win.
    Words(&'a [u8]),
    /// Time of day, in nanoseconds since 1970.
    Time(u64),
    /// Random bytes for the guest's kernel, none of them NUL.
    Seed(&'a [u8]),
}

impl Record<'_> {
    /// The bytes of the record without its NUL.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (key, value) = match *self {
            Self::Arg(value) => ("arg", value.to_vec()),
            Self::Env(value) => ("env", value.to_vec()),
            Self::Cwd(value) => ("cwd", value.to_vec()),
            Self::MakeCwd(value) => ("make-cwd", value.to_vec()),
            Self::User(value) => ("user", value.to_vec()),
            Self::Before(value) => ("before", value.to_vec()),
            Self::BeforeArg(value) => ("before-arg", value.to_vec()),
            Self::StopSignal(number) => ("stop-signal", format!("{number}").into_bytes()),
            Self::StopTimeout(time) => ("stop-timeout", format!("{}", millis(time)).into_bytes()),
            Self::ImageVolume(path) => ("image-volume", path.to_vec()),
            Self::NoHealth => ("no-health", b"1".to_vec()),
            Self::HealthArg(value) => ("health-arg", value.to_vec()),
            Self::Health(schedule) => ("health", schedule.to_value()),
            Self::Unhealthy(unhealthy) => {
                ("health-on-failure", name_in(&UNHEALTHY, &unhealthy).into())
            }
            Self::Restart(restart) => ("restart", name_in(&RESTARTS, &restart).into()),
            Self::RestartMax(count) => ("restart-max", format!("{count}").into_bytes()),
            Self::RestartBackoff(backoff) => ("restart-backoff", backoff.to_value()),
            Self::Hostname(value) => ("hostname", value.to_vec()),
            Self::Terminal(size) => {
                ("terminal", format!("{} {}", size.rows, size.columns).into_bytes())
            }
            Self::Volume(volume) => volume.key_and_value(),
            Self::Network => ("network", b"user".to_vec()),
            Self::Alone => ("alone", b"1".to_vec()),
            Self::Workload => ("workload", b"1".to_vec()),
            Self::Words(words) => ("words", words.to_vec()),
            Self::Time(time) => ("time", format!("{time}").into_bytes()),
            Self::Seed(seed) => ("seed", seed.to_vec()),
        };
        [key.as_bytes(), b"=", &value].concat()
    }
}

/// A time of so many milliseconds.
#[inline(never)] // one copy instead of one at each call
pub(crate) fn from_millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Milliseconds in 64 bits, enough for half a billion years. Parts of one count as a whole one.
pub(crate) fn millis(time: Duration) -> u64 {
    let rest = u64::from(time.subsec_nanos().div_ceil(1_000_000));
    time.as_secs().saturating_mul(1_000).saturating_add(rest)
}

/// The text of a run file with these records.
#[must_use]
pub fn encode(records: &[Record<'_>]) -> Vec<u8> {
    records.iter().flat_map(|record| [record.to_bytes(), [0].into()].concat()).collect()
}

impl<'a> Settings<'a> {
    /// Reads the text of a run file.
    ///
    /// # Errors
    /// A record is unknown: `/init` in the initrd has another version than the chrootvm that
    /// wrote the file.
    pub fn parse(text: &'a [u8]) -> Result<Self> {
        let mut settings = Self::default();
        take_all(text, &mut |key, value| settings.take(key, value)).map_err(|record| {
            Error::new(
                format_args!("read /{FILE}: unknown record \"{}\"", show(record)),
                "chrootvm and /init are of different versions",
            )
        })?;
        Ok(settings)
    }

    fn take(&mut self, key: &str, value: &'a CStr) -> Option<()> {
        let bytes = value.to_bytes();
        match key {
            "terminal" => self.command.terminal = Some(Size::parse(bytes)?),
            "hostname" => self.hostname = Some(bytes),
            "network" => self.network = true,
            "alone" => self.alone = true,
            "workload" => self.workload = true,
            "words" => self.words = bytes,
            "time" => self.time = Some(number(bytes)?),
            "seed" => self.seed = bytes,
            _ => match VolumeKind::of_key(key) {
                Some(kind) => self.volumes.push(Volume::parse(kind, bytes)?),
                None => return self.command.take(key, value),
            },
        }
        Some(())
    }
}

/// Passes each record of `text` to `take`.
///
/// # Errors
/// The first record that is malformed, or for which `take` returns `None`.
fn take_all<'a>(
    text: &'a [u8],
    take: &mut dyn FnMut(&str, &'a CStr) -> Option<()>,
) -> Result<(), &'a [u8]> {
    let mut take_one = |record: &'a [u8]| {
        let at = record.iter().position(|&byte| byte == b'=')?;
        let value = CStr::from_bytes_with_nul(record.get(at + 1..)?).ok()?;
        take(words::text(record.get(..at)?), value)
    };
    text.split_inclusive(|&byte| byte == 0).try_for_each(|record| take_one(record).ok_or(record))
}

impl Size {
    /// Reads `ROWS COLUMNS` in decimal.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let [rows, columns] = numbers(text)?;
        Some(Self { rows: u16::try_from(rows).ok()?, columns: u16::try_from(columns).ok()? })
    }
}

#[cfg(test)]
mod tests;
