//! Images and archives, as the kernel and other programs read them.

pub(crate) mod archive;
pub(crate) mod image;
pub(crate) mod image_runs;
pub(crate) mod initramfs;
pub(crate) mod oci;
pub(crate) mod supervised;
pub(crate) mod supervision;
pub(crate) mod workload;
