//! Archives that a kernel unpacks: compressed ones of any size, with ours behind them,
//! and members that are odd, where the kernel says what is right.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use archive::Archive;
use archive::compress::{Compression, compress};
use archive::newc::{self, Header};
use xtask::testbed;

use crate::Case;
use crate::command_run::CommandRun;
use crate::harness::{Bed, Guest};
use crate::image::{LIST, build};
use crate::initrd;

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("gzip_root",         |bed| root_boots(bed, "gz", None)),
    ("xz_root",           |bed| root_boots(bed, "xz", None)),
    ("zstd_root",         |bed| root_boots(bed, "zst", None)),
    ("lz4_root_0_mod_4",  |bed| root_boots(bed, "lz4", Some(0))),
    ("lz4_root_1_mod_4",  |bed| root_boots(bed, "lz4", Some(1))),
    ("lz4_root_2_mod_4",  |bed| root_boots(bed, "lz4", Some(2))),
    ("lz4_root_3_mod_4",  |bed| root_boots(bed, "lz4", Some(3))),
    ("gzip_initrd",       |bed| initrd_runs(bed, Compression::Gzip, None)),
    ("xz_initrd",         |bed| initrd_runs(bed, Compression::Xz, None)),
    ("zstd_initrd",       |bed| initrd_runs(bed, Compression::Zstd, None)),
    ("lz4_initrd_0_mod_4", |bed| initrd_runs(bed, Compression::Lz4, Some(0))),
    ("lz4_initrd_1_mod_4", |bed| initrd_runs(bed, Compression::Lz4, Some(1))),
    ("lz4_initrd_2_mod_4", |bed| initrd_runs(bed, Compression::Lz4, Some(2))),
    ("lz4_initrd_3_mod_4", |bed| initrd_runs(bed, Compression::Lz4, Some(3))),
    ("odd_members",       odd_members),
];

/// Archives begin at multiples of so many bytes.
const ALIGNMENT: u64 = 4;

/// Bytes that do not compress: each one more is one more in an archive, now and then
/// two.
fn filler(count: u8) -> Vec<u8> {
    (0..count).map(|number| number.wrapping_mul(167) ^ 0x5a).collect()
}

/// Calls `make` with more and more bytes of filler until the size that it gives has
/// `remainder`, where that matters.
fn until(remainder: Option<u64>, mut make: impl FnMut(Vec<u8>) -> Result<u64>) -> Result<()> {
    for count in 0..100 {
        let size = make(filler(count))?;
        if remainder.is_none_or(|remainder| size % ALIGNMENT == remainder) {
            return Ok(());
        }
    }
    anyhow::bail!("no size is {remainder:?} mod {ALIGNMENT}")
}

/// A machine with a busybox root, which is not booted yet.
fn machine(bed: &Bed) -> Result<Guest> {
    let guest = bed.bare_guest()?;
    testbed::make_root(&guest.root(), &bed.busybox, &[])?;
    Ok(guest)
}

/// The packed `/init` comes behind the root.
fn root_boots(bed: &Bed, ending: &str, remainder: Option<u64>) -> Result<()> {
    let mut guest = machine(bed)?;
    let (tree, image) = (guest.root(), guest.path(&format!("image.cpio.{ending}")));
    until(remainder, |filler| {
        std::fs::write(tree.join("filler"), filler)?;
        build(bed, &tree, &image, &[])?;
        Ok(image.metadata()?.len())
    })?;
    guest.root_is(&image);
    guest.options(&["--memory", "512M"]);
    CommandRun::new(guest, &["sh", "-c", "echo ran"]).finish()?.is(0, "ran\n", "").map(drop)
}

/// The command's record comes behind the initrd.
fn initrd_runs(bed: &Bed, compression: Compression, remainder: Option<u64>) -> Result<()> {
    let mut guest = machine(bed)?;
    let modules = initrd::with_module(bed, "virtio_console")?;
    let mut packed = Vec::new();
    until(remainder, |filler| {
        let mut archive = Archive::default();
        archive.add_file("filler", 0o600, filler);
        let mut bytes = modules.clone();
        archive.write(&mut bytes, 0)?;
        packed = compress(bytes, compression)?;
        Ok(packed.len() as u64)
    })?;
    guest.initrd(&packed)?;
    CommandRun::new(guest, &["sh", "-c", "echo ran"]).finish()?.is(0, "ran\n", "").map(drop)
}

const DIR: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const LINK: u32 = 0o120_777;
const CHAR: u32 = 0o020_600;

/// Name, mode, contents, inode number, links, owner.
type Member = (&'static str, u32, &'static str, u32, u32, u32);

