//! Images to measure with: a root file system of 14,000 files and 240 MB, in one layer and in
//! ten.
//!
//! The files are made up, but the same on every host: a generator with a fixed seed writes text
//! and machine code, with the sizes and the compressibility of a distribution's files. The images
//! are kept in the store of a registry below `target/testbed`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oci::name::digest::Digest;
use serde_json::{Value, json};

use crate::registry::{Registry, RegistrySettings};
use crate::{testbed, workspace};

/// Number of regular files.
const FILES: u32 = 14_000;
/// Files in a directory.
const FILES_PER_DIRECTORY: u32 = 12;
/// Modification time of all files, in seconds since 1970.
const TIME: u64 = 1_700_000_000;
/// Level of gzip, which is docker's default.
const LEVEL: &str = "6";
/// Changes with the fixture, so that an old one is not used again.
const VERSION: u32 = 2;

/// Names of the images, and the number of their layers.
pub(super) const IMAGES: &[(&str, u32)] = &[("one", 1), ("ten", 10)];

/// Starts a registry that has the images, which are made if they are missing.
///
/// # Errors
/// docker-registry or skopeo is missing or fails; files that cannot be written.
pub(super) fn registry() -> Result<Registry> {
    let dir = testbed::dir(&workspace::root()?)?.join(format!("bench-oci-{VERSION}"));
    if !dir.exists() {
        log::info!("making images in {} (about half a minute)", dir.display());
        let unfinished = dir.with_extension("tmp");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).context("remove unfinished images")?;
        }
        fs::create_dir_all(&unfinished).with_context(|| unfinished.display().to_string())?;
        make(&unfinished)?;
        fs::rename(&unfinished, &dir).context("rename the finished images")?;
    }
    Registry::start(&dir, &RegistrySettings::default())
}

/// Makes the images in a registry that keeps them in `dir`.
fn make(dir: &Path) -> Result<()> {
    let registry = Registry::start(dir, &RegistrySettings::default())?;
    let scratch = super::super::scratch()?;
    for (name, layers) in IMAGES {
        let layout = scratch.path().join(name);
        write_layout(&layout, *layers)?;
        let options = ["--dest-compress-format=gzip", "--dest-compress-level", LEVEL];
        let source = format!("oci:{}", layout.display());
        registry.push(&source, &format!("bench/{name}:1"), &options)?;
    }
    Ok(())
}

/// Writes an OCI layout (image-layout.md of the image specification) with one image.
fn write_layout(dir: &Path, layers: u32) -> Result<()> {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("make {}", blobs.display()))?;
    let blob = |bytes: &[u8], media_type: &str| -> Result<Value> {
        let digest = Digest::of(bytes);
        let path: PathBuf = blobs.join(digest.parts().1);
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
        let media_type = format!("application/vnd.oci.image.{media_type}");
        Ok(json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() }))
    };
    let mut generator = Generator::new();
    let mut descriptors = Vec::new();
    for layer in 0..layers {
        let files = FILES * layer / layers..FILES * (layer + 1) / layers;
        descriptors.push(blob(&layer_of(&mut generator, files)?, "layer.v1.tar")?);
    }
    let diff_ids: Vec<_> = descriptors.iter().map(|layer| layer["digest"].clone()).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": { "Cmd": ["/bin/sh"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = blob(config.to_string().as_bytes(), "config.v1+json")?;
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": descriptors });
    let manifest = blob(manifest.to_string().as_bytes(), "manifest.v1+json")?;
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(dir.join("index.json"), index.to_string()).context("write an index")?;
    let version = json!({ "imageLayoutVersion": "1.0.0" });
    fs::write(dir.join("oci-layout"), version.to_string()).context("write a layout")
}

/// A tar archive of the files with these numbers.
fn layer_of(generator: &mut Generator, files: std::ops::Range<u32>) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mtime(TIME);
    let mut directory = None;
    let mut contents = Vec::new();
    for number in files {
        let (path, file) = path_of(number);
        if directory.as_ref() != Some(&path) {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            archive.append_data(&mut header, format!("{path}/"), &[][..]).context("a directory")?;
            directory = Some(path.clone());
        }
        generator.file(&mut contents);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(contents.len() as u64);
        archive.append_data(&mut header, format!("{path}/{file}"), &*contents).context("a file")?;
    }
    archive.into_inner().context("end a layer")
}

/// The directory and the name of a file.
fn path_of(number: u32) -> (String, String) {
    let directory = number / FILES_PER_DIRECTORY;
    (format!("usr/lib/group{}/package{directory}", directory % 40), format!("file{number}.so"))
}

