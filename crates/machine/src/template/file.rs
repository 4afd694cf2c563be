//! The file of a template.
//!
//! [`footer`](super::footer) describes it. QEMU maps the file privately, so the memory is at its
//! start. Two threads read it, because a run waits meanwhile, and because most machines have two
//! processors.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use files::sparse::segments;
use nix::unistd::{AccessFlags, access};
use twox_hash::XxHash3_128;

use super::footer::{END, Extent, Footer};
use super::key::TemplateKey;

/// Threads that read or write a template.
pub(super) const THREADS: usize = 2;
/// Bytes that a thread reads at a time; they stay in the cache of its processor until they are
/// hashed and written.
pub(super) const CHUNK: usize = 128 << 10;

/// A template, open for reading.
#[derive(Debug)]
pub struct Template {
    file: File,
    path: PathBuf,
    footer: Footer,
    state: Vec<u8>,
}

impl Template {
    /// Reads all but the memory of the template with this `key` from `file`. Messages name it
    /// `path`.
    ///
    /// # Errors
    /// The template is damaged, another one, or cannot be read.
    pub fn open(file: File, path: &Path, key: &TemplateKey) -> Result<Self> {
        let read = || {
            let length = file.metadata()?.len();
            let too_short = "it is too short";
            let end_at = length.checked_sub(END as u64).context(too_short)?;
            let mut end = [0; END];
            file.read_exact_at(&mut end, end_at)?;
            let footer_length = Footer::length(&end)?;
            let footer_at = length.checked_sub(footer_length).context(too_short)?;
            let mut bytes = vec![0; usize::try_from(footer_length)?];
            file.read_exact_at(&mut bytes, footer_at)?;
            let footer = Footer::parse(&bytes, length)?;
            ensure!(footer.key == key.digest(), "it is another template");
            let mut state = vec![0; usize::try_from(footer.state)?];
            file.read_exact_at(&mut state, footer.memory)?;
            ensure!(blake3::hash(&state) == footer.state_digest, "its state is damaged");
            Ok((footer, state))
        };
        let (footer, state) = read().with_context(|| named(path))?;
        Ok(Self { file, path: path.to_path_buf(), footer, state })
    }

    /// The file, whose first bytes are the memory of the machine.
    #[must_use]
    pub fn memory(&self) -> &File {
        &self.file
    }

    /// Whether QEMU can map the memory. Even for a private mapping, it opens the file for writing.
    #[must_use]
    pub fn can_be_mapped(&self) -> bool {
        access(&self.path, AccessFlags::W_OK).is_ok()
    }

    /// Bytes of the memory.
    #[must_use]
    pub fn memory_size(&self) -> u64 {
        self.footer.memory
    }

    /// State of the devices, as QEMU has migrated it.
    #[must_use]
    pub fn state(&self) -> &[u8] {
        &self.state
    }

    /// Copies the memory into `memory`, which is empty and has its size. Holes stay holes.
    ///
    /// # Errors
    /// The template is damaged, or cannot be read. Then `memory` is of no use.
    pub fn fill(&self, memory: &File) -> Result<()> {
        let copy = || {
            let size = memory.metadata()?.len();
            ensure!(size == self.footer.memory, "the machine has {size} bytes of memory");
            self.each_extent(&|bytes, offset| {
                memory.write_all_at(bytes, offset).context("write the memory of the machine")
            })
        };
        copy().with_context(|| named(&self.path))
    }

    /// Reads all of the template.
    ///
    /// # Errors
    /// The template is damaged, or cannot be read.
    pub fn verify(&self) -> Result<()> {
        let read = || {
            self.each_extent(&|_, _| Ok(()))?;
            self.check_gaps()
        };
        read().with_context(|| named(&self.path))
    }

    /// Reads all extents, passes their bytes on with their offset, and checks their checksums. The
    /// bytes of an extent are passed on before its checksum is known.
    fn each_extent(&self, each: &(dyn Fn(&[u8], u64) -> Result<()> + Sync)) -> Result<()> {
        in_threads(&self.footer.extents, &|extent: &Extent, buffer: &mut [u8]| {
            let Extent { offset, length, checksum } = *extent;
            let (mut hasher, mut at) = (XxHash3_128::new(), offset);
            while at < offset + length {
                let left = usize::try_from(offset + length - at)?;
                let chunk = &mut buffer[..left.min(CHUNK)];
                self.file.read_exact_at(chunk, at)?;
                hasher.write(chunk);
                each(chunk, at)?;
                at += chunk.len() as u64;
            }
            ensure!(hasher.finish_128() == checksum, "its memory at {offset} is damaged");
            Ok(())
        })?;
        Ok(())
    }

    /// Checks that the memory is zero between the extents.
    fn check_gaps(&self) -> Result<()> {
        let mut extents = self.footer.extents.iter().peekable();
        let mut buffer = vec![0; CHUNK];
        for (start, end) in segments(&self.file, self.footer.memory)? {
            let mut at = start;
            while at < end {
                // Segments are sorted, and extents as well.
                while extents.next_if(|extent| extent.offset + extent.length <= at).is_some() {}
                let next = extents.peek();
                if let Some(extent) = next.filter(|extent| extent.offset <= at) {
                    at = extent.offset + extent.length;
                    continue;
                }
                let gap = end.min(next.map_or(end, |extent| extent.offset)) - at;
                let chunk = &mut buffer[..CHUNK.min(usize::try_from(gap).unwrap_or(CHUNK))];
                self.file.read_exact_at(chunk, at)?;
                ensure!(is_zero(chunk), "its memory at {at} is damaged");
                at += chunk.len() as u64;
            }
        }
        Ok(())
    }
}

fn named(path: &Path) -> String {
    format!("template {}", path.display())
}

/// Whether all `bytes` are zero.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// Runs `body` for each of `all`, in [`THREADS`] threads, which have a buffer of [`CHUNK`] bytes
/// each. Returns the results in no order. After an error, no further `body` begins.
pub(super) fn in_threads<T: Sync, R: Send>(
    all: &[T],
    body: &(dyn Fn(&T, &mut [u8]) -> Result<R> + Sync),
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut results, mut buffer) = (Vec::new(), vec![0; CHUNK]);
        while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = body(one, &mut buffer);
            if result.is_err() {
                next.store(all.len(), Ordering::Relaxed);
            }
            results.push(result?);
        }
        Ok(results)
    };
    std::thread::scope(|scope| {
        // Without another thread, this one does all.
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
        let others: Vec<_> = (1..THREADS).filter_map(start).collect();
        let mut results: Result<Vec<R>> = work();
        for other in others {
            let more = other.join().unwrap_or_else(|_| Err(anyhow!("a thread has panicked")));
            results = results.and_then(|mut results| {
                results.extend(more?);
                Ok(results)
            });
        }
        results
    })
}
