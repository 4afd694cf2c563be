//! The layers of an image: fetched and unpacked in parallel, applied in order.
//!
//! A layer is fetched once for all images that have it, and a blob that was read in part is
//! continued. Nothing is taken from a layer before both of its digests are right.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use archive::bytes::At;
use archive::spool::TooLarge;
use files::notes::Notes;
use image::source::tar::Budget;
use image::source::tar::layer::{self as tar_layer, LayerOptions};
use image::tree::{Meta, Tree};

use super::Image;
use crate::cache::contents::has_digest;
use crate::cache::{Blob, Held, Part, Wait};
use crate::document::manifest::Descriptor;
use crate::layer::fault::LayerFault;
use crate::layer::room::Room;
use crate::layer::{self, BlobCopy};
use crate::name::digest::Digest;
use crate::progress::{LayerState, Progress};

/// Layers that are fetched and unpacked at the same time. Each needs a connection, three threads
/// and a few megabytes.
const WORKERS: usize = 4;

/// Permissions of the root directory if no layer has an entry for it.
const ROOT_PERMISSIONS: u16 = 0o755;

impl Image {
    /// Fetches and unpacks the layers that are not in the cache, and applies all of them. The
    /// contents of the tree's files are in the unpacked layers, which stay in the cache as long
    /// as the tree exists. Notes contain what is odd about the layers.
    ///
    /// # Errors
    /// A layer that cannot be read, or whose size or digests are wrong; a damaged one, with the
    /// member; more unpacked bytes than [`super::OpenOptions::max_size`].
    pub fn tree(&self, notes: &mut Notes, progress: &dyn Progress) -> Result<Tree> {
        self.tree_of(notes, progress).with_context(|| format!("image {}", self.name))
    }

    fn tree_of(&self, notes: &mut Notes, progress: &dyn Progress) -> Result<Tree> {
        let layers = self.layers(notes, progress)?;
        let meta =
            Meta { permissions: ROOT_PERMISSIONS, mtime: self.config.created, ..Meta::default() };
        let mut tree = Tree::new(meta);
        let options = LayerOptions { time: self.config.created, links: self.links };
        let mut budget = Budget::IMAGE;
        for (held, blob) in layers.iter().zip(&self.manifest.layers) {
            let applied = tar_layer::apply(held.file(), &mut tree, &options, &mut budget, notes);
            applied.with_context(|| format!("layer {}", blob.digest))?;
        }
        Ok(tree)
    }

    /// The unpacked size of layer `number` in bytes, if it is in the cache.
    ///
    /// # Errors
    /// A file of the cache that cannot be opened.
    pub fn unpacked_size(&self, number: usize) -> Result<Option<u64>> {
        let Some(diff_id) = self.config.diff_ids.get(number) else { return Ok(None) };
        let found = self.source.cache.find_layer(diff_id)?;
        found.map(|held| Ok(held.file().metadata()?.len())).transpose()
    }

    /// The blob of layer `number` as it is stored. One of the cache is verified, because a damaged
    /// one can be fetched again; another one is not.
    pub(crate) fn blob(&self, number: usize) -> Result<Box<dyn Read + Send>> {
        let blob = self.manifest.layers.get(number).context("no such layer")?;
        if let Some(bytes) = blob.embedded()? {
            return Ok(Box::new(io::Cursor::new(bytes)));
        }
        if let Some(held) = self.source.cache.find_blob(blob)? {
            if has_digest(held.file(), &blob.digest)? {
                return Ok(Box::new(HeldReader { held, offset: 0 }));
            }
            log::warn!("the cache is damaged; fetching {} again", blob.digest);
        }
        self.source.origin()?.blob(blob, 0)
    }

