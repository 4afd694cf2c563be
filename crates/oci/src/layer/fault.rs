//! Errors of a layer whose bytes are not those that the image names.
//!
//! They are a type of their own because a program may read the blob again from elsewhere if the
//! blob is wrong, and cannot do anything about a wrong diff_id.

use std::fmt;

use crate::name::digest::Digest;

/// What is wrong with the bytes of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerFault {
    /// The blob ended too early.
    Short {
        /// Its size by its descriptor, in bytes.
        expected: u64,
        /// Bytes that there were.
        found: u64,
    },
    /// The blob has more bytes than its descriptor says.
    Long {
        /// Its size by its descriptor.
        expected: u64,
    },
    /// The blob has another digest.
    Blob {
        /// The digest that it has.
        found: Digest,
    },
    /// What the blob unpacks to has another digest.
    DiffId {
        /// The digest by the config.
        expected: Digest,
        /// The digest that it has.
        found: Digest,
    },
}

impl LayerFault {
    /// Whether the blob is not the one that the manifest names, so that another copy of it may
    /// be right.
    #[must_use]
    pub fn is_of_blob(&self) -> bool {
        !matches!(self, Self::DiffId { .. })
    }
}

impl fmt::Display for LayerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { expected, found } => {
                write!(f, "the blob ends after {found} bytes; the manifest says {expected}")
            }
            Self::Long { expected } => {
                write!(f, "the blob has more than the {expected} bytes that the manifest says")
            }
            Self::Blob { found } => write!(
                f,
                "the blob has the digest {found}: it was damaged, or replaced by another one"
            ),
            Self::DiffId { expected, found } => write!(
                f,
                "the unpacked layer has the digest {found}; the config of the image says {expected} (diff_id)"
            ),
        }
    }
}

impl std::error::Error for LayerFault {}
