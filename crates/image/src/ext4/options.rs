//! Choices that the writer of ext4 images offers.

use anyhow::{Result, ensure};

/// Most bytes of a label (`s_volume_name`, `EXT4_LABEL_MAX`).
const LABEL_MAX: usize = 16;

/// Options of [`write`](super::write()).
#[derive(Clone, Debug)]
pub struct Ext4Options {
    /// Size of the image.
    pub size: Ext4Size,
    /// UUID of the file system.
    pub uuid: Ext4Uuid,
    /// Volume label, filled up with NUL; see [`label`].
    pub label: [u8; 16],
    /// Time of creation, in seconds since 1970.
    pub time: i64,
    /// Whether the file system has a journal.
    pub journal: Ext4Journal,
}

/// Whether a file system has a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ext4Journal {
    /// A journal of the size that mke2fs(8) chooses; a very small file system has none.
    #[default]
    BySize,
    /// No journal: writing is faster, and a crash may damage the file system.
    Absent,
}

/// Size of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ext4Size {
    /// Exactly this number of bytes.
    Exact(u64),
    /// The smallest size that holds the tree, plus free space.
    Slack {
        /// Free space in percent of the used space.
        percent: u32,
        /// Additional free space in bytes.
        bytes: u64,
    },
}

/// UUID of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ext4Uuid {
    /// A given UUID. The hashes of directories and the checksums of metadata start with it.
    Given([u8; 16]),
    /// A UUID that follows from the bytes of the image.
    OfContents {
        /// Start of the hashes and checksums, instead of the UUID.
        seed: [u8; 16],
    },
}

impl Ext4Options {
    /// Start of the hashes of directories and of the checksums of metadata.
    pub(super) fn hash_seed(&self) -> [u8; 16] {
        match self.uuid {
            Ext4Uuid::Given(uuid) => uuid,
            Ext4Uuid::OfContents { seed } => seed,
        }
    }

    /// The given UUID, if there is one.
    pub(super) fn given_uuid(&self) -> Option<[u8; 16]> {
        match self.uuid {
            Ext4Uuid::Given(uuid) => Some(uuid),
            Ext4Uuid::OfContents { .. } => None,
        }
    }
}

/// Converts `text` into a label.
///
/// # Errors
/// The text has more than 16 bytes.
pub fn label(text: &str) -> Result<[u8; LABEL_MAX]> {
    ensure!(text.len() <= LABEL_MAX, "label \"{text}\": a label of ext4 has at most 16 bytes");
    let mut label = [0; LABEL_MAX];
    label[..text.len()].copy_from_slice(text.as_bytes());
    Ok(label)
}
