//! Read-only or read-write, for shares, volumes and roots.

/// Whether a file system may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `MS_RDONLY`
    ReadOnly,
    /// The host's export decides.
    ReadWrite,
}
