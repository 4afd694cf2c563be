//! What the machine runs, where several could be meant.
//!
//! A command of the host goes first, then `init=`, then what the root says in its
//! own file, then `/bin/sh`. In a root that the kernel has mounted `init=` names
//! us, and the words after `--` are a command.

use alloc::ffi::CString;
use alloc::vec::Vec;

use virtinitrd_proto::settings::{IMAGE_FILE, Request, Settings};

use crate::cmdline::{Config, DEFAULT_INIT};
use crate::error::{Context, Result};
use crate::file;
use crate::root::{NewRoot, Place};

/// What is run, and how.
#[derive(Debug, PartialEq, Eq)]
pub enum Plan<'a> {
    /// The host's command, whose streams the host has.
    Serve,
    /// A command of the machine's own, below PID 1.
    Supervise(Request<'a>),
    /// `init=` or its default becomes PID 1.
    Execute,
}

/// Where the answer stands.
#[derive(Debug)]
pub enum Choice {
    /// In what the host gave.
    Host,
    /// In the root's file, whose text this is.
    Image(Vec<u8>),
    /// On the command line, as words.
    Words(Vec<CString>),
    /// `init=` or its default.
    Init,
}

impl Choice {
    /// Looks where it stands.
    pub fn make(
        settings: &Settings<'_>,
        place: Place,
        config: &Config<'_>,
        root: &NewRoot,
    ) -> Result<Self> {
        if !settings.request.args.is_empty() {
            return Ok(Self::Host);
        }
        if place == Place::Sysroot && config.has_init {
            return Ok(Self::Init);
        }
        let text = root.read(IMAGE_FILE.as_bytes());
        match (text.context(format_args!("read {IMAGE_FILE}"))?, place) {
            (Some(text), _) => Ok(Self::Image(text)),
            (None, Place::Sysroot) => Ok(Self::Init),
            (None, Place::Slash) => words(config).map(Self::Words),
        }
    }

    /// Reads it.
    pub fn plan(&self) -> Result<Plan<'_>> {
        Ok(match self {
            Self::Host => Plan::Serve,
            Self::Init => Plan::Execute,
            Self::Image(text) => Plan::Supervise(Request::parse(text)?),
            Self::Words(words) => {
                let args = words.iter().map(AsRef::as_ref).collect();
                Plan::Supervise(Request { args, ..Request::default() })
            }
        })
    }
}

/// The words after `--`; a shell where there are none.
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