/// Source of the contents of files, which are the same in every run.
struct Generator {
    /// State of xorshift64 (Marsaglia, "Xorshift RNGs", 2003); not 0.
    state: u64,
    words: Vec<Vec<u8>>,
    /// Instructions of a made-up processor.
    instructions: Vec<Vec<u8>>,
}

/// Number of words of the text.
const WORDS: u32 = 6000;
/// Number of different instructions.
const INSTRUCTIONS: u32 = 2000;
/// Parts of a file that occurred in it before, in percent.
const REPETITIONS: u32 = 45;
/// How far back a repeated part begins at most, in bytes. EROFS compresses 4 KiB at a time.
const DISTANCE: u32 = 2000;
/// Fewest bytes of a repeated part, and how many more it may have.
const REPEATED: (u32, u32) = (16, 120);

impl Generator {
    fn new() -> Self {
        let mut new =
            Self { state: 0x9e37_79b9_7f4a_7c15, words: Vec::new(), instructions: Vec::new() };
        for _ in 0..WORDS {
            let length = 2 + new.below(9);
            let letter = |generator: &mut Self| b"etaoinshrdlucmfwypvbgkjqxz"[generator.skewed(26)];
            let mut word: Vec<u8> = (0..length).map(|_| letter(&mut new)).collect();
            word.push(b' ');
            new.words.push(word);
        }
        for _ in 0..INSTRUCTIONS {
            let length = 2 + new.below(6);
            let instruction = (0..length).map(|_| new.next().to_le_bytes()[0]).collect();
            new.instructions.push(instruction);
        }
        new
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// A number below `end`, each with the same probability.
    fn below(&mut self, end: u32) -> u32 {
        let high = (self.next() >> 32) * u64::from(end);
        u32::try_from(high >> 32).unwrap_or(0)
    }

    /// An index below `end`, small ones more often.
    fn skewed(&mut self, end: u32) -> usize {
        let bound = self.below(end) + 1;
        let bound = self.below(bound) + 1;
        self.below(bound) as usize
    }

    /// Replaces `contents` by those of the next file: many are small, few are large.
    fn file(&mut self, contents: &mut Vec<u8>) {
        contents.clear();
        let magnitude = 7 + self.below(10);
        let size = (1 << magnitude) + self.below(1 << (magnitude - 1)) as usize;
        let is_text = self.below(2) == 0;
        while contents.len() < size {
            let is_repeated = !contents.is_empty() && self.below(100) < REPETITIONS;
            match (is_repeated, is_text) {
                (true, _) => self.repetition(contents),
                (false, true) => self.text(contents),
                (false, false) => self.code(contents),
            }
        }
        contents.truncate(size);
    }

    /// A part of the file that occurred before.
    fn repetition(&mut self, out: &mut Vec<u8>) {
        let back = DISTANCE.min(u32::try_from(out.len()).unwrap_or(DISTANCE));
        let back = 1 + self.below(back) as usize;
        let (fewest, more) = REPEATED;
        let length = back.min((fewest + self.below(more)) as usize);
        let start = out.len() - back;
        out.extend_from_within(start..start + length);
    }

    /// A line of text.
    fn text(&mut self, out: &mut Vec<u8>) {
        for _ in 0..=self.below(16) {
            let word = self.skewed(WORDS);
            out.extend_from_slice(&self.words[word]);
        }
        out.push(b'\n');
    }

    /// Some instructions, and now and then a number that occurs nowhere else.
    fn code(&mut self, out: &mut Vec<u8>) {
        for _ in 0..=self.below(16) {
            let instruction = self.skewed(INSTRUCTIONS);
            out.extend_from_slice(&self.instructions[instruction]);
        }
        let number = self.next().to_le_bytes();
        let _ = out.write_all(&number[..2]); // a Vec takes everything
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_the_same_in_every_run() {
        let layer = |files: std::ops::Range<u32>| layer_of(&mut Generator::new(), files).unwrap();
        let first = layer(0..40);
        assert!(first == layer(0..40));
        let mut archive = tar::Archive::new(&*first);
        let entries = archive.entries().unwrap().map(Result::unwrap);
        let files = entries.filter(|entry| entry.header().entry_type().is_file());
        assert_eq!(files.count(), 40);
    }

    #[test]
    fn numbers_stay_below_their_end() {
        let mut generator = Generator::new();
        let below: Vec<_> = (0..1000).map(|_| generator.below(7)).collect();
        assert!((0..7).all(|number| below.contains(&number)) && below.iter().all(|n| *n < 7));
        assert!((0..1000).all(|_| generator.skewed(3) < 3));
    }
}
