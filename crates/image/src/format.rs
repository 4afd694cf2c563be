//! Formats of images: recognised by contents, or chosen by the ending of a name.
//!
//! | Format | Recognised by |
//! |---|---|
//! | a container | its magic; then the contents are unpacked and recognised, too |
//! | cpio | `070701` or `070702` at offset 0 (kernel doc: driver-api/early-userspace/buffer-format.rst) |
//! | file systems | [`proto::superblock`] |
//! | FAT | its name at offset 54 or 82, and the mark of an MBR |
//! | GPT, MBR | `EFI PART` at offset 512, `55 aa` at offset 510 |
//! | tar | the check sum of its first header (POSIX pax(1), ustar), or nothing but zeros |

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use archive::bytes::At;
use archive::compress::{self, Compression, LZ4_FRAME_MAGIC, Method};
use archive::newc;
use proto::superblock;

use crate::ustar::{BLOCK, Header};

/// A format of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// newc, as a kernel unpacks it into its initramfs
    Cpio(Compression),
    /// ustar, with the extensions of POSIX and GNU
    Tar(Compression),
    /// A disk with the read-only file system EROFS
    Erofs,
    /// A disk with ext4, ext3 or ext2
    Ext4,
    /// A disk with the read-only file system squashfs
    Squashfs,
    /// A directory
    Dir,
    /// An OCI image in the archive of a layout: known by the ending of a name, but the crate `oci`
    /// reads and writes it
    OciArchive,
    /// A disk with another file system, by its name for mount(2): a guest may be able to
    /// mount it, but this crate does not read it
    OtherDisk(&'static str),
    /// A disk with partitions
    PartitionTable,
}

impl Format {
    /// All formats that this crate reads and writes, without compression.
    pub const KNOWN: &[Self] = &[
        Self::Cpio(Compression::None),
        Self::Tar(Compression::None),
        Self::Erofs,
        Self::Ext4,
        Self::Squashfs,
        Self::Dir,
    ];

    /// Formats that this crate neither reads nor writes, but that programs of the distribution
    /// write.
    pub const BY_PROGRAMS: &[Self] =
        &[Self::OtherDisk("btrfs"), Self::OtherDisk("xfs"), Self::OtherDisk("vfat")];

    /// The name that users type for this format.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpio(_) => "cpio",
            Self::Tar(_) => "tar",
            Self::Erofs => "erofs",
            Self::Ext4 => "ext4",
            Self::Squashfs => "squashfs",
            Self::Dir => "dir",
            Self::OciArchive => "oci",
            Self::OtherDisk(kind) => kind,
            Self::PartitionTable => "disk with partitions",
        }
    }

    /// The container around the archive.
    #[must_use]
    pub fn compression(self) -> Compression {
        match self {
            Self::Cpio(compression) | Self::Tar(compression) => compression,
            _ => Compression::None,
        }
    }

    /// Whether an image in this format can be compressed with this method, either as a whole
    /// or inside.
    #[must_use]
    pub fn takes(self, method: Method) -> bool {
        let Method { compression, level } = method;
        match (self, compression) {
            (Self::Erofs, _) => matches!(compression, Compression::None | Compression::Lz4),
            (_, Compression::Lz4) if level.is_some_and(|level| level > 1) => false,
            (Self::Cpio(_), _) => true,
            // tar(1) reads lz4's frame format, not the legacy container.
            (Self::Tar(_), _) => compression != Compression::Lz4,
            (Self::Squashfs, _) => compression != Compression::None,
            (Self::OciArchive, _) => {
                matches!(compression, Compression::None | Compression::Gzip | Compression::Zstd)
            }
            _ => compression == Compression::None,
        }
    }

    /// This format in a container; `None` for a format that is never in a container.
    #[must_use]
    pub fn compressed(self, compression: Compression) -> Option<Self> {
        match self {
            Self::Cpio(_) => Some(Self::Cpio(compression)),
            Self::Tar(_) => Some(Self::Tar(compression)),
            // Its layers are compressed, not the archive.
            Self::OciArchive => Some(self),
            _ => (compression == Compression::None).then_some(self),
        }
    }

    /// The file system's name for mount(2); `None` if the format is not a disk with one file
    /// system.
    #[must_use]
    pub fn file_system(self) -> Option<&'static str> {
        match self {
            Self::Erofs | Self::Ext4 | Self::Squashfs | Self::OtherDisk(_) => Some(self.name()),
            Self::Cpio(_) | Self::Tar(_) | Self::Dir | Self::OciArchive | Self::PartitionTable => {
                None
            }
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self.compression() {
            Compression::None => Ok(()),
            compression => write!(f, ", {compression}"),
        }
    }
}

