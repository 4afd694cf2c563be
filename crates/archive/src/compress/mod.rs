//! Compression in the containers that the kernel's initramfs unpacker knows.
//!
//! For each container, the output of its usual tool can be unusable for the kernel:
//!
//! - xz must use CRC32 checks, because the kernel has no CRC64 (kernel doc:
//!   staging/xz.rst).
//! - lz4 must be the legacy container (`lib/decompress_unlz4.c`).
//! - zstd must use a small window: while the guest unpacks, the window occupies memory
//!   of the guest (`lib/decompress_unzstd.c`).
//!
//! | Module | Contents |
//! |---|---|
//! | `container` | [`Compression`], [`Method`], and the first bytes of each container |
//! | `lz4` | encoder and decoder of the legacy container |
//! | `encode` | [`Encoder`] and [`compress()`] |
//! | `decode` | [`unpack`], [`head`], [`decompress`] and [`decompress_all`] |
//!
//! Each module uses only those above it in the table.

mod container;
mod decode;
mod encode;
mod lz4;

pub use container::{
    Compression, GZIP_MAGIC, LZ4_FRAME_MAGIC, LZ4_MAGIC, Method, XZ_MAGIC, ZSTD_MAGIC,
};
pub use decode::{Unpacked, decompress, decompress_all, head, skip_padding, unpack};
pub use encode::{Encoder, compress};
pub use lz4::Lz4Encoder;
