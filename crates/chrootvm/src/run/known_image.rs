//! An OCI image that is ROOTFS, as far as the arguments of a run depend on it.

use machine::plan::architecture::Architecture;

use super::workload::Configured;

/// Facts about an OCI image that is ROOTFS.
#[derive(Clone, Debug)]
pub(super) struct KnownImage {
    /// Its name.
    pub(super) name: String,
    /// The architecture of machines that run it.
    pub(super) architecture: &'static Architecture,
    /// Whether it has a kernel.
    pub(super) has_kernel: bool,
    /// What it says about its own command, if that runs.
    pub(super) configured: Option<Configured>,
}
