//! How far writing is: a bar on a terminal, nothing elsewhere.

use std::io::Write;

use indicatif::{ProgressBar, ProgressStyle};

use super::tree::{Kind, Tree};

/// Bytes that a node takes beside its contents, for the bar: a header of tar.
const NODE: u64 = 512;

const BAR: &str = "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {eta}";

/// Goes when it is dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar for what writes contents one by one.
    #[must_use]
    pub fn bar(tree: &Tree, message: String) -> Self {
        let sizes = tree.nodes().map(|node| match &node.kind {
            Kind::File(content) => NODE.saturating_add(content.size()),
            _ => NODE,
        });
        let total = sizes.fold(0, u64::saturating_add);
        let bar = ProgressBar::new(total);
        // The template is ours: the default takes its place in no case.
        bar.set_style(
            ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_message(message);
        Self { bar }
    }

    /// Moves with what is written to `out`.
    pub fn wrap<W: Write>(&self, out: W) -> impl Write {
        self.bar.wrap_write(out)
    }

    /// Moves by what a node takes without its contents.
    pub fn node(&self) {
        self.add(NODE);
    }

    /// Moves by `count` bytes.
    pub fn add(&self, count: u64) {
        self.bar.inc(count);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