/// Members that a kernel treats in a way of its own.
#[rustfmt::skip]
const ODD: &[Member] = &[
    ("w", DIR, "", 0, 2, 0),
    ("w/usr", DIR, "", 0, 2, 0), ("w/usr/lib", DIR, "", 0, 2, 0),
    // Below links.
    ("w/lib", LINK, "usr/lib", 0, 1, 0), ("w/lib/fw", FILE, "firmware", 0, 1, 0),
    ("w/up", LINK, "../../w/usr", 0, 1, 0), ("w/up/lib/x", FILE, "1", 0, 1, 0),
    ("/w/lib/../lib/y", FILE, "2", 0, 1, 0), ("w/dup", LINK, "/w/lib", 0, 1, 0),
    ("w/dup/lib-link", LINK, "fw", 0, 1, 0),
    // Cut at NUL.
    ("w/l", LINK, "target\0junk", 0, 1, 0), ("w/nul\0junk", FILE, "x", 0, 1, 0),
    ("", FILE, "x", 0, 1, 0),
    // Nothing above them.
    ("w/no/parent", FILE, "x", 0, 1, 0), ("w/no", DIR, "", 0, 2, 0),
    ("w/loop", LINK, "loop", 0, 1, 0), ("w/loop/x", FILE, "", 0, 1, 0),
    ("w/nul/x", FILE, "", 0, 1, 0), ("w/dangling", LINK, "gone", 0, 1, 0), ("w/dangling/x", DIR, "", 0, 2, 0),
    // Twice.
    ("w/a", FILE, "1", 0, 1, 0), ("w/a", FILE, "22", 0, 1, 5), ("w/s", LINK, "1", 0, 1, 0),
    ("w/s", LINK, "2", 0, 1, 6), ("w/fd", FILE, "1", 0, 1, 0), ("w/fd", DIR, "", 0, 2, 0),
    ("w/df", DIR, "", 0, 2, 0), ("w/df", FILE, "f", 0, 1, 0), ("w/ld", LINK, "usr", 0, 1, 0), ("w/ld", DIR, "", 0, 2, 0),
    ("w/full", DIR, "", 0, 2, 0), ("w/full/x", FILE, "", 0, 1, 0), ("w/full", FILE, "f", 0, 1, 0),
    ("w/full", LINK, "t", 0, 1, 0), ("w/full", DIR, "", 0, 2, 9),
    ("w/c", CHAR, "", 0, 1, 0), ("w/c", CHAR, "", 1, 1, 3), ("w/e", CHAR, "contents", 0, 1, 0),
    // With a slash or a dot.
    ("w/lib/", DIR, "", 0, 2, 4), ("w/dangling/", DIR, "", 0, 2, 4), ("w/slash/", FILE, "x", 0, 1, 0),
    ("./w/./dot//", DIR, "", 0, 2, 0), ("w/dot/.", DIR, "", 0, 2, 7), ("w/dot/..", FILE, "x", 0, 1, 0),
    // Several names.
    ("w/h1", FILE, "text", 7, 3, 1), ("w/h2", FILE, "", 7, 3, 2), ("w/h3", FILE, "", 7, 3, 3),
    ("w/k1", FILE, "", 8, 2, 1), ("w/k2", FILE, "last", 8, 2, 2),
    ("w/c1", CHAR, "", 7, 2, 1), ("w/c2", CHAR, "", 7, 2, 2),
    ("w/lost", FILE, "1", 9, 2, 0), ("w/lost", FILE, "2", 9, 2, 0),
    ("w/m1", FILE, "1", 10, 2, 0), ("w/m2", FILE, "", 10, 2, 0), ("w/m2", FILE, "new", 0, 1, 8),
    ("w/lib/h4", FILE, "", 7, 3, 4),
    ("TRAILER!!!", 0, "", 0, 1, 0),
    ("w/h5", FILE, "other", 7, 2, 0), ("w/h6", FILE, "", 7, 2, 0),
];

/// `members` as one archive, files with their check sums.
fn archive(members: &[Member]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for &(name, mode, text, ino, nlink, uid) in members {
        let size = u32::try_from(text.len())?;
        let rdev = if mode == CHAR { (10, 100 + ino) } else { (0, 0) };
        let sum = text.bytes().map(u32::from).sum();
        let header = Header {
            ino,
            mode,
            uid,
            nlink,
            mtime: 1_000_000_000,
            size,
            rdev_major: rdev.0,
            rdev_minor: rdev.1,
            check: (mode == FILE).then_some(sum),
            ..Header::default()
        };
        header.write(&mut bytes, name.as_bytes())?;
        bytes.extend(text.as_bytes());
        newc::pad(&mut bytes, size.into())?;
    }
    newc::trailer(&mut bytes)?;
    Ok(bytes)
}

/// The kernel and `image build` make the same of it.
fn odd_members(bed: &Bed) -> Result<()> {
    let mut guest = machine(bed)?;
    let (image, unpacked) = (guest.path("image.cpio"), guest.path("unpacked"));
    build(bed, &guest.root(), &image, &[])?;
    let bytes = [std::fs::read(&image)?, archive(ODD)?].concat();
    std::fs::write(&image, bytes)?;
    build(bed, &image, &unpacked, &["--format", "dir"])?;
    let ours = list(bed, &unpacked.join("w"))?;
    ensure!(ours.lines().count() > 40, "{ours}");
    guest.root_is(&image);
    guest.options(&["--memory", "512M"]);
    let run = CommandRun::new(guest, &["sh", "-c", LIST, "sh", "/w"]);
    run.finish()?.is(0, ours, "").map(drop)
}

fn list(bed: &Bed, tree: &Path) -> Result<String> {
    let output = Command::new(&bed.busybox).args(["sh", "-c", LIST, "sh"]).arg(tree).output();
    String::from_utf8(output.context("run busybox")?.stdout).context("names")
}
