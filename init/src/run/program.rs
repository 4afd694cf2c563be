//! The choice of the program that the machine runs.
//!
//! A command of the host comes first, then `init=`, then the command in the root's own
//! file, then `/bin/sh`. In a root that the kernel has mounted, `init=` names `/init`
//! itself, and the words after `--` are a command.

use alloc::boxed::Box;
use alloc::ffi::CString;
use alloc::vec::Vec;

use proto::settings::{Command, IMAGE_FILE, Settings};
use rustix::io::Errno;

use crate::cmdline::Config;
use crate::cmdline::config::DEFAULT_INIT;
use crate::root::mount::BootedFrom;
use crate::root::new_root::NewRoot;
use crate::sys::error::{Context, Result};
use crate::sys::file;

/// The program, and how to run it.
#[derive(Debug, PartialEq, Eq)]
pub enum Program<'a> {
    /// The command of the host, in a session: the host has its streams.
    Session,
    /// The command of the image or the command line, supervised by PID 1.
    Workload(Box<Command<'a>>),
    /// `init=` or its default, which becomes PID 1.
    Payload,
}

/// Origin of the description of the program.
#[derive(Debug)]
pub enum Origin {
    /// The run file of the host.
    RunFile,
    /// The root's [`IMAGE_FILE`], with this text.
    Image(Vec<u8>),
    /// The words after `--` on the command line.
    Words(Vec<CString>),
    /// `init=` on the command line, or its default.
    Init,
}

impl<'a> Program<'a> {
    /// The records that describe the program; those of the host, unless it is a workload.
    #[must_use]
    pub fn command<'b>(&'b self, settings: &'b Settings<'a>) -> &'b Command<'a> {
        match self {
            Self::Workload(command) => command,
            Self::Session | Self::Payload => &settings.command,
        }
    }
}

impl Origin {
    /// Finds the origin of the program's description.
    pub fn find(
        settings: &Settings<'_>,
        booted_from: BootedFrom,
        config: &Config<'_>,
        root: &NewRoot,
    ) -> Result<Self> {
        if !settings.command.args.is_empty() {
            return Ok(Self::RunFile);
        }
        if booted_from == BootedFrom::Initramfs && config.has_init {
            return Ok(Self::Init);
        }
        let text = root.read(IMAGE_FILE.as_bytes());
        match (text.context(format_args!("read {IMAGE_FILE}"))?, booted_from) {
            (Some(text), _) => Ok(Self::Image(text)),
            // The host waits for the workload.
            (None, BootedFrom::Initramfs) if settings.workload => {
                Err(Errno::NOENT).context(format_args!("read {IMAGE_FILE}"))
            }
            (None, BootedFrom::Initramfs) => Ok(Self::Init),
            (None, BootedFrom::Root) => words(config).map(Self::Words),
        }
    }

    /// Reads the description of the program. The command of an image obeys the `settings` of the
    /// host, whose text is `run_file`.
    pub fn program<'a>(
        &'a self,
        settings: &Settings<'_>,
        run_file: &'a [u8],
    ) -> Result<Program<'a>> {
        Ok(match self {
            Self::RunFile => Program::Session,
            Self::Init => Program::Payload,
            Self::Image(text) => {
                let mut command = Command::parse(text)?;
                command.add(run_file);
                command.terminal = settings.command.terminal;
                Program::Workload(Box::new(command))
            }
            Self::Words(words) => {
                let args = words.iter().map(AsRef::as_ref).collect();
                Program::Workload(Box::new(Command { args, ..Command::default() }))
            }
        })
    }
}

/// The words after `--`, or a shell if there are none.
fn words(config: &Config<'_>) -> Result<Vec<CString>> {
    let mut words = Vec::new();
    for word in &config.args {
        words.push(file::c_string(&[word]).context(format_args!("read the words after --"))?);
    }
    if words.is_empty() {
        words.push(file::c_string(&[DEFAULT_INIT]).unwrap_or_default());
    }
    Ok(words)
}