    /// All unpacked layers, the lowest first.
    pub(crate) fn layers(&self, notes: &mut Notes, progress: &dyn Progress) -> Result<Vec<Held>> {
        let blobs = &self.manifest.layers;
        progress.layers(&blobs.iter().map(|blob| blob.size).collect::<Vec<_>>());
        // The first layer of each diff_id is fetched.
        let mut firsts = BTreeMap::new();
        for (number, diff_id) in self.config.diff_ids.iter().enumerate() {
            match firsts.contains_key(diff_id) {
                true => progress.layer(number, LayerState::Present),
                false => drop(firsts.insert(diff_id, number)),
            }
        }
        let mut wanted: Vec<_> = firsts.values().copied().collect();
        wanted.sort_unstable();
        // Layers that are in the cache come first, so that the result is always the same.
        let (present, room) = (self.present(&wanted)?, Room::new(self.max_size));
        for held in present.values() {
            room.take(held.file().metadata()?.len())?;
        }
        let has_failed = AtomicBool::new(false);
        let fetch = Fetch { image: self, progress, present, room, has_failed };
        let fetched = fetch.all(&wanted)?;
        let has_grown = fetched.iter().any(|layer| layer.is_new);
        let mut found = BTreeMap::new();
        for (number, layer) in wanted.iter().zip(fetched) {
            for note in layer.notes {
                notes.add(note, blobs[*number].digest.as_str().as_bytes());
            }
            found.insert(&self.config.diff_ids[*number], layer.held);
        }
        // A layer that another process has unpacked meanwhile counts, too.
        let sizes = found.values().map(|held| Ok(held.file().metadata()?.len()));
        let total = sizes.sum::<Result<u64>>()?;
        ensure!(total <= self.max_size, TooLarge { limit: self.max_size });
        if has_grown {
            self.source.cache.trim();
        }
        let layers = self.config.diff_ids.iter().filter_map(|id| found.get(id).cloned());
        Ok(layers.collect())
    }

    /// The unpacked layers of the numbers `wanted` that are in the cache.
    fn present(&self, wanted: &[usize]) -> Result<BTreeMap<usize, Held>> {
        let find = |&number: &usize| {
            let found = self.source.cache.find_layer(&self.config.diff_ids[number]);
            found.transpose().map(|held| Ok((number, held?)))
        };
        wanted.iter().filter_map(find).collect()
    }
}

/// Reader of an object of the cache.
struct HeldReader {
    held: Held,
    offset: u64,
}

impl Read for HeldReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = At { file: self.held.file(), offset: self.offset }.read(buffer)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// An unpacked layer.
struct Fetched {
    held: Held,
    /// Whether it was not in the cache.
    is_new: bool,
    notes: Vec<String>,
}

struct Fetch<'a> {
    image: &'a Image,
    progress: &'a dyn Progress,
    /// The layers that were in the cache.
    present: BTreeMap<usize, Held>,
    /// Bytes that further layers may unpack to.
    room: Room,
    /// Whether a layer failed, so that the others are of no use.
    has_failed: AtomicBool,
}

