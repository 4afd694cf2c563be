//! Writing an image: its format, the programs that make some formats, its workload, and the line
//! that tells about it. `build` and `recipe` share this room.

pub(crate) mod mkfs;
pub(super) mod oci_archive;
pub(super) mod output;
pub(super) mod summary;
pub(super) mod user;
pub(super) mod workload;
