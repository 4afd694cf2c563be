//! Images in formats that programs of the distribution write: btrfs, xfs and vfat.
//!
//! | Module | What it does |
//! |---|---|
//! | `tool` | finds a program, runs it, and tells how it failed |
//! | `staged` | a private directory for the files that a program reads |
//! | `btrfs` | arguments and size for `mkfs.btrfs --rootdir` (pure) |
//! | `rootdir` | the tree as a directory for it, if need be in a user namespace |
//! | `xfs` | protofile, arguments and size for mkfs.xfs(8) (pure) |
//! | `vfat` | what a FAT holds of a tree, and its geometry (pure) |
//! | `make` | makes images of xfs and vfat |
//!
//! The image is standard input of the program, which opens it by [`IMAGE`]: so the output file
//! needs no name until it is complete. Signals that end this program wait meanwhile, so that
//! nothing is left in `$TMPDIR`.

mod btrfs;
mod make;
pub mod rootdir;
mod staged;
mod tool;
mod vfat;
mod xfs;

use std::ffi::OsString;
use std::fs::File;

use anyhow::{Context, Result};
use files::notes::Notes;
use image::format::Format;
use image::progress::Progress;
use image::tree::Tree;
use image::write::disk::{self, SLACK_BYTES, SLACK_PERCENT};
use image::write::fingerprint;

/// Path by which a program opens the image.
const IMAGE: &str = "/proc/self/fd/0";

/// A file system that a program of the distribution makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileSystem {
    Btrfs,
    Xfs,
    Vfat,
}

/// File systems by the names of their formats.
const FILE_SYSTEMS: &[(&str, FileSystem)] =
    &[("btrfs", FileSystem::Btrfs), ("xfs", FileSystem::Xfs), ("vfat", FileSystem::Vfat)];

/// Options for an image.
#[derive(Clone, Debug, Default)]
pub(super) struct MkfsOptions {
    /// Size of the image in bytes; `None` for as much as needed.
    pub(super) size: Option<u64>,
    /// Free space in percent of the used space; `None` for the usual one.
    pub(super) slack: Option<u32>,
    /// Label; may be empty.
    pub(super) label: String,
    /// UUID; `None` for one that follows from the tree.
    pub(super) uuid: Option<[u8; 16]>,
    /// Further arguments for the program.
    pub(super) arguments: Vec<OsString>,
    /// Time of the image, in seconds since 1970.
    pub(super) time: u32,
}

impl MkfsOptions {
    /// Adds the free space that is asked for to `used` bytes.
    fn with_slack(&self, used: u64) -> u64 {
        let (percent, bytes) = match self.slack {
            Some(percent) => (percent, 0),
            None => (SLACK_PERCENT, SLACK_BYTES),
        };
        let slack = u128::from(used) * u128::from(percent) / 100;
        used.saturating_add(u64::try_from(slack).unwrap_or(u64::MAX)).saturating_add(bytes)
    }

    /// The UUID: the one that is given, or one that follows from the tree and from what else
    /// the image depends on.
    fn uuid(&self, tree: &Tree, format: &str) -> Result<[u8; 16]> {
        if let Some(uuid) = self.uuid {
            return Ok(uuid);
        }
        let numbers = format!("{:?} {:?} {}", self.size, self.slack, self.time);
        let mut salt = vec![format.as_bytes(), self.label.as_bytes(), numbers.as_bytes()];
        salt.extend(self.arguments.iter().map(|word| word.as_encoded_bytes()));
        fingerprint::uuid_of(tree, &salt)
    }
}

/// Writes `tree` to `out` as an image in `format`, one of [`Format::BY_PROGRAMS`].
///
/// # Errors
/// An output that is not a regular file; a program that is missing or that fails; a tree that
/// the format cannot hold; a signal that ends this program.
pub(super) fn write(
    tree: &Tree,
    format: Format,
    options: &MkfsOptions,
    out: &File,
    notes: &mut Notes,
    progress: &Progress,
) -> Result<()> {
    disk::check_output(format, out)?;
    let row = FILE_SYSTEMS.iter().find(|(name, _)| *name == format.name());
    let (name, file_system) = *row.with_context(|| format!("{format}: no program makes it"))?;
    // A file that a shell opened may have contents.
    out.set_len(0).context("empty the output")?;
    match file_system {
        FileSystem::Btrfs => rootdir::make(tree, options, out, notes, progress),
        FileSystem::Xfs => {
            make::xfs(tree, options, options.uuid(tree, name)?, out, notes, progress)
        }
        FileSystem::Vfat => {
            make::vfat(tree, options, options.uuid(tree, name)?, out, notes, progress)
        }
    }
}

/// Variables that make the programs write the same bytes at any time and for every user.
fn environment(time: u32) -> Vec<(&'static str, String)> {
    vec![
        // Times of the image, for newer mkfs.xfs, for mtools, and others that know of it.
        ("SOURCE_DATE_EPOCH", time.to_string()),
        // Random numbers of newer mkfs.xfs.
        ("DETERMINISTIC_SEED", "1".into()),
        // mtools writes local times.
        ("TZ", "UTC0".into()),
        // Names of files are UTF-8, and messages English.
        ("LC_ALL", "C.UTF-8".into()),
        // Not the user's own drives and options of mtools.
        ("MTOOLSRC", "/dev/null".into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::tree::Meta;

    #[test]
    fn every_format_has_its_file_system() {
        let names: Vec<_> = Format::BY_PROGRAMS.iter().map(|format| format.name()).collect();
        let known: Vec<_> = FILE_SYSTEMS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, known);
    }

    #[test]
    fn slack_is_added_in_percent() {
        for (slack, used, expected) in [
            (None, 100 << 20, (110 << 20) + SLACK_BYTES),
            (Some(0), 5, 5),
            (Some(50), 1000, 1500),
            (Some(10_000), u64::MAX, u64::MAX),
        ] {
            let options = MkfsOptions { slack, ..MkfsOptions::default() };
            assert_eq!(options.with_slack(used), expected, "{slack:?}");
        }
    }

    #[test]
    fn the_uuid_follows_from_all_options() {
        let tree = Tree::new(Meta::default());
        let usual = MkfsOptions::default();
        let base = usual.uuid(&tree, "xfs").unwrap();
        assert_ne!(usual.uuid(&tree, "btrfs").unwrap(), base);
        for other in [
            MkfsOptions { label: "a".into(), ..usual.clone() },
            MkfsOptions { size: Some(1), ..usual.clone() },
            MkfsOptions { arguments: vec!["-K".into()], ..usual.clone() },
            MkfsOptions { time: 1, ..usual.clone() },
        ] {
            assert_ne!(other.uuid(&tree, "xfs").unwrap(), base, "{other:?}");
        }
        let given = MkfsOptions { uuid: Some([1; 16]), ..usual };
        assert_eq!(given.uuid(&tree, "xfs").unwrap(), [1; 16]);
    }
}
