//! `chrootvm image`: one file for each subcommand, and `options` for what they share.
//!
//! Subcommands read sources and write images through the crate `image`.

mod build;
mod cat;
mod diff;
mod inspect;
pub mod ls;
mod options;
mod verify;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use archive::spool::TooLarge;
use files::notes::Notes;
use files::tell::while_read;
use image::source::{self, ReadOptions, Source};
use machine::isolation::userns::UserNamespace;

use crate::logger::warn_all;

/// Exit status of a comparison or a check that found something.
const EXIT_FOUND: u8 = 1;

/// Make images of directories and archives, and look into them
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  \
                   chrootvm image build ./debian -o debian.erofs\n  \
                   chrootvm image ls debian.erofs\n  \
                   chrootvm image cat debian.erofs /etc/os-release",
    after_help = "SOURCE and IMAGE are a directory, or a file: cpio or tar, compressed or not, \
                  erofs, ext4 or squashfs; - is standard input."
)]
pub struct Image {
    /// The /init binary for --init and --boot-initrd
    #[arg(long, value_name = "FILE", hide = true)]
    init_binary: Option<PathBuf>,
    #[command(subcommand)]
    task: ImageTask,
}

#[derive(Debug, clap::Subcommand)]
enum ImageTask {
    Build(Box<build::BuildImage>),
    Cat(cat::CatFile),
    Diff(diff::DiffImages),
    Inspect(inspect::InspectImage),
    Ls(ls::ListImage),
    Verify(verify::VerifyImage),
}

impl Image {
    /// Runs the subcommand, and returns the exit status.
    pub fn run(self) -> Result<ExitCode> {
        let done = |result: Result<()>| result.map(|()| ExitCode::SUCCESS);
        match self.task {
            ImageTask::Build(task) => done(task.run(self.init_binary)),
            ImageTask::Cat(task) => done(while_read(task.run())),
            ImageTask::Diff(task) => task.run(),
            ImageTask::Inspect(task) => done(while_read(task.run())),
            ImageTask::Ls(task) => done(while_read(task.run())),
            ImageTask::Verify(task) => task.run(),
        }
    }
}

/// Reads the source at `path`, and logs its warnings.
fn open(path: &Path, options: &ReadOptions) -> Result<Source> {
    let mut notes = Notes::default();
    let source = read(path, options, &mut notes)?;
    warn_all(notes.lines());
    Ok(source)
}

/// Reads the source at `path`. An error about its size names the option that helps.
fn read(path: &Path, options: &ReadOptions, notes: &mut Notes) -> Result<Source> {
    source::open(path, options, notes).map_err(|error| match error.downcast_ref() {
        Some(TooLarge { .. }) => anyhow!("{error:#} (--max-size SIZE sets another limit)"),
        None => error,
    })
}

/// Enters the user namespace in which chrootvm serves a user's own directory, so that
/// files have the owners that a guest sees. On the host, the user's subordinate ids own
/// them. Call it before the program has threads: setns(2) fails for a process with
/// several threads.
///
/// # Errors
/// Those of setns(2). If no namespace can be made, a warning says so.
fn see_owners_as_the_guest(directories: &[&Path]) -> Result<()> {
    let own = nix::unistd::geteuid();
    let is_own = |path: &&Path| {
        path.metadata().is_ok_and(|found| found.is_dir() && found.uid() == own.as_raw())
    };
    if own.is_root() || !directories.iter().any(is_own) {
        return Ok(());
    }
    match UserNamespace::new() {
        Ok(namespace) => {
            namespace.enter()?;
            // Log only after entering: a message may leave a thread behind, and only a
            // process with one thread can enter.
            if let Some(lack) = namespace.missing_ids() {
                log::warn!("files of others are nobody's: {lack}");
            }
            warn_all(&namespace.left_out);
            Ok(())
        }
        Err(error) => {
            log::warn!("owners are those of the host: {error:#}");
            Ok(())
        }
    }
}
