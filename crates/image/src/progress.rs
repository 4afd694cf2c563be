//! Progress of writing an image, as a bar.
//!
//! Interface: the crate `indicatif`. The bar is shown on a terminal only.

use std::io::Write;

use indicatif::{ProgressBar, ProgressStyle};

use crate::tree::{Kind, Tree};

/// Bytes that the bar counts for a node without its contents: a header of tar.
const NODE: u64 = 512;

/// Layout of the bar.
const BAR: &str = "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {eta}";

/// Progress bar on standard error; it is removed when it is dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar for writing all of `tree`. On anything but a terminal, the bar is not shown.
    #[must_use]
    pub fn bar(tree: &Tree, message: String) -> Self {
        let sizes = tree.nodes().map(|node| match &node.kind {
            Kind::File(content) => NODE.saturating_add(content.size()),
            _ => NODE,
        });
        let total = sizes.fold(0, u64::saturating_add);
        let bar = ProgressBar::new(total);
        // The default style is never used, because the template is valid.
        bar.set_style(
            ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_message(message);
        Self { bar }
    }

    /// No bar.
    #[must_use]
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden() }
    }

    /// A writer to `out` that moves the bar by the number of bytes written.
    pub fn wrap<W: Write>(&self, out: W) -> impl Write {
        self.bar.wrap_write(out)
    }

    /// Moves the bar by one node without its contents.
    pub fn node(&self) {
        self.add(NODE);
    }

    /// Moves the bar by `count` bytes.
    pub fn add(&self, count: u64) {
        self.bar.inc(count);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
