//! `image verify`: whether all of an image can be read.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::{EXIT_FOUND, open, see_owners_as_the_guest};
use crate::image::tree::{Kind, show};

/// Read every byte of an image; exits with 1 where something is damaged
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// The image
    image: PathBuf,
}

impl Verify {
    /// Names each file that cannot be read.
    pub(super) fn run(self) -> Result<ExitCode> {
        see_owners_as_the_guest(&[&self.image])?;
        let source = open(&self.image)?;
        let tree = &source.tree;
        let (mut bytes, mut damaged) = (0, 0_u64);
        tree.walk(&mut |path, id| {
            let Kind::File(content) = &tree.node(id).kind else { return Ok(()) };
            let copied = content.open().and_then(|mut input| {
                std::io::copy(&mut input, &mut std::io::sink()).context("read")
            });
            match copied {
                Ok(count) => bytes += count,
                Err(error) => {
                    eprintln!("{}: {error:#}", show(path));
                    damaged += 1;
                }
            }
            Ok(())
        })?;
        let name = self.image.display();
        if damaged > 0 {
            println!("{name}: {}, {damaged} files are damaged", source.format);
            return Ok(ExitCode::from(EXIT_FOUND));
        }
        println!(
            "{name}: {}, {} files, {bytes} bytes, no damage",
            source.format,
            tree.nodes().count()
        );
        Ok(ExitCode::SUCCESS)
    }
}
