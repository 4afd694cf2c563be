//! The containers: their names, first bytes and compression levels.
//!
//! All constants with first bytes ("magics") of compressed files are here.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use files::named::Named;

/// First bytes of a gzip member (RFC 1952 §2.3.1).
pub const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
/// First bytes of an xz stream (The .xz File Format §2.1.1.1).
pub const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";
/// First bytes of a zstd frame (RFC 8878 §3.1.1).
pub const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// First bytes of lz4's legacy container (`ARCHIVE_MAGICNUMBER`,
/// `lib/decompress_unlz4.c`).
pub const LZ4_MAGIC: &[u8; 4] = &[0x02, 0x21, 0x4c, 0x18];
/// First bytes of lz4's frame format, which lz4(1) writes by default and no kernel
/// unpacks (lz4_Frame_format.md).
pub const LZ4_FRAME_MAGIC: &[u8] = &[0x04, 0x22, 0x4d, 0x18];
/// Last three of the four bytes that begin a skippable frame of zstd; the first byte
/// is 0x50 to 0x5f (RFC 8878 §3.1.2).
const SKIPPABLE_MAGIC: &[u8] = &[0x2a, 0x4d, 0x18];

/// A container around an archive, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As it is: quickest to make and to boot
    #[default]
    None,
    /// RFC 1952
    Gzip,
    /// RFC 8878
    Zstd,
    /// With CRC32 checks
    Xz,
    /// Legacy container
    Lz4,
}

#[rustfmt::skip]
impl Named for Compression {
    const NAMES: &'static [(&'static str, Self, &'static str)] = &[
        ("none", Self::None, "As it is: quickest to make and to boot"),
        ("gzip", Self::Gzip, "RFC 1952"),
        ("zstd", Self::Zstd, "RFC 8878"),
        ("xz", Self::Xz, "With CRC32 checks"),
        ("lz4", Self::Lz4, "Legacy container"),
    ];
}

/// Properties of a container.
struct Container {
    compression: Compression,
    /// The first bytes of a file in this container.
    magic: &'static [u8],
    levels: Levels,
}

/// Compression levels of a container.
#[derive(Clone, Copy)]
pub(super) struct Levels {
    pub(super) lowest: i32,
    /// The level if no level is given.
    pub(super) usual: i32,
    pub(super) highest: i32,
}

const fn levels(lowest: i32, usual: i32, highest: i32) -> Levels {
    Levels { lowest, usual, highest }
}

/// All containers. The usual levels are those of gzip(1), xz(1) and zstd(1). The levels
/// of lz4 are for EROFS; the legacy container ignores them.
#[rustfmt::skip]
const CONTAINERS: &[Container] = &[
    Container { compression: Compression::Gzip, magic: GZIP_MAGIC, levels: levels(1, 6, 9) },
    Container { compression: Compression::Xz,   magic: XZ_MAGIC,   levels: levels(0, 6, 9) },
    Container { compression: Compression::Zstd, magic: ZSTD_MAGIC, levels: levels(1, 3, 19) },
    Container { compression: Compression::Lz4,  magic: LZ4_MAGIC,  levels: levels(1, 1, 12) },
];

impl Compression {
    /// Recognises the container of a file by its first bytes. A skippable frame counts
    /// as zstd, although it has no contents: pzstd begins each file with one.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        if matches!(head, [0x50..=0x5f, rest @ ..] if rest.starts_with(SKIPPABLE_MAGIC)) {
            return Self::Zstd;
        }
        let found = CONTAINERS.iter().find(|container| head.starts_with(container.magic));
        found.map_or(Self::None, |container| container.compression)
    }

    /// The compression levels; `None` without a container.
    pub(super) fn levels(self) -> Option<Levels> {
        let found = CONTAINERS.iter().find(|container| container.compression == self);
        found.map(|container| container.levels)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Name that mkfs.erofs(1) gives to lz4 with a more thorough search for matches, and the
/// level that this name means without a number.
const LZ4HC: (&str, i32) = ("lz4hc", 9);

/// Compression of a file: a container and a level, as text `METHOD[:LEVEL]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Method {
    /// The container.
    pub compression: Compression,
    /// The level; `None` for the usual level of the container.
    pub level: Option<i32>,
}

impl FromStr for Method {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, level) = text.split_once(':').map_or((text, None), |(a, b)| (a, Some(b)));
        let mut methods: Vec<_> = Compression::NAMES
            .iter()
            .map(|&(name, compression, _)| (name, compression, None))
            .collect();
        methods.push((LZ4HC.0, Compression::Lz4, Some(LZ4HC.1)));
        let found = methods.iter().find(|(known, ..)| *known == name);
        let Some(&(_, compression, usual)) = found else {
            let names: Vec<_> = methods.iter().map(|(name, ..)| *name).collect();
            bail!("\"{name}\" is none of {}", names.join(", "));
        };
        let Some(level) = level else { return Ok(Self { compression, level: usual }) };
        let Some(Levels { lowest, highest, .. }) = compression.levels() else {
            bail!("{name} has no levels")
        };
        let level = level.parse().ok().filter(|level| (lowest..=highest).contains(level));
        ensure!(level.is_some(), "{name} has levels from {lowest} to {highest}");
        Ok(Self { compression, level })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.compression.fmt(f)?;
        self.level.map_or(Ok(()), |level| write!(f, ":{level}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_names_and_levels() {
        for (text, expected) in [
            ("none", "none"),
            ("zstd:19", "zstd:19"),
            ("lz4", "lz4"),
            ("lz4:3", "lz4:3"),
            ("lz4hc", "lz4:9"),
            ("lz4hc:12", "lz4:12"),
            ("lz4hc:13", "lz4hc has levels from 1 to 12"),
            ("none:1", "none has no levels"),
            ("brotli", "\"brotli\" is none of none, gzip, zstd, xz, lz4, lz4hc"),
        ] {
            let parsed = text.parse::<Method>();
            let shown = parsed.map_or_else(|error| error.to_string(), |method| method.to_string());
            assert_eq!(shown, expected, "{text}");
        }
    }
}
