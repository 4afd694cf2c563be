//! Recognises an image by the contents of a path that does not say what it is.
//!
//! A directory is a layout if it has the files of one. A tar archive, compressed or not, is an
//! archive of a layout or of `docker save` if it has their files. The files may be the last
//! members of the archive, so it is read until a member comes that no archive of an image has;
//! a root file system begins with such a member.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use archive::compress::Compression;

use super::docker::MANIFEST_FILE;
use super::layout::{INDEX_FILE, VERSION_FILE};
use crate::name::location::{Location, Selector};

/// Bytes of a block of a tar archive.
const BLOCK: usize = 512;
/// Bytes by which a compressed file is recognised.
const MAGIC: usize = 8;
/// Most bytes that are unpacked to look for the files of an image.
const LOOK_MAX: u64 = 64 << 30;
/// Types of headers that extend the next header: those of POSIX and of GNU tar.
const EXTENDED: [u8; 4] = *b"xgLK";
/// Directory of the blobs of a layout.
const BLOBS: &str = "blobs";
/// Other files in archives of `docker save`.
const OTHERS: [&str; 2] = ["repositories", "json"];
/// Endings of the names of configs and layers in archives of `docker save`.
const ENDINGS: [&str; 4] = [".json", ".tar", ".tar.gz", ".tgz"];

/// Kind of an archive of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveKind {
    /// A layout.
    Oci,
    /// An archive of `docker save`.
    Docker,
}

/// The location of the image in the layout or archive `path`; `None` if it is something else.
///
/// # Errors
/// A path that cannot be read.
pub fn recognise(path: &Path) -> Result<Option<Location>> {
    let metadata = path.metadata().with_context(|| format!("open {}", path.display()))?;
    if metadata.is_dir() {
        let location = Location::Layout(path.to_path_buf(), Selector::Only);
        return Ok(is_layout(path).then_some(location));
    }
    if !metadata.is_file() {
        return Ok(None);
    }
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    Ok(recognise_file(&file).map(|kind| match kind {
        ArchiveKind::Oci => Location::OciArchive(path.to_path_buf(), Selector::Only),
        ArchiveKind::Docker => Location::DockerArchive(path.to_path_buf(), None),
    }))
}

/// Whether the directory `dir` has the files of a layout.
#[must_use]
pub fn is_layout(dir: &Path) -> bool {
    [VERSION_FILE, INDEX_FILE].iter().all(|name| dir.join(name).is_file())
}

/// The kind of images in the archive `file`, which can be read by offset; `None` if it is
/// something else, or damaged.
#[must_use]
pub fn recognise_file(file: &File) -> Option<ArchiveKind> {
    let mut magic = [0; MAGIC];
    let count = file.read_at(&mut magic, 0).ok()?;
    let mut look = Look::default();
    match Compression::of(&magic[..count]) {
        Compression::None => look.over_file(file),
        _ => {
            let input = archive::bytes::At { file, offset: 0 };
            let mut input = BufReader::with_capacity(archive::spool::BUFFER, input);
            // Both damage and the end of the look are errors here. Who opens a damaged archive
            // reports what is wrong with it.
            let _ = archive::compress::unpack(&mut input, &mut look, LOOK_MAX);
        }
    }
    look.kind()
}

/// What a look has come to.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// More members are to come.
    #[default]
    Looking,
    /// The archive has ended.
    Ended,
    /// A member is one that no archive of an image has.
    Other,
}

/// Files by which an archive of an image is recognised.
const FILES: [&str; 3] = [VERSION_FILE, INDEX_FILE, MANIFEST_FILE];

/// A look at the members of an archive.
#[derive(Default)]
struct Look {
    /// Which of [`FILES`] were seen.
    seen: [bool; FILES.len()],
    state: State,
    /// The beginning of a header.
    block: Vec<u8>,
    /// Bytes of data before the next header.
    skip: u64,
}

impl Look {
    fn kind(&self) -> Option<ArchiveKind> {
        match self.seen {
            _ if self.state == State::Other => None,
            // Docker writes both, and once wrote a layout without layers.
            [_, _, true] => Some(ArchiveKind::Docker),
            [true, true, false] => Some(ArchiveKind::Oci),
            _ => None,
        }
    }

    /// Looks at all headers of an archive that is not compressed.
    fn over_file(&mut self, file: &File) {
        let (mut at, mut block) = (0_u64, [0; BLOCK]);
        while self.state == State::Looking && file.read_exact_at(&mut block, at).is_ok() {
            self.header(&block);
            match (at + BLOCK as u64).checked_add(std::mem::take(&mut self.skip)) {
                Some(next) => at = next,
                None => return,
            }
        }
    }

    fn header(&mut self, block: &[u8; BLOCK]) {
        let Some((kind, size, path)) = member(tar::Header::from_byte_slice(block)) else {
            self.state = State::Ended;
            return;
        };
        self.skip = size.checked_next_multiple_of(BLOCK as u64).unwrap_or(size);
        // Headers that extend the next one have names of their own.
        if !EXTENDED.contains(&kind) {
            let name = path.trim_start_matches("./").trim_end_matches('/');
            if let Some(number) = FILES.iter().position(|file| *file == name) {
                self.seen[number] = true;
            }
            if !may_be_of_image(name) {
                self.state = State::Other;
            }
        }
    }
}

/// Takes the bytes of an archive one after another. It fails when it has seen enough.
impl Write for Look {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.state != State::Looking {
                return Err(io::ErrorKind::Other.into());
            }
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(rest.len());
            self.skip -= skipped as u64;
            rest = &rest[skipped..];
            let taken = (BLOCK - self.block.len()).min(rest.len());
            self.block.extend_from_slice(&rest[..taken]);
            rest = &rest[taken..];
            if let Ok(block) = <[u8; BLOCK]>::try_from(&self.block[..]) {
                self.header(&block);
                self.block.clear();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Type, size and path of a member; `None` at the end of the archive, or if it is none.
fn member(header: &tar::Header) -> Option<(u8, u64, String)> {
    let mut sum = header.clone();
    sum.set_cksum();
    if sum.cksum().ok()? != header.cksum().ok()? {
        return None;
    }
    let path = String::from_utf8_lossy(&header.path_bytes()).into_owned();
    let kind = header.entry_type().as_byte();
    let has_data = !matches!(kind, b'1' | b'2' | b'3' | b'4' | b'5' | b'6');
    Some((kind, if has_data { header.entry_size().ok()? } else { 0 }, path))
}

/// Whether an archive of an image may have a member of this name.
fn may_be_of_image(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or_default();
    let is_digest = |text: &str| {
        let text = text.rsplit(':').next().unwrap_or_default();
        text.len() >= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let is_file = first.len() == name.len();
    matches!(name, "" | ".")
        || FILES.contains(&name)
        || first == BLOBS
        || is_digest(first)
        || is_file && (OTHERS.contains(&name) || ENDINGS.iter().any(|end| name.ends_with(end)))
}