/// Endings of file names, and the format that each one means.
#[rustfmt::skip]
const ENDINGS: &[(&str, Format)] = &[
    (".cpio.gz",  Format::Cpio(Compression::Gzip)),
    (".cpio.zst", Format::Cpio(Compression::Zstd)),
    (".cpio.xz",  Format::Cpio(Compression::Xz)),
    (".cpio.lz4", Format::Cpio(Compression::Lz4)),
    (".cpio",     Format::Cpio(Compression::None)),
    // Before `.tar`, with which it ends, too.
    (".oci.tar",  Format::OciArchive),
    (".tar.gz",   Format::Tar(Compression::Gzip)),
    (".tgz",      Format::Tar(Compression::Gzip)),
    (".tar.zst",  Format::Tar(Compression::Zstd)),
    (".tar.xz",   Format::Tar(Compression::Xz)),
    (".tar",      Format::Tar(Compression::None)),
    (".erofs",    Format::Erofs),
    (".ext4",     Format::Ext4),
    (".squashfs", Format::Squashfs),
    (".sqfs",     Format::Squashfs),
    (".btrfs",    Format::OtherDisk("btrfs")),
    (".xfs",      Format::OtherDisk("xfs")),
    (".vfat",     Format::OtherDisk("vfat")),
    (".fat",      Format::OtherDisk("vfat")),
    ("/",         Format::Dir),
];

/// The format that the ending of the name `path` means.
#[must_use]
pub fn by_name(path: &Path) -> Option<Format> {
    let name = path.as_os_str().as_bytes();
    let row = ENDINGS.iter().find(|(ending, _)| name.ends_with(ending.as_bytes()));
    row.map(|(_, format)| *format)
}

/// The endings that [`by_name`] knows, as text for a message.
#[must_use]
pub fn endings() -> String {
    let endings: Vec<_> = ENDINGS.iter().map(|(ending, _)| *ending).collect();
    endings.join(" ")
}

/// Recognises the format of `file` by its contents. Neither uses nor changes the position
/// of the file.
///
/// # Errors
/// An unknown format; a file that cannot be read by offset, such as a pipe.
pub fn recognise(file: &File) -> Result<Format> {
    if file.metadata().context("look at it")?.is_dir() {
        return Ok(Format::Dir);
    }
    let head = head(At { file, offset: 0 })?;
    let compression = Compression::of(&head);
    ensure!(
        !head.starts_with(LZ4_FRAME_MAGIC),
        "lz4's frame format is not read here: unpack it with lz4 -d, or pack it with lz4 -l"
    );
    if compression == Compression::None {
        return by_head(&head).context("unknown format: neither an archive nor a file system");
    }
    let mut input = BufReader::new(At { file, offset: 0 });
    let inner = compress::head(&mut input, superblock::HEAD).context("unpack it")?;
    let Some((compression, inner)) = inner else { bail!("not compressed") };
    match by_head(&inner).and_then(|format| format.compressed(compression)) {
        Some(format) => Ok(format),
        None => bail!("{compression}, but there is neither cpio nor tar in it"),
    }
}

/// Reads the start of an archive or a disk, as far as formats are recognised by it.
fn head(input: impl Read) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    input.take(superblock::HEAD as u64).read_to_end(&mut head).context("read its start")?;
    Ok(head)
}

/// Names of a FAT in its first sector, and their offsets.
const FAT: &[(usize, &[u8])] = &[(54, b"FAT12   "), (54, b"FAT16   "), (82, b"FAT32   ")];

/// Recognises a format by the uncompressed start of a file.
fn by_head(head: &[u8]) -> Option<Format> {
    let has = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(magic));
    if has(0, newc::MAGIC) || has(0, newc::MAGIC_CHECKED) {
        return Some(Format::Cpio(Compression::None));
    }
    if let Some(found) = superblock::identify(head) {
        let known = Format::KNOWN.iter().find(|format| format.file_system() == Some(found.kind));
        return Some(known.copied().unwrap_or(Format::OtherDisk(found.kind)));
    }
    // A FAT has the mark of an MBR, too (`BS_FilSysType` of the FAT specification 1.03).
    if has(510, b"\x55\xaa") && FAT.iter().any(|&(at, magic)| has(at, magic)) {
        return Some(Format::OtherDisk("vfat"));
    }
    // Each MBR has this mark at its end; the code before it may be missing.
    if has(512, b"EFI PART") || has(510, b"\x55\xaa") {
        return Some(Format::PartitionTable);
    }
    is_tar(head).then_some(Format::Tar(Compression::None))
}

