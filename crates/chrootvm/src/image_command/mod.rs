//! `chrootvm image`: one file or room for each subcommand, and for what they share:
//!
//! | Module | Content |
//! |---|---|
//! | `sources` | what SOURCE and IMAGE name, and how it is opened |
//! | `options` | options for reading, and parsers of their values |
//!
//! Subcommands read sources and write images through the crates `image` and `oci`.

mod build;
mod cat;
mod check;
mod convert;
mod diff;
mod inspect;
mod layers;
pub mod ls;
mod options;
mod pack;
mod recipe;
mod sources;
mod unpack;
mod verify;
mod write;

pub use recipe::{guarded, kept_steps};

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use files::tell::while_read;
use machine::isolation::userns::UserNamespace;

pub use write::mkfs::rootdir;

use crate::logger::{Verbosity, set_verbosity, warn_all};

/// Exit status of a comparison or a check that found something.
const EXIT_FOUND: u8 = 1;

/// Make images of directories, archives and OCI images, and look into them
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  chrootvm image build oci:debian:12 -o debian.erofs",
    after_long_help = "SOURCE and IMAGE are one of\n  \
        DIR                            directory, or the layout of an OCI image\n  \
        FILE                           cpio, tar, erofs, ext4, squashfs, or an archive\n                                 \
        of an OCI image\n  \
        -                              such a FILE as standard input\n  \
        oci:REF                        OCI image in a registry, as docker://REF\n  \
        oci-layout:DIR[:TAG|@DIGEST]   OCI image in a layout\n  \
        oci-archive:FILE[:TAG|@DIGEST] OCI image in an archive of a layout\n  \
        docker-archive:FILE[:REF]      image that `docker save` wrote\n\n\
        What is fetched from a registry is kept below $XDG_CACHE_HOME/virtinitrd/oci."
)]
pub struct Image {
    /// The /init binary for --init and --boot-initrd
    #[arg(long, value_name = "FILE", hide = true)]
    init_binary: Option<PathBuf>,
    /// Print errors only
    #[arg(short, long, global = true, hide_short_help = true)]
    quiet: bool,
    #[command(subcommand)]
    task: ImageTask,
}

#[derive(Debug, clap::Subcommand)]
enum ImageTask {
    Build(Box<build::BuildImage>),
    Cat(cat::CatFile),
    Check(check::CheckRecipe),
    Convert(convert::ConvertFile),
    Diff(diff::DiffImages),
    Inspect(inspect::InspectImage),
    Layers(layers::ListLayers),
    Ls(ls::ListImage),
    Pack(pack::PackRecipe),
    Unpack(unpack::UnpackRecipe),
    Verify(verify::VerifyImage),
}

impl Image {
    /// Runs the subcommand, and returns the exit status.
    pub fn run(self) -> Result<ExitCode> {
        if self.quiet {
            set_verbosity(Verbosity::Quiet);
        }
        let done = |result: Result<()>| result.map(|()| ExitCode::SUCCESS);
        match self.task {
            ImageTask::Build(task) => task.run(self.init_binary),
            ImageTask::Check(task) => task.run(),
            ImageTask::Convert(task) => task.run(),
            ImageTask::Cat(task) => done(while_read(task.run())),
            ImageTask::Diff(task) => task.run(),
            ImageTask::Inspect(task) => done(while_read(task.run())),
            ImageTask::Layers(task) => done(while_read(task.run())),
            ImageTask::Ls(task) => done(while_read(task.run())),
            ImageTask::Pack(task) => task.run(),
            ImageTask::Unpack(task) => task.run(),
            ImageTask::Verify(task) => task.run(),
        }
    }
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
