//! Read-only or read-write: the access to roots, shares and volumes.

/// Whether a file system may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Mounted with `MS_RDONLY`.
    ReadOnly,
    /// Mounted writable; the host's export may still refuse writes.
    ReadWrite,
}
