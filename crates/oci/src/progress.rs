//! Progress of reading an image, as events that a program shows.

/// What happens to a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerState {
    /// It is read from the origin.
    Reading,
    /// It was in the cache, or is a repetition of a lower layer.
    Present,
    /// It is read, unpacked and verified.
    Done,
}

/// Receiver of events. Layers are numbered from 0, the lowest; events of several layers come
/// from several threads at once.
pub trait Progress: Sync {
    /// The layers are known; each has this many bytes as the origin stores it.
    fn layers(&self, sizes: &[u64]);

    /// A layer changes its state.
    fn layer(&self, number: usize, state: LayerState);

    /// So many more bytes of a layer were read from the origin.
    fn bytes(&self, number: usize, count: u64);
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn layers(&self, _sizes: &[u64]) {}
    fn layer(&self, _number: usize, _state: LayerState) {}
    fn bytes(&self, _number: usize, _count: u64) {}
}
