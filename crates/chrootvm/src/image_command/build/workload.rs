//! The workload that `chrootvm image build --run` puts into an image.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;
use image::edit::inject::{self, Workload};
use image::tree::Tree;
use proto::settings::Restart;

use super::super::options::{parse_absolute, parse_pair, parse_restart};

/// The command that an image runs, and its surroundings
#[derive(Debug, clap::Args)]
pub(super) struct WorkloadOptions {
    /// Make COMMAND the workload of the image
    ///
    /// It is written to /etc/virtinit/run. /init runs it if neither chrootvm nor the kernel command
    /// line names another command.
    #[arg(long, requires = "command")]
    run: bool,
    /// Set a variable for COMMAND; repeatable
    #[arg(long, hide_short_help = true, value_name = "NAME=VALUE", requires = "run", value_parser = parse_pair)]
    env: Vec<OsString>,
    /// Directory in which COMMAND starts [default: /]
    #[arg(long, hide_short_help = true, value_name = "DIR", requires = "run", value_parser = parse_absolute)]
    workdir: Option<OsString>,
    /// User of COMMAND in the guest, a name or a number [default: root]
    #[arg(long, hide_short_help = true, value_name = "USER[:GROUP]", requires = "run")]
    user: Option<OsString>,
    /// Whether COMMAND starts again after its end: no, on-failure or always
    #[arg(long, hide_short_help = true, value_name = "WHEN", requires = "run", default_value = "no",
          value_parser = parse_restart)]
    restart: Restart,
    /// Command of --run, and its arguments
    #[arg(last = true, value_name = "COMMAND", requires = "run")]
    command: Vec<OsString>,
}

impl WorkloadOptions {
    /// Adds the run file to `tree` if the options ask for it.
    ///
    /// # Errors
    /// A file in place of one of the directories above the run file.
    pub(super) fn apply(&self, tree: &mut Tree, mtime: i64) -> Result<()> {
        match self.run {
            true => inject::workload(tree, &self.command_to_run(), mtime),
            false => Ok(()),
        }
    }

    fn command_to_run(&self) -> Workload<'_> {
        Workload {
            args: self.command.iter().map(|word| word.as_bytes()).collect(),
            env: self.env.iter().map(|pair| pair.as_bytes()).collect(),
            cwd: self.workdir.as_ref().map(|dir| dir.as_bytes()),
            user: self.user.as_ref().map(|user| user.as_bytes()),
            restart: self.restart,
            ..Workload::default()
        }
    }
}
