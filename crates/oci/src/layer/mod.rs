//! Unpacking the blob of a layer: one pass from a stream to a tar archive in a file.
//!
//! Format: a tar archive, compressed by gzip (RFC 1952) or zstd (RFC 8878) or not at all, which
//! the first bytes tell; the media type may be wrong (OCI image specification, `layer.md`).
//! There may be several gzip members (pigz, eStargz) and several zstd frames with skippable
//! frames (zstd:chunked), with zeros between and after them. The formats xz and lz4 are read
//! as well, because Docker once wrote xz. What the tar archive says is the business of
//! [`image::source::tar::layer`].
//!
//! Three threads each do a part of the work and pass buffers on:
//!
//! ```text
//! input ─► blob's size and digest, copy ─► decompression, largest size ─► diff_id, out
//! ```
//!
//! The input is not trusted. Bounds: no byte is read after the one behind the size in the
//! descriptor; `out` gets at most the bytes for which there is [`room`]; memory is 2 MiB for the buffers, and what
//! the decoder needs: 0.1 MiB for gzip, at most [`ZSTD_WINDOW_MAX`] for zstd.
//!
//! | Module | Contents |
//! |---|---|
//! | [`fault`] | errors that say what is wrong with a layer |
//! | `pipe` | the buffers between two threads |
//! | [`room`] | the bytes that all layers may unpack to |

pub mod fault;
mod pipe;
pub mod room;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use archive::compress::{self, Compression};
use archive::spool;

use self::fault::LayerFault;
use self::pipe::{BUFFER, Closed, PipeReader, PipeWriter, pipe};
use self::room::{Bounded, Room, Share};
use crate::document::manifest::Descriptor;
use crate::name::digest::{Algorithm, Digest, Hasher};

/// Largest window of a zstd frame in bytes, which the library allows unless it is told
/// otherwise (`ZSTD_WINDOWLOG_LIMIT_DEFAULT`). `zstd --long` needs it; a frame that needs more
/// is an error.
pub const ZSTD_WINDOW_MAX: usize = 128 << 20;

/// Bytes by which a container is recognised; the longest magic has six.
const MAGIC: usize = 8;

/// A file that gets a copy of the blob.
#[derive(Clone, Copy, Debug)]
pub struct BlobCopy<'a> {
    /// The file. Its position is moved.
    pub file: &'a File,
    /// Number of bytes that the file already has; they are the first bytes of the input.
    pub already: u64,
}

/// Result of [`unpack`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Bytes that were written to the output.
    pub size: u64,
    /// What is odd, but no error.
    pub notes: Vec<String>,
}

