//! `chrootvm image layers`: lists the layers of an OCI image.

use std::ffi::OsString;

use anyhow::{Result, bail};
use files::notes::Notes;
use files::tell::{self, show};
use indicatif::HumanBytes;

use super::inspect::oci::{LayerFacts, OciFacts};
use super::options::reading;
use super::sources::{Opened, Sources};
use crate::json;
use crate::pull::PullArguments;

/// List the layers of an OCI image
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:\n  chrootvm image layers oci:debian:12")]
pub(super) struct ListLayers {
    /// OCI image, as for `image build`
    image: OsString,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pull: PullArguments,
}

impl ListLayers {
    /// Prints a line for each layer, the lowest first, or a JSON array.
    pub(super) fn run(self) -> Result<()> {
        let sources = Sources::new(&[&self.image], &[], reading(), &self.pull)?;
        let mut notes = Notes::default();
        let Opened::Oci(source) = sources.open(&self.image, &mut notes)? else {
            bail!("{}: not an OCI image, which has layers", self.image.display());
        };
        let layers = OciFacts::of(&source.image)?.layers;
        match self.json {
            true => tell::result(json::text(&layers)?),
            false => tell::result(table(&layers)),
        }
    }
}

/// Heads of the columns.
const HEADS: [&str; 6] = ["DIGEST", "COMPRESSION", "SIZE", "UNPACKED", "DIFF ID", "CREATED BY"];

/// The layers in columns, which are as wide as their longest values.
fn table(layers: &[LayerFacts]) -> String {
    let size = |bytes: u64| HumanBytes(bytes).to_string();
    let row = |layer: &LayerFacts| {
        [
            layer.digest.clone(),
            layer.compression.to_owned(),
            size(layer.size),
            layer.unpacked_size.map_or("-".into(), size),
            layer.diff_id.clone(),
            layer.created_by.as_ref().map_or("-".into(), |text| show(text.as_bytes())),
        ]
    };
    let rows: Vec<[String; 6]> =
        [HEADS.map(str::to_owned)].into_iter().chain(layers.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..HEADS.len()).filter_map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_values() {
        let layer = |digest: &str, created_by: Option<&str>| LayerFacts {
            digest: digest.into(),
            media_type: String::new(),
            compression: "gzip",
            size: 2048,
            diff_id: "sha256:1".into(),
            unpacked_size: created_by.map(|_| 5),
            created_by: created_by.map(str::to_owned),
        };
        let shown = table(&[layer("sha256:long", Some("RUN a\n\u{1b}b")), layer("x", None)]);
        let expected = "DIGEST       COMPRESSION  SIZE      UNPACKED  DIFF ID   CREATED BY\n\
                        sha256:long  gzip         2.00 KiB  5 B       sha256:1  RUN a\\n\\u{1b}b\n\
                        x            gzip         2.00 KiB  -         sha256:1  -\n";
        assert_eq!(shown, expected);
    }
}
