//! Outputs that are kept, so that a build without changes only copies its output, or finds it as it
//! has left it.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use files::output::{Output, existing};
use files::sparse;
use image::format::Format;

use super::super::kept::key::Key;
use super::super::kept::store::{Kind, Store};
use super::super::package::inputs::written;

/// Largest output that is kept, in bytes on the disk.
const KEPT_MAX: u64 = 4 << 30;

/// An output that may be kept.
#[derive(Debug)]
pub(in crate::image_command) struct KeptOutput<'a> {
    pub(in crate::image_command) path: &'a Path,
    pub(in crate::image_command) format: Format,
    /// Covers everything that decides about the bytes of the file.
    pub(in crate::image_command) key: Key,
}

/// Whether a file in `format` at `path` can be kept. The programs of the distribution change without
/// this one. A directory is not one file, and a pipe or a device cannot be read again.
pub(in crate::image_command) fn may_be_kept(path: &Path, format: Format) -> bool {
    let is_ours = !matches!(format, Format::Dir | Format::OtherDisk(_));
    let is_file = existing(path).is_none_or(|found| found.is_file());
    is_ours && is_file && path.as_os_str() != "-"
}

impl KeptOutput<'_> {
    /// Copies the output from the store, unless its file is still as an earlier build has left it;
    /// `false` if it is not kept.
    ///
    /// # Errors
    /// It cannot be written.
    pub(in crate::image_command) fn copy(&self, store: &Store) -> Result<bool> {
        let Self { path, format, key } = self;
        let Some(kept) = store.open(Kind::Output, key) else { return Ok(false) };
        let start = Instant::now();
        let is_there = written(path, key).and_then(|name| store.open(Kind::Written, &name));
        if is_there.is_none() {
            let context = || format!("write {}", path.display());
            let output = Output::create(path)?;
            sparse::copy(&kept, &output.file).with_context(context)?;
            output.commit()?;
            self.note(store);
        }
        log::info!("{}: {format} (kept), {:.2} s", path.display(), start.elapsed().as_secs_f64());
        Ok(true)
    }

    /// Keeps the file that was written. Failures are only logged: the output is there, and only the
    /// next build takes longer.
    pub(in crate::image_command) fn keep(&self, store: &Store) {
        if let Err(error) = self.try_to_keep(store) {
            log::warn!("{} is not kept: {error:#}", self.path.display());
        }
    }

    fn try_to_keep(&self, store: &Store) -> Result<()> {
        let file =
            File::open(self.path).with_context(|| format!("open {}", self.path.display()))?;
        let metadata = file.metadata()?;
        if metadata.is_file() && files::kept::size_on_disk(&metadata) <= KEPT_MAX {
            store.keep(Kind::Output, &self.key, &mut |kept| sparse::copy(&file, kept))?;
            self.note(store);
        }
        Ok(())
    }

    /// Notes that the file is the output.
    fn note(&self, store: &Store) {
        if let Some(name) = written(self.path, &self.key) {
            store.note(Kind::Written, &name, &[]);
        }
    }
}