/// Unpacks the blob that `input` yields into `out`, an empty file at its start, and verifies
/// the blob by its descriptor and the output by `diff_id`. `count` is called with the number of
/// bytes after each read of the input, from another thread.
///
/// After an error `out` is useless. The copy then has bytes from the start of the blob, which can
/// be continued later unless [`LayerFault::is_of_blob`]. All threads have ended in any case; a
/// read of the input that is going on is waited for.
///
/// # Errors
/// Each begins with the digest of the blob. [`LayerFault`] if a size or a digest is wrong;
/// [`TooLarge`](spool::TooLarge) for more bytes of output than there is `room`; damaged or truncated compressed data,
/// with its offset; errors of reading the input and of writing the output and the copy, also
/// before their file system is full.
pub fn unpack(
    input: Box<dyn Read + Send + '_>,
    blob: &Descriptor,
    diff_id: &Digest,
    copy: Option<BlobCopy<'_>>,
    out: &File,
    room: &Room,
    count: &(dyn Fn(u64) + Sync),
) -> Result<Unpacked> {
    let share = Share::new(room);
    let (packed_in, packed_out) = pipe();
    let (plain_in, plain_out) = pipe();
    let unpacked = thread::scope(|scope| {
        let start = || thread::Builder::new().name("layer".into());
        let reading =
            start().spawn_scoped(scope, || read_blob(input, blob, copy, packed_in, count));
        let decoding =
            start().spawn_scoped(scope, || decode(packed_out, plain_in, blob.size, &share));
        let written = write_out(plain_out, out, diff_id.algorithm());
        let wait = "start a thread";
        let read = join(reading.context(wait)?);
        let decoded = join(decoding.context(wait)?);
        outcome(read, decoded, written, diff_id)
    });
    if unpacked.is_ok() {
        share.keep();
    }
    unpacked.with_context(|| format!("layer {}", blob.digest))
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// End of a stage of which no error is reported.
enum Stage<T> {
    /// It has done its work.
    Done(T),
    /// It had to stop because another stage stopped.
    Stopped,
}

/// The result of all stages. Of several errors, the one of writing is reported first, then
/// that of the blob: if the blob is wrong, so is what it unpacks to.
fn outcome(
    read: Result<Stage<()>>,
    decoded: Result<Stage<Vec<String>>>,
    written: Result<Stage<(u64, Digest)>>,
    diff_id: &Digest,
) -> Result<Unpacked> {
    let (written, read, decoded) = (written?, read?, decoded?);
    let (Stage::Done((size, found)), Stage::Done(()), Stage::Done(notes)) =
        (written, read, decoded)
    else {
        bail!("a thread has stopped early");
    };
    ensure!(found == *diff_id, LayerFault::DiffId { expected: diff_id.clone(), found });
    Ok(Unpacked { size, notes })
}

/// Reads the blob, copies it, and verifies its size and digest.
fn read_blob(
    mut input: Box<dyn Read + Send + '_>,
    blob: &Descriptor,
    copy: Option<BlobCopy<'_>>,
    mut next: PipeWriter,
    count: &(dyn Fn(u64) + Sync),
) -> Result<Stage<()>> {
    let mut hasher = Hasher::new(blob.digest.algorithm());
    let mut copying = copy.map(Copying::new).transpose()?;
    let mut left = blob.size;
    while left > 0 {
        let Ok(mut buffer) = next.empty() else { return Ok(Stage::Stopped) };
        let most = left.min(BUFFER as u64);
        fill(&mut input.by_ref().take(most), &mut buffer, count)?;
        left -= buffer.len() as u64;
        ensure!(
            buffer.len() as u64 == most,
            LayerFault::Short { expected: blob.size, found: blob.size - left }
        );
        hasher.update(&buffer);
        if let Some(copying) = &mut copying {
            copying.take(&buffer).context("keep a copy of the blob")?;
        }
        if next.send(buffer) == Err(Closed) {
            return Ok(Stage::Stopped);
        }
    }
    ensure!(
        fill(&mut input.take(1), &mut Vec::new(), &|_| ())? == 0,
        LayerFault::Long { expected: blob.size }
    );
    let found = hasher.finish();
    ensure!(found == blob.digest, LayerFault::Blob { found });
    // An error here means that the next stage has stopped, which reports its own error.
    let finished = next.finish();
    Ok(finished.map_or(Stage::Stopped, Stage::Done))
}

/// Reads all bytes of `input` into the empty `buffer`, and returns their number.
fn fill(
    input: &mut io::Take<impl Read>,
    buffer: &mut Vec<u8>,
    count: &(dyn Fn(u64) + Sync),
) -> Result<usize> {
    buffer.resize(usize::try_from(input.limit())?, 0);
    let mut end = 0;
    while end < buffer.len() {
        match input.read(&mut buffer[end..]) {
            Ok(0) => break,
            Ok(more) => {
                count(more as u64);
                end += more;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("read the blob"),
        }
    }
    buffer.truncate(end);
    Ok(end)
}

/// The copy of a blob in the making.
struct Copying<W> {
    file: W,
    /// Number of bytes to come that the file already has.
    skip: u64,
}

impl Copying<()> {
    fn new(copy: BlobCopy<'_>) -> Result<Copying<impl Write>> {
        let mut file = copy.file;
        file.seek(SeekFrom::Start(copy.already)).context("continue the copy of the blob")?;
        Ok(Copying { file: spool::careful(copy.file), skip: copy.already })
    }
}

impl<W: Write> Copying<W> {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        let from = usize::try_from(skipped).unwrap_or(bytes.len());
        self.file.write_all(&bytes[from..])
    }
}

/// Decompresses the blob. Returns notes. If the data is damaged, it waits for the end of the
/// blob before it fails: the wrong digest of a blob is the better explanation.
fn decode(
    mut input: PipeReader,
    mut out: PipeWriter,
    blob_size: u64,
    share: &Share<'_>,
) -> Result<Stage<Vec<String>>> {
    // All buffers but the last one are full, so the first one has the magic.
    let Ok(head) = input.fill_buf() else { return Ok(Stage::Stopped) };
    let compression = Compression::of(&head[..head.len().min(MAGIC)]);
    let mut bounded = Bounded { out: &mut out, share, fault: None };
    let decoded = match compression {
        Compression::None => pass(&mut input, &mut bounded).map(|()| None),
        _ => compress::unpack(&mut input, &mut bounded, u64::MAX)
            .map(|unpacked| unpacked.map(|unpacked| unpacked.end)),
    };
    // There may be no end of more data: nothing is to be waited for.
    if let Some(fault) = bounded.fault {
        return Err(fault.into());
    }
    if out.is_closed() {
        return Ok(Stage::Stopped);
    }
    if io::copy(&mut input, &mut io::sink()).is_err() {
        return Ok(Stage::Stopped);
    }
    let end = decoded?;
    if out.finish() == Err(Closed) {
        return Ok(Stage::Stopped);
    }
    let rest = end.map(|end| (blob_size.saturating_sub(end), end)).filter(|rest| rest.0 > 0);
    let note = |(count, end)| {
        format!(
            "{count} bytes at offset {end}, after the end of the {compression} data, are left out"
        )
    };
    Ok(Stage::Done(rest.map(note).into_iter().collect()))
}

/// Passes bytes on that are not compressed.
fn pass(input: &mut PipeReader, out: &mut dyn Write) -> Result<()> {
    loop {
        let bytes = input.fill_buf()?;
        let count = bytes.len();
        if count == 0 {
            return Ok(());
        }
        out.write_all(bytes)?;
        input.consume(count);
    }
}

/// Writes the unpacked bytes. Returns their number and digest.
fn write_out(
    mut input: PipeReader,
    out: &File,
    algorithm: Algorithm,
) -> Result<Stage<(u64, Digest)>> {
    let mut hasher = Hasher::new(algorithm);
    let mut out = spool::careful(out);
    let mut size = 0;
    loop {
        let Ok(bytes) = input.fill_buf() else { return Ok(Stage::Stopped) };
        let count = bytes.len();
        if count == 0 {
            return Ok(Stage::Done((size, hasher.finish())));
        }
        hasher.update(bytes);
        out.write_all(bytes).context("write the unpacked layer")?;
        input.consume(count);
        size += count as u64;
    }
}
