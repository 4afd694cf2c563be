//! Kernel images: recognition, unpacking, and the cache of unpacked kernels.
//!
//! QEMU loads three forms of a kernel: a bzImage of x86 or s390, which unpacks itself in the guest,
//! a vmlinux of x86 with a PVH entry, which starts at once, or of POWER, and an Image of arm64 or
//! RISC-V. All other forms are unpacked here.
//!
//! | Module | What it does |
//! |---|---|
//! | [`bzimage`] | reads the setup header of a bzImage |
//! | [`elf`] | cuts a vmlinux down to what a boot by PVH needs |
//! | [`lzop`], [`decompress`] | unpack the compressed kernel |
//! | [`form`] | recognises a file that was given as a kernel |
//! | [`image_hash`], [`cache`] | keep unpacked kernels for the next run |
//! | [`pvh`] | takes the vmlinux out of a bzImage |
//! | [`wrapper`] | takes a kernel out of a compressed file, a UKI or an EFI zboot image |
//! | [`samples`] | makes small kernels for tests |

pub mod bzimage;
pub mod cache;
pub mod decompress;
pub mod elf;
pub mod form;
pub mod image_hash;
pub mod lzop;
pub mod pvh;
pub mod samples;
pub mod wrapper;