/// Whether `head` is the start of a tar archive. An archive without members consists of
/// zeros only; it is shorter than [`superblock::HEAD`], while an empty disk is longer.
/// Another archive may follow the zeros.
fn is_tar(head: &[u8]) -> bool {
    let (blocks, rest) = head.as_chunks::<BLOCK>();
    match blocks.iter().find(|block| block.iter().any(|&byte| byte != 0)) {
        None => !blocks.is_empty() && rest.is_empty() && head.len() < superblock::HEAD,
        Some(first) => Header::parse(first).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archive::Archive;
    use archive::compress::compress;
    use std::io::Write;

    fn cpio() -> Vec<u8> {
        let mut bytes = Vec::new();
        Archive::default().write(&mut bytes, 0).unwrap();
        bytes
    }

    fn tar() -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.as_ustar_mut().unwrap().name[0] = b'a';
        header.set_size(0);
        header.set_cksum();
        [header.as_bytes(), &[0; 1024][..]].concat()
    }

    fn nameless() -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        header.set_cksum();
        [header.as_bytes(), &[0; 1024][..]].concat()
    }

    fn marked(at: usize, magic: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 70_000];
        bytes[at..at + magic.len()].copy_from_slice(magic);
        bytes
    }

    fn of(bytes: &[u8]) -> Result<Format> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        recognise(&file)
    }

    #[test]
    fn the_format_is_recognised_by_the_contents() {
        for (name, bytes, expected) in [
            ("cpio", cpio(), Format::Cpio(Compression::None)),
            ("tar", tar(), Format::Tar(Compression::None)),
            ("tar without members", vec![0; 10240], Format::Tar(Compression::None)),
            (
                "tar after an empty tar",
                [vec![0; 1024], tar()].concat(),
                Format::Tar(Compression::None),
            ),
            // Some writers give an extended header no name.
            ("tar whose first member has no name", nameless(), Format::Tar(Compression::None)),
            ("erofs", marked(1024, b"\xe2\xe1\xf5\xe0"), Format::Erofs),
            ("ext4", marked(1080, b"\x53\xef"), Format::Ext4),
            ("squashfs", marked(0, b"hsqs"), Format::Squashfs),
            ("btrfs", marked(65_600, b"_BHRfS_M"), Format::OtherDisk("btrfs")),
            ("gpt", marked(512, b"EFI PART"), Format::PartitionTable),
            ("mbr", marked(510, b"\x55\xaa"), Format::PartitionTable),
            (
                "vfat",
                {
                    let mut bytes = marked(510, b"\x55\xaa");
                    bytes[82..90].copy_from_slice(b"FAT32   ");
                    bytes
                },
                Format::OtherDisk("vfat"),
            ),
        ] {
            assert_eq!(of(&bytes).unwrap(), expected, "{name}");
            for compression in
                [Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Lz4]
            {
                let packed = of(&compress(bytes.clone(), compression).unwrap());
                let expected = expected.compressed(compression);
                assert_eq!(packed.ok(), expected, "{name} {compression}");
            }
        }
        assert_eq!(recognise(&File::open("/").unwrap()).unwrap(), Format::Dir);
        // A skippable frame, as in files of pzstd, and a first part that is empty.
        let zstd = |bytes| compress(bytes, Compression::Zstd).unwrap();
        let parts = [b"\x50\x2a\x4d\x18\x04\0\0\0abcd".to_vec(), zstd(Vec::new()), zstd(tar())];
        assert_eq!(of(&parts.concat()).unwrap(), Format::Tar(Compression::Zstd));
    }

    #[test]
    fn unknown_formats_are_errors() {
        for bytes in [
            &b""[..],
            b"text",
            &[0; 1000],
            &vec![0; 1 << 20],
            b"\x1f\x8b",
            b"\x02\x21\x4c\x18\xff\xff",
            LZ4_FRAME_MAGIC,
        ] {
            assert!(of(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn endings_of_names_mean_formats() {
        for (name, expected) in [
            ("a.cpio", Some("cpio")),
            ("a.cpio.zst", Some("cpio, zstd")),
            ("a.tgz", Some("tar, gzip")),
            ("a.erofs", Some("erofs")),
            ("new/", Some("dir")),
            ("a.btrfs", Some("btrfs")),
            ("a.xfs", Some("xfs")),
            ("efi.vfat", Some("vfat")),
            ("efi.fat", Some("vfat")),
            ("a.img", None),
        ] {
            let format = by_name(Path::new(name)).map(|format| format.to_string());
            assert_eq!(format.as_deref(), expected, "{name}");
        }
    }
}
