//! `chrootvm image inspect`: what an image has, and the command it runs.
//!
//! | Module | Content |
//! |---|---|
//! | [`plain`] | facts about a directory, an archive or a disk image |
//! | [`oci`] | facts about an OCI image, of which no layer is read |

pub(super) mod oci;
mod plain;

use std::ffi::OsString;

use anyhow::Result;
use files::notes::Notes;
use files::tell;
use serde::Serialize;

use self::oci::OciFacts;
use self::plain::PlainFacts;
use super::options::reading;
use super::sources::{Opened, Sources};
use crate::json;
use crate::logger::warn_all;
use crate::pull::PullArguments;

/// A line for people: the name of a fact, and the fact.
type Line = (&'static str, String);

/// Describe an image and its contents
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:\n  chrootvm image inspect debian.erofs\n  chrootvm image inspect oci:debian:12 --json"
)]
pub(super) struct InspectImage {
    /// Directory, archive or image; - is standard input
    image: OsString,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pull: PullArguments,
}

impl InspectImage {
    /// Prints a line for each fact, or one JSON object.
    pub(super) fn run(self) -> Result<()> {
        let sources = Sources::new(&[&self.image], &[], reading(), &self.pull)?;
        let mut notes = Notes::default();
        let opened = sources.open(&self.image, &mut notes)?;
        warn_all(notes.lines());
        match opened {
            Opened::Plain(source) => {
                let facts = PlainFacts::of(&source)?;
                self.print(&facts, PlainFacts::lines)
            }
            Opened::Oci(source) => {
                let facts = OciFacts::of(&source.image)?;
                self.print(&facts, OciFacts::lines)
            }
        }
    }

    fn print<T: Serialize>(&self, facts: &T, lines: fn(&T) -> Vec<Line>) -> Result<()> {
        match self.json {
            true => tell::result(json::text(facts)?),
            false => print(&lines(facts)),
        }
    }
}

/// Prints the facts, one a line. If facts with the same name follow each other, the first one
/// shows the name.
fn print(lines: &[Line]) -> Result<()> {
    let mut last = "";
    for (name, value) in lines {
        let shown = if *name == last { "" } else { name };
        tell::result(format_args!("{shown:<12} {value}\n"))?;
        last = name;
    }
    Ok(())
}
