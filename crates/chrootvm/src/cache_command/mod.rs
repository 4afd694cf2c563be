//! `chrootvm cache`: what is kept below this user's cache directory, listed, checked and removed.
//!
//! | Module | Content |
//! |---|---|
//! | `entry` | one thing that is kept, and the rules by which it is removed |
//! | `kept` | finds and removes entries: images and their parts, kernels, templates |
//! | `table` | the list for people, and for programs |
//!
//! What a process uses is never removed, and neither is the small kernel that
//! `--kernel-builtin` boots. Everything else can be made again.

mod entry;
mod kept;
mod table;

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use files::tell;

use self::entry::Rule;
use self::kept::Kept;
use crate::line::sizes::parse_size;
use crate::line::values::parse_duration;

/// List, check and remove what is kept: images, their layers, kernels, templates
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:\n  \
                         chrootvm cache ls\n  \
                         chrootvm cache verify")]
pub struct CacheCommand {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, clap::Subcommand)]
enum Task {
    Ls(Ls),
    Prune(Prune),
    Verify(Verify),
    Dir(Dir),
}

/// List what is kept, the least recently used first
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  chrootvm cache ls\n  chrootvm cache ls --json",
    after_long_help = "The kinds are: image, the root file system of an OCI image, ready to boot; layer, an\n\
                       unpacked layer; blob, a layer or a document as the registry sent it; unpacked, a\n\
                       kernel that was taken out of its image; kernel, one of `chrootvm kernel build`;\n\
                       template, a machine that was saved when it was ready for a command; answer, what QEMU\n\
                       or virtiofsd said about itself; step, a layer or an output of a recipe."
)]
struct Ls {
    /// Print JSON
    ///
    /// It is an object with dir, size and entries; an entry has kind, name, label, size (bytes on the
    /// disk), used (seconds since 1970), in_use and complete.
    #[arg(long)]
    json: bool,
}

/// Remove what is kept, but nothing that is in use
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  chrootvm cache prune --older 30d\n  chrootvm cache prune --all",
    group = clap::ArgGroup::new("rule").required(true)
)]
struct Prune {
    /// Remove everything
    #[arg(long, group = "rule")]
    all: bool,
    /// Remove what was not used for this long: 12h, 30d
    #[arg(long, group = "rule", value_name = "DURATION", value_parser = parse_duration)]
    older: Option<Duration>,
    /// Remove what was not used for the longest time, until at most SIZE is left: 500M, 5G
    #[arg(long, group = "rule", value_name = "SIZE", value_parser = parse_size)]
    to: Option<u64>,
}

/// Read everything that is kept of OCI images, and remove what is damaged
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  chrootvm cache verify",
    after_help = "What is removed is fetched or made again when it is needed. The exit status is 1 if\n\
                  something was damaged."
)]
struct Verify {}

/// Print the directory
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:\n  chrootvm cache dir")]
struct Dir {}

impl CacheCommand {
    /// Runs the subcommand.
    ///
    /// # Errors
    /// There is no cache directory; a file in it cannot be read or removed.
    pub fn run(self) -> Result<ExitCode> {
        let kept = Kept::of_user()?;
        match self.task {
            Task::Ls(Ls { json }) => tell::result(match json {
                true => table::json(&kept.dir(), &kept.list()?)?,
                false => table::lines(&kept.dir(), &kept.list()?, SystemTime::now()),
            })?,
            Task::Prune(prune) => {
                let removed = kept.prune(&prune.rule())?;
                tell::result(table::removed(&removed))?;
            }
            Task::Verify(Verify {}) => return kept.verify(),
            Task::Dir(Dir {}) => tell::result(format_args!("{}\n", kept.dir().display()))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Prune {
    fn rule(&self) -> Rule {
        match (self.older, self.to) {
            // A time before all others removes nothing.
            (Some(age), _) => {
                Rule::Before(SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH))
            }
            (None, Some(size)) => Rule::To(size),
            (None, None) => Rule::All,
        }
    }
}
