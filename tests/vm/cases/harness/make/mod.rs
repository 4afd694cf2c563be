//! Inputs of a machine: initrds, disks, images, layouts, roots of another user, odd bytes.

pub(crate) mod disk;
pub(crate) mod image;
pub(crate) mod initrd;
pub(crate) mod layout;
pub(crate) mod random;
pub(crate) mod user;
