//! A registry in this process.

use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::document::manifest::Descriptor;
use crate::image::resolve::resolve;
use crate::image::source::Source;
use crate::origin::{Origin, RawDocument};
use crate::sample::MANIFEST;

/// The reference of the image.
const NAME: &str = "registry.example/app:1";

/// A registry with one image, which counts requests and breaks on demand.
#[derive(Debug, Default)]
pub(super) struct Fake {
    pub(super) documents: Mutex<Vec<(Digest, Vec<u8>)>>,
    top: Mutex<Option<Digest>>,
    /// Whether the registry answers.
    pub(super) is_down: Mutex<bool>,
    /// The registry answers so many requests and then goes away.
    pub(super) answers: Mutex<Option<usize>>,
    /// A blob breaks after so many bytes from its offset on.
    pub(super) breaks_after: Mutex<Option<u64>>,
    /// Requests for documents, for the digest of the top document, and for blobs.
    requests: [AtomicUsize; 3],
    /// A mirror, which sends this in place of each blob until it is left.
    pub(super) mirror: Mutex<Option<Vec<u8>>>,
    /// Whether the mirror was left.
    pub(super) is_left: AtomicBool,
    /// Offsets from which blobs were read.
    pub(super) offsets: Mutex<Vec<u64>>,
}

impl Fake {
    /// A registry with the image of a layout that has one entry.
    pub(super) fn new(dir: &LayoutDir, top: &Value) -> Arc<Self> {
        let fake = Self::default();
        fake.fill(dir, top);
        Arc::new(fake)
    }

    pub(super) fn fill(&self, dir: &LayoutDir, top: &Value) {
        let files = std::fs::read_dir(dir.path().join("blobs/sha256")).unwrap();
        let read = |file: std::io::Result<std::fs::DirEntry>| {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            (Digest::of(&bytes), bytes)
        };
        *self.documents.lock().unwrap() = files.map(read).collect();
        *self.top.lock().unwrap() = Some(digest(top));
    }

    fn get(&self, digest: &Digest, kind: usize) -> Result<Vec<u8>> {
        self.requests[kind].fetch_add(1, Ordering::Relaxed);
        let mut is_over = false;
        if let Some(left) = &mut *self.answers.lock().unwrap() {
            is_over = *left == 0;
            *left = left.saturating_sub(1);
        }
        if is_over || *self.is_down.lock().unwrap() {
            let error = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            return Err(error).context("the registry does not answer");
        }
        let documents = self.documents.lock().unwrap();
        let found = documents.iter().find(|row| row.0 == *digest);
        found.map(|row| row.1.clone()).context("refused")
    }

    /// The requests since the last call.
    pub(super) fn asked(&self) -> [usize; 3] {
        self.requests.each_ref().map(|count| count.swap(0, Ordering::Relaxed))
    }

    pub(super) fn open(self: &Arc<Self>, pull: Pull, options: &OpenOptions) -> Result<Image> {
        self.named(NAME, pull, options)
    }

    pub(super) fn named(
        self: &Arc<Self>,
        name: &str,
        pull: Pull,
        options: &OpenOptions,
    ) -> Result<Image> {
        let options = OpenOptions { pull, ..options.clone() };
        let source = Source::remote(Arc::clone(self) as Arc<dyn Origin>, name, &options);
        resolve(source, &options)
    }
}

impl Origin for Fake {
    fn name(&self) -> String {
        NAME.to_owned()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn top(&self) -> Result<RawDocument> {
        let digest = self.top.lock().unwrap().clone().unwrap();
        let bytes = self.get(&digest, 0)?;
        Ok(RawDocument { bytes, media_type: MANIFEST.to_owned() })
    }

    fn top_digest(&self) -> Result<Option<Digest>> {
        let digest = self.top.lock().unwrap().clone().unwrap();
        self.get(&digest, 1).map(|_| Some(digest))
    }

    fn document(&self, descriptor: &Descriptor) -> Result<RawDocument> {
        let bytes = self.get(&descriptor.digest, 0)?;
        Ok(RawDocument { bytes, media_type: descriptor.media_type.clone() })
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let bytes = self.get(&descriptor.digest, 2)?;
        self.offsets.lock().unwrap().push(offset);
        let bytes = match &*self.mirror.lock().unwrap() {
            Some(wrong) if !self.is_left.load(Ordering::Relaxed) => wrong.clone(),
            _ => bytes,
        };
        let bytes = bytes[usize::try_from(offset).unwrap()..].to_vec();
        match self.breaks_after.lock().unwrap().take() {
            None => Ok(Box::new(std::io::Cursor::new(bytes))),
            Some(count) => Ok(Box::new(std::io::Cursor::new(bytes).take(count).chain(Broken))),
        }
    }

    fn leave_mirrors(&self) -> bool {
        self.is_left.store(true, Ordering::Relaxed);
        self.mirror.lock().unwrap().is_some()
    }
}

/// A connection that was reset.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::ConnectionReset.into())
    }
}
