//! Writing the file of a template ([`footer`](super::footer)).

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use files::sparse::segments;
use twox_hash::XxHash3_128;

use super::file::{CHUNK, in_threads, is_zero};
use super::footer::{DATA_MAX, EXTENT_MAX, Extent, Footer, PAGE, STATE_MAX};
use super::key::TemplateKey;

/// Writes a template into the empty file `output`: the `memory` of a machine that is stopped, and
/// the `state` of its devices.
///
/// # Errors
/// There is too much data, or it cannot be written.
pub(super) fn save(output: &File, key: &TemplateKey, memory: &File, state: &[u8]) -> Result<()> {
    let (size, state_size) = (memory.metadata().context("the memory")?.len(), state.len() as u64);
    ensure!(size.is_multiple_of(PAGE), "{size} bytes of memory are not whole pages");
    ensure!(state_size <= STATE_MAX, "the devices have {state_size} bytes of state, too many");
    let segments = segments(memory, size)?;
    let data: u64 = segments.iter().map(|(start, end)| end - start).sum();
    ensure!(data <= DATA_MAX, "the machine has more than {} MiB of data", DATA_MAX >> 20);
    let pieces = pieces(&segments);
    let copy = |piece: &(u64, u64), buffer: &mut [u8]| {
        let mut copy = PieceCopy { output, extents: Vec::new(), open: None };
        copy.run(memory, *piece, buffer).map(|()| copy.extents)
    };
    let mut extents: Vec<_> = in_threads(&pieces, &copy)?.into_iter().flatten().collect();
    extents.sort_unstable_by_key(|extent| extent.offset);
    let (key, state_digest) = (key.digest(), blake3::hash(state));
    let footer = Footer { memory: size, state: state_size, key, state_digest, extents };
    output.write_all_at(state, size)?;
    output.write_all_at(&footer.to_bytes()?, size + state_size)?;
    Ok(())
}

/// Parts of the sorted `segments` for one thread each, from start to end. They are whole pages.
fn pieces(segments: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let (mut pieces, mut done) = (Vec::new(), 0);
    for (start, end) in segments {
        // On some file systems, a page can belong to two segments.
        let (mut at, end) = ((start / PAGE * PAGE).max(done), end.next_multiple_of(PAGE));
        while at < end {
            let next = end.min(at + EXTENT_MAX);
            pieces.push((at, next));
            at = next;
        }
        done = at;
    }
    pieces
}

/// Copy of one piece of the memory.
struct PieceCopy<'a> {
    output: &'a File,
    extents: Vec<Extent>,
    /// The extent that has no end yet, and the hasher for its checksum.
    open: Option<(Extent, XxHash3_128)>,
}

impl PieceCopy<'_> {
    /// Copies all pages of a piece that are not zero, and notes their extents.
    fn run(&mut self, memory: &File, (start, end): (u64, u64), buffer: &mut [u8]) -> Result<()> {
        let mut at = start;
        while at < end {
            let left = usize::try_from(end - at)?;
            let chunk = &mut buffer[..left.min(CHUNK)];
            memory.read_exact_at(chunk, at).context("read the memory")?;
            let mut pages =
                chunk.chunks(usize::try_from(PAGE)?).map(is_zero).enumerate().peekable();
            // Pages of a kind are handled at once.
            while let Some((first, kind)) = pages.next() {
                let mut last = first;
                while let Some((next, _)) = pages.next_if(|(_, other)| *other == kind) {
                    last = next;
                }
                let page = usize::try_from(PAGE)?;
                let run = first * page..((last + 1) * page).min(chunk.len());
                match kind {
                    true => self.close(),
                    false => self.add(&chunk[run.clone()], at + run.start as u64)?,
                }
            }
            at += chunk.len() as u64;
        }
        self.close();
        Ok(())
    }

    /// Adds `bytes` to the open extent, or opens one with them.
    fn add(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        let count = bytes.len() as u64;
        self.output.write_all_at(bytes, offset)?;
        let new = || (Extent { offset, length: 0, checksum: 0 }, XxHash3_128::new());
        let (extent, hasher) = self.open.get_or_insert_with(new);
        extent.length += count;
        hasher.write(bytes);
        Ok(())
    }

    /// Ends the open extent.
    fn close(&mut self) {
        let closed = self.open.take();
        let extent =
            closed.map(|(extent, hasher)| Extent { checksum: hasher.finish_128(), ..extent });
        self.extents.extend(extent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_pages_and_do_not_overlap() {
        let max = EXTENT_MAX;
        for (segments, expected) in [
            (&[][..], &[][..]),
            (&[(0, 4096), (8192, 12288)], &[(0, 4096), (8192, 12288)]),
            (&[(1024, 2048), (3072, 5120), (6144, 7168)], &[(0, 4096), (4096, 8192)]),
            (&[(4096, 2 * max)], &[(4096, 4096 + max), (4096 + max, 2 * max)]),
        ] {
            assert_eq!(pieces(segments), expected, "{segments:?}");
        }
    }
}
