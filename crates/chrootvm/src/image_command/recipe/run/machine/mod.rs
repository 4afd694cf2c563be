//! The machine in which the steps of a recipe run.
//!
//! It is an ordinary `chrootvm run` of a small image that holds one program, `/step`, which
//! waits; each step is a `chrootvm exec` of `/step run`. The machine ends when its standard input
//! ends, so it never outlives this process. Its disks are files without names:
//!
//! | Disk | Contents |
//! |---|---|
//! | `/dev/vda` | its root |
//! | `/dev/vdb` | ext4 without a journal: what the steps write, a directory for each |
//! | the next ones | EROFS images, read-only: layers below the first step, inputs, caches |
//! | the last ones | slots: empty until the host writes a layer that lies between two steps |
//!
//! The scratch disk is read while the machine runs. `/step` writes everything to the disk before
//! it reports, no program of a step is left then, and the host's page cache is the same for QEMU
//! and for this process.

mod exec;
mod start;

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::process::Child;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use image::ext4;
use image::tree::Tree;

use super::halt::{Hold, lock};
pub(in crate::image_command::recipe) use exec::{Ran, Tail};
pub(in crate::image_command::recipe) use start::MachineSettings;

/// Time for a machine to end by itself, in which its disks are written.
const END_LIMIT: Duration = Duration::from_secs(20);

/// Pause between two looks whether the machine has ended.
const PAUSE: Duration = Duration::from_millis(5);

/// Most bytes that are kept of what the machine says about itself.
const WORDS_MAX: u64 = 16 << 10;

/// A machine that waits for steps.
#[derive(Debug)]
pub(in crate::image_command::recipe) struct BuildMachine {
    name: String,
    child: Child,
    /// Its end ends the machine.
    stdin: Arc<Hold>,
    /// What the machine's chrootvm says: errors.
    words: Option<JoinHandle<Vec<u8>>>,
    scratch: Arc<File>,
    /// Devices of the disks that were there at the start.
    pub(in crate::image_command::recipe) devices: Vec<String>,
    /// Empty disks that are left, and their devices.
    slots: VecDeque<(File, String)>,
}

impl BuildMachine {
    /// What holds the machine.
    pub(in crate::image_command::recipe) fn hold(&self) -> &Arc<Hold> {
        &self.stdin
    }

    /// Whether a layer can be added.
    pub(in crate::image_command::recipe) fn has_slot(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Lets `write` write an image into the next slot, and returns the slot's device.
    ///
    /// # Errors
    /// Those of `write`; there is no slot left.
    pub(in crate::image_command::recipe) fn fill_slot(
        &mut self,
        write: &dyn Fn(&File) -> Result<()>,
    ) -> Result<String> {
        let (file, device) = self.slots.pop_front().context("the machine has no disk left")?;
        write(&file)?;
        Ok(device)
    }

    /// What is on the scratch disk now.
    ///
    /// # Errors
    /// The disk is damaged.
    pub(in crate::image_command::recipe) fn scratch(&self) -> Result<Tree> {
        ext4::read(Arc::clone(&self.scratch)).context("read the disk of the build")
    }

    /// Whether the machine has ended, and what it said then.
    pub(in crate::image_command::recipe) fn ended(&mut self) -> Option<String> {
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Ok(None) => return None,
                Ok(Some(_)) | Err(_) => return Some(self.last_words()),
            }
        }
    }

    fn last_words(&mut self) -> String {
        let words = self.words.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        String::from_utf8_lossy(&words).trim().trim_start_matches("error: ").to_owned()
    }
}

/// Ends the machine. One that does not end by itself is killed; QEMU ends with its chrootvm.
impl Drop for BuildMachine {
    fn drop(&mut self) {
        drop(lock(&self.stdin).take());
        let deadline = Instant::now() + END_LIMIT;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let _ = self.child.kill(); // it may have ended meanwhile
                let _ = self.child.wait(); // nothing is left to do if that fails
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Reads a pipe in a thread: what comes first, up to a limit; the rest is dropped.
fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = (&mut pipe).take(WORDS_MAX).read_to_end(&mut bytes); // what was read counts
        let _ = std::io::copy(&mut pipe, &mut std::io::sink()); // the writer must not block
        bytes
    })
}
