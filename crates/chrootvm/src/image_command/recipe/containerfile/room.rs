//! How many machines of a build run at the same time.

use std::sync::{Condvar, Mutex, PoisonError};

use machine::plan::memory;

use super::super::run::halt::lock;

/// Memory in MiB that QEMU and the other programs of a machine take besides.
const BESIDE: u64 = 256;

/// Room for machines.
#[derive(Debug)]
pub(super) struct Room {
    /// Number of machines that may still start.
    left: Mutex<usize>,
    freed: Condvar,
}

/// Permission to run a machine; it goes back when this is dropped.
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a Room);

impl Room {
    /// The room of this host for machines of `memory` MiB.
    pub(super) fn of_host(memory: Option<u64>) -> Self {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let processors = std::thread::available_parallelism().map_or(1, Into::into);
        Self::new(machines(&meminfo, memory.unwrap_or(memory::USUAL), processors))
    }

    fn new(machines: usize) -> Self {
        Self { left: Mutex::new(machines), freed: Condvar::new() }
    }

    /// Waits for a permit.
    pub(super) fn enter(&self) -> Permit<'_> {
        let left = lock(&self.left);
        let waited = self.freed.wait_while(left, |left| *left == 0);
        *waited.unwrap_or_else(PoisonError::into_inner) -= 1;
        Permit(self)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *lock(&self.0.left) += 1;
        self.0.freed.notify_one();
    }
}

/// Number of machines of `memory` MiB: one for each processor, as far as the memory goes.
/// `meminfo` is the text of /proc/meminfo.
fn machines(meminfo: &str, memory: u64, processors: usize) -> usize {
    let fit = memory::available(meminfo).unwrap_or_default() / (memory + BESIDE);
    processors.min(usize::try_from(fit).unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_share_processors_and_memory() {
        let meminfo = |mib: u64| format!("MemTotal: 1 kB\nMemAvailable: {} kB\n", mib * 1024);
        for (available, memory, processors, expected) in [
            (8192, 1024, 2, 2),
            (8192, 1024, 1, 1),
            (8192, 1024, 64, 6),
            (2000, 1024, 2, 1),
            (100, 1024, 2, 1),
            (8192, 6000, 2, 1),
        ] {
            let found = machines(&meminfo(available), memory, processors);
            assert_eq!(found, expected, "{available} {memory} {processors}");
        }
        assert_eq!(machines("", 1024, 8), 1);
    }

    #[test]
    fn a_place_is_free_again() {
        let room = Room::new(1);
        drop(room.enter());
        let place = room.enter();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(room.enter()));
            drop(place);
            waiting.join().unwrap();
        });
    }
}
