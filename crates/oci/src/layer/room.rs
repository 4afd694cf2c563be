//! The bytes that all layers of an image may unpack to.
//!
//! Layers are unpacked in parallel, and each byte is taken before it is written, so all of them
//! together never have more on the disk than one alone might have.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use archive::spool::TooLarge;

/// A number of bytes that threads share.
#[derive(Debug)]
pub struct Room {
    limit: u64,
    /// Bytes that are not taken.
    left: AtomicU64,
}

impl Room {
    /// Room for `limit` bytes.
    #[must_use]
    pub const fn new(limit: u64) -> Self {
        Self { limit, left: AtomicU64::new(limit) }
    }

    /// Takes `bytes`.
    ///
    /// # Errors
    /// Fewer are left; then none is taken.
    pub fn take(&self, bytes: u64) -> Result<(), TooLarge> {
        let rest = |left: u64| left.checked_sub(bytes);
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
        taken.map(drop).map_err(|_| TooLarge { limit: self.limit })
    }
}

/// The part of a room that one layer takes. It is given back on drop, unless it is kept.
pub(super) struct Share<'a> {
    room: &'a Room,
    taken: AtomicU64,
}

impl<'a> Share<'a> {
    pub(super) fn new(room: &'a Room) -> Self {
        Self { room, taken: AtomicU64::new(0) }
    }

    pub(super) fn take(&self, bytes: u64) -> Result<(), TooLarge> {
        self.room.take(bytes)?;
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps what was taken.
    pub(super) fn keep(mut self) {
        *self.taken.get_mut() = 0;
    }
}

/// Writer that takes a share of each byte before it passes it on.
pub(super) struct Bounded<'a, W> {
    pub(super) out: W,
    pub(super) share: &'a Share<'a>,
    /// Why a write has failed, if there was no room.
    pub(super) fault: Option<TooLarge>,
}

impl<W: Write> Write for Bounded<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(fault) = self.share.take(bytes.len() as u64) {
            self.fault = Some(fault);
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.out.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.room.left.fetch_add(*self.taken.get_mut(), Ordering::Relaxed);
    }
}
