//! `chrootvm image verify`: reads every byte of an image, and names damaged files.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use anyhow::Result;
use files::tell;
use image::tree::holes;
use image::tree::{Kind, show};
use oci::layer::fault::LayerFault;

use super::EXIT_FOUND;
use super::options::reading;
use super::sources::Sources;
use crate::pull::PullArguments;

/// Read every byte of an image; exits with 1 if something is damaged
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:\n  chrootvm image verify debian.erofs")]
pub(super) struct VerifyImage {
    /// Directory, archive or image; - is standard input
    image: OsString,
    #[command(flatten)]
    pull: PullArguments,
}

impl VerifyImage {
    /// Names each file or layer that cannot be read, then prints a summary.
    pub(super) fn run(self) -> Result<ExitCode> {
        let sources = Sources::new(&[&self.image], &[], reading(), &self.pull)?.without_cache();
        let name = show(self.image.as_bytes());
        let source = match sources.read(&self.image) {
            Err(error) if error.is::<LayerFault>() => {
                tell::note(format_args!("{error:#}"));
                tell::result(format_args!("{name}: OCI image, damaged\n"))?;
                return Ok(ExitCode::from(EXIT_FOUND));
            }
            source => source?,
        };
        let tree = &source.tree;
        let (mut bytes, mut damaged) = (0_u64, 0_u64);
        tree.walk(&mut |path, id| {
            let Kind::File(content) = &tree.node(id).kind else { return Ok(()) };
            // Holes are skipped: they hold no bytes that could be damaged.
            match holes::for_parts(content, &mut |_| Ok(())) {
                Ok(()) => bytes = bytes.saturating_add(content.size()),
                Err(error) => {
                    tell::note(format_args!("{}: {error:#}", show(path)));
                    damaged += 1;
                }
            }
            Ok(())
        })?;
        let (found, status) = match damaged {
            0 => {
                let files = tree.nodes().count();
                (format!("{files} files, {bytes} bytes, no damage"), ExitCode::SUCCESS)
            }
            _ => (format!("{damaged} files are damaged"), ExitCode::from(EXIT_FOUND)),
        };
        tell::result(format_args!("{name}: {}, {found}\n", source.kind.name()))?;
        Ok(status)
    }
}
