//! One file that a recipe makes.

use std::path::PathBuf;

/// A file to make. What is empty or `None` has the default of the format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Path on the host, relative to the recipe's directory; no two outputs share it.
    pub file: PathBuf,
    /// Name of the format; `None` if the ending of `file` says it.
    pub format: Option<String>,
    /// Whether the file contains PID 1; `None` if the recipe's `init` decides.
    pub init: Option<bool>,
    /// Guest paths: only these, what is below and what is above them; empty for everything.
    pub include: Vec<String>,
    /// Patterns of names to leave out.
    pub exclude: Vec<String>,
    /// Compression, `METHOD[:LEVEL]`.
    pub compress: Option<String>,
    /// Size of the file in bytes.
    pub size: Option<u64>,
    /// Free space in percent.
    pub slack: Option<u32>,
    /// Label of the file system.
    pub label: Option<String>,
    /// UUID of the file system.
    pub uuid: Option<String>,
    /// Size in bytes of the units that are compressed.
    pub cluster_size: Option<u64>,
    /// Arguments for the tool that makes the file system.
    pub mkfs_args: Vec<String>,
}
