//! Recognises an image by the contents of a path that does not say what it is.
//!
//! A directory is a layout if it has the files of one. A tar archive, compressed or not, is an
//! archive of a layout or of `docker save` if it has their files. The files may be the last
//! members of the archive, so it is read until a member comes that no archive of an image has;
//! a root file system begins with such a member.
//!
//! Format: ustar headers, and the `size` of extended headers (pax(1)), which some programs write
//! for files beyond 8 GiB, with a size of 0 in the ustar header.

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
/// Most bytes of an extended header; as for reading the archive.
const RECORDS_MAX: u64 = 1 << 20;
/// Type of the extended header of one member (pax(1)).
const RECORDS: u8 = b'x';
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

/// The location of the image in the layout or archive `path`; `None` if it is something else. At
/// most `max_size` bytes are unpacked to find out.
///
/// # Errors
/// A path that cannot be read.
pub fn recognise(path: &Path, max_size: u64) -> Result<Option<Location>> {
    let metadata = path.metadata().with_context(|| format!("open {}", path.display()))?;
    if metadata.is_dir() {
        let location = Location::Layout(path.to_path_buf(), Selector::Only);
        return Ok(is_layout(path).then_some(location));
    }
    if !metadata.is_file() {
        return Ok(None);
    }
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    Ok(recognise_file(&file, max_size).map(|kind| match kind {
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
/// something else, damaged, or if its files are not among the first `max_size` unpacked bytes.
#[must_use]
pub fn recognise_file(file: &File, max_size: u64) -> Option<ArchiveKind> {
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
            let _ = archive::compress::unpack(&mut input, &mut look, max_size);
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
    /// Bytes of data before the next header, with padding.
    skip: u64,
    /// The data of an extended header, as far as it was read.
    records: Option<Vec<u8>>,
    /// Size of the next member by its extended header, in bytes.
    said: Option<u64>,
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
            let (data, skip) = (at + BLOCK as u64, std::mem::take(&mut self.skip));
            if let Some(records) = &mut self.records {
                records.resize(usize::try_from(skip).unwrap_or_default(), 0);
                if file.read_exact_at(records, data).is_err() {
                    return;
                }
            }
            match data.checked_add(skip) {
                Some(next) => at = next,
                None => return,
            }
        }
    }

    fn header(&mut self, block: &[u8; BLOCK]) {
        if let Some(records) = self.records.take() {
            self.said = size_in(&records).or(self.said);
        }
        let Some((kind, mut size, path)) = member(tar::Header::from_byte_slice(block)) else {
            self.state = State::Ended;
            return;
        };
        let extends = EXTENDED.contains(&kind);
        if !extends
            && let Some(said) = self.said.take()
            && has_data(kind)
        {
            size = said;
        }
        self.skip = size.checked_next_multiple_of(BLOCK as u64).unwrap_or(size);
        if kind == RECORDS {
            self.records = Some(Vec::new());
            if size > RECORDS_MAX {
                self.state = State::Other;
            }
        }
        // Headers that extend the next one have names of their own.
        if !extends {
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
            if let Some(records) = &mut self.records {
                records.extend_from_slice(&rest[..skipped]);
            }
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
    Some((kind, if has_data(kind) { header.entry_size().ok()? } else { 0 }, path))
}

/// Whether data follows the header of a member of this type.
fn has_data(kind: u8) -> bool {
    !matches!(kind, b'1' | b'2' | b'3' | b'4' | b'5' | b'6')
}

/// The size in the records of an extended header, with padding after them.
fn size_in(records: &[u8]) -> Option<u64> {
    let records = tar::PaxExtensions::new(records).map_while(Result::ok);
    let sizes = records.filter(|record| record.key_bytes() == b"size");
    sizes.last()?.value().ok()?.parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{file, gzip};

    /// An archive of a layout whose first blob has `data`. Its ustar header has a size of 0.
    fn archive(data: &[u8]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        let size = data.len().to_string();
        let records = [("comment", &b"x"[..]), ("size", size.as_bytes())];
        archive.append_pax_extensions(records).unwrap();
        let path = format!("blobs/sha256/{}", "0".repeat(64));
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        archive.append_data(&mut header, path, io::empty()).unwrap();
        let padding = vec![0; data.len().next_multiple_of(BLOCK) - data.len()];
        archive.get_mut().extend([data, &padding].concat());
        for path in [VERSION_FILE, INDEX_FILE] {
            let mut header = tar::Header::new_ustar();
            header.set_size(2);
            archive.append_data(&mut header, path, &b"{}"[..]).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn the_size_of_an_extended_header_counts() {
        let bytes = archive(&[b'x'; 5000]);
        let found = |bytes: &[u8]| recognise_file(file(bytes).as_file(), 1 << 20);
        assert_eq!(found(&bytes), Some(ArchiveKind::Oci));
        assert_eq!(found(&gzip(&bytes)), Some(ArchiveKind::Oci));
    }

    #[test]
    fn an_extended_header_is_bounded() {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_size(RECORDS_MAX + 1);
        header.set_cksum();
        let mut look = Look::default();
        look.header(header.as_bytes());
        assert!(look.state == State::Other);
    }

    #[test]
    fn a_compressed_archive_is_unpacked_up_to_the_limit() {
        let bytes = archive(&[b'x'; 5000]);
        let packed = file(&gzip(&bytes));
        let found = |max_size| recognise_file(packed.as_file(), max_size);
        assert_eq!(found(bytes.len() as u64), Some(ArchiveKind::Oci));
        assert_eq!(found(5000), None);
    }
}
