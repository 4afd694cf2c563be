//! Targets for archives and images: a small tree in every format, and the rules for the
//! tree of an accepted input.

use std::io::{Read, Seek, sink};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use archive::compress::{Compression, Method};
use chrootvm::image_command::ls;
use files::notes::Notes;
use image::format::Format;
use image::progress::Progress;
use image::tree::{Children, Content, Id, Kind, Meta, Tree, Xattrs};
use image::{source, write};

use super::input::{Answer, in_memory};

/// Largest number of bytes that are read of one file: an image may state any size.
const READ_MAX: u64 = 1 << 20;

/// Largest number of bytes that are read of all files of an image.
const READ_MAX_ALL: u64 = 16 << 20;

/// Largest sum of file sizes of a tree that is written again, in bytes.
const WRITE_MAX: u64 = 4 << 20;

/// Largest size of an unpacked archive, which lies on a disk, in bytes.
const COPY_MAX: u64 = 64 << 20;

/// Reads the archive or image in `bytes` as `chrootvm image` does.
fn read(bytes: &[u8]) -> Result<Tree> {
    let file = in_memory(bytes)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let options = source::ReadOptions { max_size: COPY_MAX, ..source::ReadOptions::default() };
    Ok(source::open(&path, &options, &mut Notes::default())?.tree)
}

/// Contents of this `length`: text that compresses well, and bytes that do not.
fn contents(length: u32) -> [Vec<u8>; 2] {
    let mut noise = vec![0; length as usize];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let text = (0..length / 4).flat_map(|number| format!("{} ", number % 97).into_bytes());
    [text.collect(), noise]
}

/// A small tree with every kind of file, and with contents for every way of storing them.
pub(super) fn sample() -> Result<Tree> {
    let meta = |permissions| Meta { permissions, uid: 1, gid: 70_000, mtime: 7, ..Meta::default() };
    let mut tree = Tree::new(meta(0o755));
    let mut add =
        |parent: Id, name: &str, kind| tree.add(parent, name.as_bytes(), meta(0o644), kind);
    let file = |bytes: &[u8]| Kind::File(Content::Bytes(bytes.into()));
    let directory = || Kind::Directory(Children::new());
    let files = add(Tree::ROOT, "files", directory())?;
    let [text, noise] = contents(9000);
    let mut holes = vec![0; 100_000];
    holes[50_000..50_100].copy_from_slice(&noise[..100]);
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("short", b"short\n"),
        ("text", &text),
        ("noise", &noise),
        ("holes", &holes),
    ] {
        add(files, name, file(bytes))?;
    }
    let many = add(Tree::ROOT, "many", directory())?;
    for number in 0..40 {
        add(many, &format!("{number:040}"), Kind::Fifo)?;
    }
    let deep = add(many, "deep", directory())?;
    let deeper = add(deep, "deeper", directory())?;
    add(deeper, "link", Kind::Symlink(b"../../short".as_slice().into()))?;
    add(deeper, "long-link", Kind::Symlink(vec![b'l'; 300].into()))?;
    add(deeper, &"n".repeat(200), Kind::CharDevice(4, 64))?;
    add(deeper, "block", Kind::BlockDevice(259, 300))?;
    add(deeper, "socket", Kind::Socket)?;
    let short = tree.find(b"files/short").context("files/short")?;
    tree.link(deeper, b"linked", short)?;
    let pairs: [(&[u8], &[u8]); 4] = [
        (b"security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (b"trusted.empty", b""),
        (b"user.large", &noise[..600]),
        (b"user.x", b"value"),
    ];
    let xattrs: Xattrs =
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    for id in [files, deeper, short] {
        tree.node_mut(id).meta.xattrs.clone_from(&xattrs);
    }
    Ok(tree)
}

