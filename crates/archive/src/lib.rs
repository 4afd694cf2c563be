//! newc archives and compressed containers, read and written as streams.
//!
//! The kernel unpacks its initramfs from such files (kernel doc:
//! driver-api/early-userspace/buffer-format.rst). This crate writes
//! archives that the kernel can unpack, and reads archives by the rules by which the kernel
//! unpacks them. It does not trust its input.
//!
//! | Module | Contents |
//! |---|---|
//! | [`newc`] | archives: [`Archive`] collects files and writes them; [`newc::walk`] reads the members of an initramfs |
//! | [`compress`] | gzip, zstd, xz and lz4: [`compress::Encoder`] compresses a stream, [`compress::unpack`] decompresses one |
//! | [`spool`] | copies input without random access into an unlinked file |
//! | [`bytes`] | a reader at an offset of a file; a check for zeros |
//!
//! `newc` uses `compress`; neither `spool` nor `bytes` uses another module.

pub mod bytes;
pub mod compress;
pub mod newc;
pub mod spool;

pub use newc::{Archive, source_date_epoch};
