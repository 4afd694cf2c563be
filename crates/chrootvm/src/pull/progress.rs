//! Progress of reading an image: a bar for each layer on a terminal, else lines.
//!
//! Interface: the crate `indicatif`. `--quiet` shows nothing: then the logger takes no notes.

use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use log::Level;
use oci::progress::{LayerState, Progress};

/// Layout of a bar.
const BAR: &str = "{msg:12} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}";

/// Most bars at a time: an image may have more layers than a terminal has lines.
const BARS_MAX: usize = 16;

/// Where progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Display {
    /// A bar for each layer, on a terminal.
    Bars,
    /// A line for each layer that is done.
    Lines,
    /// Nowhere.
    Nothing,
}

/// Shows how the layers of an image are read.
#[derive(Debug)]
pub struct LayerProgress {
    display: Display,
    layers: Mutex<Layers>,
}

#[derive(Debug, Default)]
struct Layers {
    /// Size of each layer in bytes.
    sizes: Vec<u64>,
    /// The bars, on a terminal; they end with this.
    bars: Option<(MultiProgress, Vec<ProgressBar>)>,
}

impl LayerProgress {
    /// Progress of an image that is read from a registry, if `is_remote`, or from a file. A file
    /// has bars, but no lines: it is read quickly.
    #[must_use]
    pub fn new(is_remote: bool) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let display = match (log::log_enabled!(Level::Info), is_terminal, is_remote) {
            (true, true, _) => Display::Bars,
            (true, false, true) => Display::Lines,
            _ => Display::Nothing,
        };
        Self { display, layers: Mutex::default() }
    }

    fn layers_mut(&self) -> MutexGuard<'_, Layers> {
        // The state is whole even if a thread died with the lock.
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for LayerProgress {
    fn layers(&self, sizes: &[u64]) {
        let mut layers = self.layers_mut();
        sizes.clone_into(&mut layers.sizes);
        if self.display == Display::Bars {
            layers.bars = Some(bars(sizes));
        }
    }

    fn layer(&self, number: usize, state: LayerState) {
        let layers = self.layers_mut();
        if self.display == Display::Lines
            && let Some(text) = line(&layers.sizes, number, state)
        {
            log::info!("{text}");
        }
        if let Some(bar) = layers.bars.as_ref().and_then(|(_, bars)| bars.get(number)) {
            match state {
                LayerState::Reading => {}
                LayerState::Present | LayerState::Done => bar.finish(),
            }
        }
    }

    fn bytes(&self, number: usize, count: u64) {
        let layers = self.layers_mut();
        if let Some(bar) = layers.bars.as_ref().and_then(|(_, bars)| bars.get(number)) {
            bar.inc(count);
        }
    }
}

impl Drop for LayerProgress {
    fn drop(&mut self) {
        if let Some((all, _)) = &self.layers_mut().bars {
            // An error means that standard error is gone: nobody sees the bars.
            let _ = all.clear();
        }
    }
}

fn bars(sizes: &[u64]) -> (MultiProgress, Vec<ProgressBar>) {
    let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
    // The default style is never used, because the template is valid.
    let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = |(number, size): (usize, &u64)| {
        let bar = ProgressBar::new(*size).with_style(style.clone());
        bar.set_message(format!("layer {}/{}", number + 1, sizes.len()));
        if number < BARS_MAX { all.add(bar) } else { ProgressBar::hidden() }
    };
    let bars = sizes.iter().enumerate().map(bar).collect();
    (all, bars)
}

/// The line about a layer that has a new state; `None` for a state that needs no line.
fn line(sizes: &[u64], number: usize, state: LayerState) -> Option<String> {
    let size = HumanBytes(*sizes.get(number)?);
    let line = || format!("layer {} of {}: {size} read", number + 1, sizes.len());
    (state == LayerState::Done).then(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_was_read_has_a_line() {
        let sizes = [1 << 20, 5];
        for (number, state, expected) in [
            (0, LayerState::Reading, None),
            (0, LayerState::Done, Some("layer 1 of 2: 1.00 MiB read")),
            (1, LayerState::Present, None),
            (2, LayerState::Done, None),
        ] {
            assert_eq!(line(&sizes, number, state).as_deref(), expected, "{number} {state:?}");
        }
    }

    #[test]
    fn events_about_unknown_layers_do_no_harm() {
        for display in [Display::Bars, Display::Lines, Display::Nothing] {
            let progress = LayerProgress { display, layers: Mutex::default() };
            progress.bytes(3, 7);
            progress.layers(&[1; BARS_MAX + 1]);
            progress.layer(BARS_MAX + 1, LayerState::Done);
            progress.bytes(BARS_MAX, 7);
            let shown = progress.layers_mut().bars.as_ref().map_or(0, |(_, bars)| bars.len());
            assert_eq!(shown, if display == Display::Bars { BARS_MAX + 1 } else { 0 });
        }
    }
}