/// A disk image with `tree`, compressed by `method`.
fn disk(
    tree: &Tree,
    format: Format,
    method: Option<&str>,
    cluster: Option<u64>,
) -> Result<Vec<u8>> {
    let options = write::disk::DiskOptions {
        uuid: Some([7; 16]),
        label: "fuzz".into(),
        slack: Some(0),
        compress: method.map(Method::from_str).transpose()?,
        cluster_size: cluster,
        threads: 1,
        ..write::disk::DiskOptions::default()
    };
    let mut file = in_memory(b"")?;
    let progress = Progress::bar(tree, String::new());
    write::disk::write(tree, format, &options, &file, &mut Notes::default(), &progress)?;
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Seeds of EROFS: compressed, plain, and with large clusters.
pub(super) fn erofs() -> Result<Vec<Vec<u8>>> {
    let tree = sample()?;
    let make = |method, cluster| disk(&tree, Format::Erofs, method, cluster);
    Ok(vec![make(None, None)?, make(Some("none"), None)?, make(None, Some(65536))?])
}

/// Seed of ext4. Its reader ignores check sums.
pub(super) fn ext4() -> Result<Vec<Vec<u8>>> {
    Ok(vec![disk(&sample()?, Format::Ext4, None, None)?])
}

/// Seeds of squashfs: with plain metadata, where damage hits single fields, and with each
/// compressor.
pub(super) fn squashfs() -> Result<Vec<Vec<u8>>> {
    let tree = sample()?;
    let plain = super::seeds::plain_squashfs(&tree)?;
    let packed = ["gzip", "zstd", "xz", "lz4"]
        .map(|method| disk(&tree, Format::Squashfs, Some(method), Some(4096)));
    let packed: Vec<_> = packed.into_iter().collect::<Result<_>>()?;
    Ok([vec![plain.clone(), plain.clone(), plain], packed].concat())
}

/// Reads an input as `image ls`, `verify` and `build` do. If the tree can be read, reading
/// its files must end, with or without an error, and a copy in another format must be
/// readable.
pub(super) fn check(bytes: &[u8]) -> Result<Answer> {
    match read(bytes) {
        Ok(tree) => check_tree(&tree, bytes),
        Err(_) => Ok(Answer::Refused),
    }
}

/// Checks the tree that was read from an input.
pub(super) fn check_tree(tree: &Tree, bytes: &[u8]) -> Result<Answer> {
    let mut left = READ_MAX_ALL;
    let mut sum = 0_u64;
    tree.walk(&mut |path, id| {
        let node = tree.node(id);
        ensure!(!ls::line(path, node).contains(char::is_control), "a line that steers a terminal");
        let Kind::File(content) = &node.kind else { return Ok(()) };
        sum = sum.saturating_add(content.size());
        if let Ok(reader) = content.open() {
            let most = content.size().min(READ_MAX).min(left);
            // An error is fine, more bytes than the size are not.
            let count = std::io::copy(&mut reader.take(READ_MAX.min(left)), &mut sink());
            left -= count.as_ref().map_or(0, |count| *count);
            ensure!(count.map_or(true, |count| count == most), "bytes that are not its size");
        }
        Ok(())
    })?;
    if sum <= WRITE_MAX {
        write_again(tree, bytes)?;
    }
    Ok(Answer::Accepted)
}

/// Writes `tree` in a format that depends on `bytes`. For most inputs it writes nothing,
/// because writing takes longer than reading.
fn write_again(tree: &Tree, bytes: &[u8]) -> Result<()> {
    /// Eight of this number of inputs are written.
    const SHARE: usize = 24;
    let mut notes = Notes::default();
    let mut out = Vec::new();
    // Errors are allowed: contents may be unreadable, or the format may not support them.
    let written = match bytes.iter().fold(0_usize, |sum, byte| sum + usize::from(*byte)) % SHARE {
        0 => disk(tree, Format::Ext4, None, None),
        1 => disk(tree, Format::Squashfs, Some("zstd"), None),
        2 | 3 => write::tar::write(tree, &mut out, &mut notes).map(|()| out),
        4 => write::cpio::write(tree, &mut out, &mut notes).map(|()| out),
        5 => disk(tree, Format::Erofs, Some("none"), None),
        6 | 7 => disk(tree, Format::Erofs, None, None),
        _ => return Ok(()),
    };
    let _ = notes.lines().count(); // makes the lines, nobody reads them
    if let Ok(written) = written {
        read(&written).context("its copy in another format cannot be read")?;
    }
    Ok(())
}

/// Seeds of tar: from our writer, from other programs, and with holes in four forms.
pub(super) fn tar() -> Result<Vec<Vec<u8>>> {
    let tree = sample()?;
    let mut all = vec![Vec::new()];
    write::tar::write(&tree, &mut all[0], &mut Notes::default())?;
    all.extend(super::seeds::sparse_tars());
    all.push(super::seeds::other_tar());
    Ok(all)
}

/// Seeds of cpio: with and without check sums, and with a compressed part.
pub(super) fn cpio() -> Result<Vec<Vec<u8>>> {
    let mut plain = Vec::new();
    write::cpio::write(&sample()?, &mut plain, &mut Notes::default())?;
    let mut summed = plain.clone();
    for at in 0..summed.len() {
        if summed[at..].starts_with(b"070701") {
            summed[at + 5] = b'2';
        }
    }
    super::repair::cpio(&mut summed);
    let packed = archive::compress::compress(plain.clone(), Compression::Gzip)?;
    Ok(vec![[&plain[..], &[0; 12], &packed].concat(), plain, summed])
}
