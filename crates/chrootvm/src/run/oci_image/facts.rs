//! Facts about a built root image, kept in its last blocks, so that a start need not read the
//! file system.
//!
//! Format: the EROFS image, [`Facts`] as JSON, zeros up to a whole block, where the last bytes of
//! the block are:
//!
//! | Bytes from the end | Contents |
//! |---|---|
//! | 16–9 | number of bytes of the JSON, little-endian |
//! | 8–1 | [`MAGIC`] |
//!
//! The kernel reads no block behind the end that the superblock of the file system names.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use files::lookup::Files;
use machine::kernel::installed;
use oci::document::manifest::DOCUMENT_MAX;
use serde::{Deserialize, Serialize};

use crate::image_config::SYSTEMS;

/// Last bytes of a root image with facts.
const MAGIC: &[u8; 8] = b"virtroot";

/// Bytes of the end: length and magic.
const END: u64 = 16;

/// Bytes of a block of EROFS.
const BLOCK: u64 = 4096;

/// Most bytes of the facts: those of a config, whose every byte JSON may write as six.
const FACTS_MAX: u64 = DOCUMENT_MAX * 6 + BLOCK;

/// What a start must know about a root image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// The config of the image, as it is stored.
    pub(super) config: String,
    /// Whether it has a kernel and its modules.
    pub(super) has_kernel: bool,
    /// Those of [`SYSTEMS`] that exist.
    pub(super) systems: Vec<String>,
}

impl Facts {
    /// The facts about the image with this `config` and these `files`.
    pub(super) fn of(config: String, files: &dyn Files) -> Self {
        let exists = |init: &&&str| files.is_file(init.as_ref());
        Self {
            config,
            has_kernel: installed::find(files).is_ok(),
            systems: SYSTEMS.iter().filter(exists).map(|&init| init.to_owned()).collect(),
        }
    }

    /// Writes the facts behind the image in `file`.
    ///
    /// # Errors
    /// Errors of writing.
    pub(super) fn append(&self, mut file: &File) -> Result<()> {
        let text = serde_json::to_vec(self).context("write the facts about an image")?;
        let start = file.seek(SeekFrom::End(0)).context("look at an image")?;
        let length = text.len() as u64;
        let end = (start + length + END).next_multiple_of(BLOCK);
        let zeros = vec![0; usize::try_from(end - END - length - start)?];
        let tail = [&text[..], &zeros, &length.to_le_bytes(), MAGIC].concat();
        file.write_all(&tail).context("write the facts about an image")
    }

    /// Reads the facts behind the image in `file`.
    ///
    /// # Errors
    /// The file has none, or they are damaged.
    pub(super) fn read(file: &File) -> Result<Self> {
        let size = file.metadata().context("look at an image")?.len();
        let mut end = [0; 16];
        let at = size.checked_sub(END).context("an image without facts")?;
        file.read_exact_at(&mut end, at).context("read the facts about an image")?;
        let (length, magic) = end.split_at(8);
        ensure!(magic == MAGIC, "an image without facts");
        let length = u64::from_le_bytes(length.try_into()?);
        ensure!(length <= FACTS_MAX, "the facts about an image are damaged");
        // The text begins in the first block that holds all of it and the end.
        let start = at.checked_sub(length).map(|start| start / BLOCK * BLOCK);
        let mut text = vec![0; usize::try_from(length)?];
        let start = start.context("the facts about an image are damaged")?;
        file.read_exact_at(&mut text, start).context("read the facts about an image")?;
        serde_json::from_slice(&text).context("the facts about an image are damaged")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use files::root_dir::RootDir;

    #[test]
    fn facts_are_read_as_they_were_written() {
        for (blocks, length) in
            [(1, 0), (2, 1), (1, 3990), (1, 4000), (3, 4096), (1, 4097), (1, 100_000)]
        {
            let file = tempfile::tempfile().unwrap();
            file.set_len(blocks * BLOCK).unwrap();
            let facts = Facts { config: "x".repeat(length), has_kernel: true, systems: Vec::new() };
            facts.append(&file).unwrap();
            assert_eq!(Facts::read(&file).unwrap(), facts, "{blocks} {length}");
            let size = file.metadata().unwrap().len();
            assert_eq!(size % BLOCK, 0);
            file.set_len(size - 1).unwrap();
            assert!(Facts::read(&file).is_err());
        }
    }

    #[test]
    fn damaged_facts_are_errors() {
        let end = |length: u64| [&length.to_le_bytes()[..], MAGIC].concat();
        for (name, bytes) in [
            ("empty", Vec::new()),
            ("short", b"virtroot".to_vec()),
            ("no magic", vec![0; 4096]),
            ("too long", [vec![0; 4080], end(5000)].concat()),
            ("endless", [vec![0; 4080], end(u64::MAX)].concat()),
            ("no JSON", [vec![0; 4080], end(5)].concat()),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            assert!(Facts::read(&file).is_err(), "{name}");
        }
    }

    #[test]
    fn systems_and_kernels_of_an_image_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let facts = || Facts::of("{}".into(), &RootDir::open(dir.path()).unwrap());
        assert_eq!((facts().has_kernel, facts().systems.len()), (false, 0));
        for file in ["usr/lib/modules/6.1/vmlinuz", "usr/lib/systemd/systemd"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::fs::create_dir(dir.path().join("sbin")).unwrap();
        let link = dir.path().join("sbin/init");
        std::os::unix::fs::symlink("../usr/lib/systemd/systemd", link).unwrap();
        let found = facts();
        assert!(found.has_kernel);
        assert_eq!(found.systems, ["/sbin/init", "/usr/lib/systemd/systemd"]);
    }
}