impl Fetch<'_> {
    /// Fetches the layers `wanted`; the results have the same order. The error is that of the
    /// layer that failed first.
    fn all(&self, wanted: &[usize]) -> Result<Vec<Fetched>> {
        let next = AtomicUsize::new(0);
        let results = Mutex::new((BTreeMap::new(), None));
        let work = || {
            while let Some(&number) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                let fetched = match self.has_failed.load(Ordering::Relaxed) {
                    true => return,
                    false => self.layer(number),
                };
                let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                match fetched {
                    Ok(layer) => drop(results.0.insert(number, layer)),
                    Err(error) => {
                        results.1.get_or_insert(error);
                        self.has_failed.store(true, Ordering::Relaxed);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            let start = || std::thread::Builder::new().name("layers".into());
            for _ in 1..WORKERS.min(wanted.len()) {
                // Without a further thread, the others do the work.
                let _ = start().spawn_scoped(scope, work);
            }
            work();
        });
        let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        match results {
            (_, Some(error)) => Err(error),
            (layers, None) => Ok(layers.into_values().collect()),
        }
    }

    fn layer(&self, number: usize) -> Result<Fetched> {
        let cache = &self.image.source.cache;
        let diff_id = &self.image.config.diff_ids[number];
        if let Some(held) = self.present.get(&number).cloned() {
            self.progress.layer(number, LayerState::Present);
            return Ok(Fetched { held, is_new: false, notes: Vec::new() });
        }
        self.progress.layer(number, LayerState::Reading);
        let blob = &self.image.manifest.layers[number];
        let mut notes = Vec::new();
        let held = cache.layer(diff_id, self.wait(&|| waiting(diff_id)), |out| {
            notes = self.unpack(number, blob, diff_id, out)?;
            Ok(())
        })?;
        self.progress.layer(number, LayerState::Done);
        Ok(Fetched { held, is_new: true, notes })
    }

    /// How to wait for another process. When a layer has failed, the others are not wanted.
    fn wait<'a>(&'a self, begin: &'a dyn Fn()) -> Wait<'a> {
        Wait { begin, is_over: Some(&self.has_failed) }
    }

    /// Unpacks a layer into `out`. A blob of a registry goes through the cache, if there is one.
    fn unpack(
        &self,
        number: usize,
        blob: &Descriptor,
        diff_id: &Digest,
        out: &File,
    ) -> Result<Vec<String>> {
        let job = Job { fetch: self, number, blob, diff_id, out };
        let cache = &self.image.source.cache;
        if let Some(bytes) = blob.embedded()? {
            return job.run(Box::new(io::Cursor::new(bytes)), None);
        }
        if !self.image.source.is_remote() || cache.dir().is_none() {
            let origin = self.image.source.origin()?;
            return match job.run(origin.blob(blob, 0)?, None) {
                Err(error) if is_of_blob(&error) && origin.leave_mirrors() => {
                    job.run(origin.blob(blob, 0)?, None)
                }
                result => result,
            };
        }
        let begin = || waiting(&blob.digest);
        let wait = self.wait(&begin);
        let part = match cache.blob(blob, wait)? {
            Blob::Missing(part) => part,
            Blob::Complete(held) => {
                let input = Box::new(At { file: held.file(), offset: 0 });
                match job.run(input, None) {
                    Err(error) if is_of_blob(&error) => {
                        log::warn!("the cache is damaged; fetching again: {error:#}");
                        match cache.blob_again(blob, &held, wait)? {
                            Blob::Missing(part) => part,
                            // Another process was faster.
                            Blob::Complete(held) => {
                                let input = Box::new(At { file: held.file(), offset: 0 });
                                return job.run(input, None);
                            }
                        }
                    }
                    result => return result,
                }
            }
        };
        self.download(&job, part)
    }

    /// Reads a blob from the registry, from the end of `part` on, and unpacks it meanwhile.
    fn download(&self, job: &Job<'_>, part: Part) -> Result<Vec<String>> {
        let origin = self.image.source.origin()?;
        let blob = job.blob;
        let mut already = part.file().metadata().context("look at a file of the cache")?.len();
        if already > blob.size {
            part.clear()?;
            already = 0;
        }
        let read = |already: u64| -> Result<Vec<String>> {
            let copy = BlobCopy { file: part.file(), already };
            let kept = At { file: part.file(), offset: 0 }.take(already);
            let rest = match already < blob.size || already == 0 {
                true => origin.blob(blob, already)?,
                false => Box::new(io::empty()),
            };
            job.run(Box::new(kept.chain(rest)), Some(copy))
        };
        let mut result = read(already);
        // The beginning that was kept may be wrong, or a mirror may have sent something else.
        if result.as_ref().is_err_and(is_of_blob) && (origin.leave_mirrors() || already > 0) {
            part.clear()?;
            result = read(0);
        }
        match result {
            Ok(notes) => {
                part.commit()?;
                Ok(notes)
            }
            Err(error) => {
                // What was read so far is of use only if the blob is not wrong.
                let is_empty = part.file().metadata().is_ok_and(|metadata| metadata.len() == 0);
                match error.downcast_ref() {
                    // The blob was read to its end, and is the one that the manifest names.
                    Some(LayerFault::DiffId { .. }) => drop(part.commit()?),
                    Some(_) => part.discard(),
                    None if is_empty => part.discard(),
                    None => {}
                }
                Err(error)
            }
        }
    }
}

/// One layer to unpack.
struct Job<'a> {
    fetch: &'a Fetch<'a>,
    number: usize,
    blob: &'a Descriptor,
    diff_id: &'a Digest,
    out: &'a File,
}

impl Job<'_> {
    /// Unpacks and verifies `input`. Returns what is odd.
    fn run(
        &self,
        input: Box<dyn Read + Send + '_>,
        copy: Option<BlobCopy<'_>>,
    ) -> Result<Vec<String>> {
        let Self { fetch, number, blob, diff_id, mut out } = *self;
        out.set_len(0).context("empty a file of the cache")?;
        out.seek(SeekFrom::Start(0)).context("empty a file of the cache")?;
        let input = Box::new(Stoppable { input, has_failed: &fetch.has_failed });
        let count = |bytes| fetch.progress.bytes(number, bytes);
        let unpacked = layer::unpack(input, blob, diff_id, copy, out, &fetch.room, &count)?;
        Ok(unpacked.notes)
    }
}

/// Reader that fails when another layer has failed.
struct Stoppable<'a> {
    input: Box<dyn Read + Send + 'a>,
    has_failed: &'a AtomicBool,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.has_failed.load(Ordering::Relaxed) {
            true => Err(io::Error::other("another layer has failed")),
            false => self.input.read(buffer),
        }
    }
}

fn is_of_blob(error: &anyhow::Error) -> bool {
    error.downcast_ref::<LayerFault>().is_some_and(LayerFault::is_of_blob)
}

fn waiting(digest: &Digest) {
    log::info!("waiting for another process that fetches {digest}");
}
