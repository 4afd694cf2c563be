//! Archives that the kernel unpacks: compressed archives of any size before the initrd of
//! `chrootvm`, and odd members, for which the kernel defines the right result.

use anyhow::{Result, bail, ensure};
use archive::Archive;
use archive::compress::{Compression, compress};
use archive::newc::{Header, write_member, write_trailer};

use crate::harness::command_run::CommandRun;
use crate::harness::make::image::{LIST, build, list};
use crate::harness::make::initrd;
use crate::harness::{Bed, Case};

#[rustfmt::skip]
pub(crate) const CASES: &[Case] = &[
    ("gzip_root",         |bed| root_boots(bed, "gz", None)),
    ("xz_root",           |bed| root_boots(bed, "xz", None)),
    ("zstd_root",         |bed| root_boots(bed, "zst", None)),
    ("lz4_root_0_mod_4",  |bed| root_boots(bed, "lz4", Some(0))),
    ("lz4_root_3_mod_4",  |bed| root_boots(bed, "lz4", Some(3))),
    ("zstd_initrd",       |bed| initrd_runs(bed, Compression::Zstd, None)),
    ("lz4_initrd_0_mod_4", |bed| initrd_runs(bed, Compression::Lz4, Some(0))),
    ("lz4_initrd_3_mod_4", |bed| initrd_runs(bed, Compression::Lz4, Some(3))),
    ("odd_members_are_unpacked_alike", odd_members_are_unpacked_alike),
];

/// Rows that take the way of another row; they run on request.
#[rustfmt::skip]
pub(crate) const MORE: &[Case] = &[
    ("lz4_root_1_mod_4",  |bed| root_boots(bed, "lz4", Some(1))),
    ("lz4_root_2_mod_4",  |bed| root_boots(bed, "lz4", Some(2))),
    ("gzip_initrd",       |bed| initrd_runs(bed, Compression::Gzip, None)),
    ("xz_initrd",         |bed| initrd_runs(bed, Compression::Xz, None)),
    ("lz4_initrd_1_mod_4", |bed| initrd_runs(bed, Compression::Lz4, Some(1))),
    ("lz4_initrd_2_mod_4", |bed| initrd_runs(bed, Compression::Lz4, Some(2))),
];

/// Alignment of an archive in bytes (`unpack_to_rootfs()` of `init/initramfs.c`).
const ALIGNMENT: u64 = 4;

/// `count` bytes that do not compress. One more of them makes an archive one byte longer, now
/// and then two.
fn filler(count: u8) -> Vec<u8> {
    (0..count).map(|number| number.wrapping_mul(167) ^ 0x5a).collect()
}

/// Calls `make` with more and more bytes of filler until the size that it returns has
/// `remainder`, or once if there is no `remainder`.
fn make_until(remainder: Option<u64>, mut make: impl FnMut(Vec<u8>) -> Result<u64>) -> Result<()> {
    for count in 0..100 {
        let size = make(filler(count))?;
        if remainder.is_none_or(|remainder| size % ALIGNMENT == remainder) {
            return Ok(());
        }
    }
    bail!("no size is {remainder:?} mod {ALIGNMENT}")
}

/// `chrootvm` puts its initrd behind the root, which is an archive.
fn root_boots(bed: &Bed, ending: &str, remainder: Option<u64>) -> Result<()> {
    let mut machine = bed.busybox_machine()?;
    let (tree, image) = (machine.root(), machine.path(&format!("image.cpio.{ending}")));
    make_until(remainder, |filler| {
        std::fs::write(tree.join("filler"), filler)?;
        build(bed, &tree, &image, &[])?;
        Ok(image.metadata()?.len())
    })?;
    machine.root_is(&image);
    machine.options(&["--memory", "512M"]);
    CommandRun::new(machine, &["sh", "-c", "echo ran"]).finish()?.is(0, "ran\n", "").map(drop)
}

/// `chrootvm` puts the command behind the user's initrd.
fn initrd_runs(bed: &Bed, compression: Compression, remainder: Option<u64>) -> Result<()> {
    let mut machine = bed.busybox_machine()?;
    let modules = initrd::with_module(bed, "virtio_console")?;
    let mut packed = Vec::new();
    make_until(remainder, |filler| {
        let mut archive = Archive::default();
        archive.add_file("filler", 0o600, filler);
        let mut bytes = modules.clone();
        archive.write(&mut bytes, 0)?;
        packed = compress(bytes, compression)?;
        Ok(packed.len() as u64)
    })?;
    machine.initrd(&packed)?;
    CommandRun::new(machine, &["sh", "-c", "echo ran"]).finish()?.is(0, "ran\n", "").map(drop)
}

/// Modes of members, with their file types (inode(7)).
const DIR: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const LINK: u32 = 0o120_777;
const CHAR: u32 = 0o020_600;

/// Name, mode, contents, inode number, links, owner.
type Member = (&'static str, u32, &'static str, u32, u32, u32);

/// Members that the kernel unpacks in a way of its own.
#[rustfmt::skip]
const ODD: &[Member] = &[
    ("w", DIR, "", 0, 2, 0),
    ("w/usr", DIR, "", 0, 2, 0), ("w/usr/lib", DIR, "", 0, 2, 0),
    // Members below links.
    ("w/lib", LINK, "usr/lib", 0, 1, 0), ("w/lib/fw", FILE, "firmware", 0, 1, 0),
    ("w/up", LINK, "../../w/usr", 0, 1, 0), ("w/up/lib/x", FILE, "1", 0, 1, 0),
    ("/w/lib/../lib/y", FILE, "2", 0, 1, 0), ("w/dup", LINK, "/w/lib", 0, 1, 0),
    ("w/dup/lib-link", LINK, "fw", 0, 1, 0),
    // Names and targets with a NUL, where the kernel cuts them.
    ("w/l", LINK, "target\0junk", 0, 1, 0), ("w/nul\0junk", FILE, "x", 0, 1, 0),
    ("", FILE, "x", 0, 1, 0),
    // Members without a directory above them.
    ("w/no/parent", FILE, "x", 0, 1, 0), ("w/no", DIR, "", 0, 2, 0),
    ("w/loop", LINK, "loop", 0, 1, 0), ("w/loop/x", FILE, "", 0, 1, 0),
    ("w/nul/x", FILE, "", 0, 1, 0), ("w/dangling", LINK, "gone", 0, 1, 0), ("w/dangling/x", DIR, "", 0, 2, 0),
    // Names that come twice.
    ("w/a", FILE, "1", 0, 1, 0), ("w/a", FILE, "22", 0, 1, 5), ("w/s", LINK, "1", 0, 1, 0),
    ("w/s", LINK, "2", 0, 1, 6), ("w/fd", FILE, "1", 0, 1, 0), ("w/fd", DIR, "", 0, 2, 0),
    ("w/df", DIR, "", 0, 2, 0), ("w/df", FILE, "f", 0, 1, 0), ("w/ld", LINK, "usr", 0, 1, 0), ("w/ld", DIR, "", 0, 2, 0),
    ("w/full", DIR, "", 0, 2, 0), ("w/full/x", FILE, "", 0, 1, 0), ("w/full", FILE, "f", 0, 1, 0),
    ("w/full", LINK, "t", 0, 1, 0), ("w/full", DIR, "", 0, 2, 9),
    ("w/c", CHAR, "", 0, 1, 0), ("w/c", CHAR, "", 1, 1, 3), ("w/e", CHAR, "contents", 0, 1, 0),
    // Names with a slash or a dot at their end.
    ("w/lib/", DIR, "", 0, 2, 4), ("w/dangling/", DIR, "", 0, 2, 4), ("w/slash/", FILE, "x", 0, 1, 0),
    ("./w/./dot//", DIR, "", 0, 2, 0), ("w/dot/.", DIR, "", 0, 2, 7), ("w/dot/..", FILE, "x", 0, 1, 0),
    // Hard links.
    ("w/h1", FILE, "text", 7, 3, 1), ("w/h2", FILE, "", 7, 3, 2), ("w/h3", FILE, "", 7, 3, 3),
    ("w/k1", FILE, "", 8, 2, 1), ("w/k2", FILE, "last", 8, 2, 2),
    ("w/c1", CHAR, "", 7, 2, 1), ("w/c2", CHAR, "", 7, 2, 2),
    ("w/lost", FILE, "1", 9, 2, 0), ("w/lost", FILE, "2", 9, 2, 0),
    ("w/m1", FILE, "1", 10, 2, 0), ("w/m2", FILE, "", 10, 2, 0), ("w/m2", FILE, "new", 0, 1, 8),
    ("w/lib/h4", FILE, "", 7, 3, 4),
    ("TRAILER!!!", 0, "", 0, 1, 0),
    ("w/h5", FILE, "other", 7, 2, 0), ("w/h6", FILE, "", 7, 2, 0),
];

/// An archive of `members`. Files have check sums.
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
        write_member(&mut bytes, &header, name.as_bytes(), text.as_bytes())?;
    }
    write_trailer(&mut bytes)?;
    Ok(bytes)
}

/// The kernel and `image build` unpack the same tree.
fn odd_members_are_unpacked_alike(bed: &Bed) -> Result<()> {
    let mut machine = bed.busybox_machine()?;
    let (image, unpacked) = (machine.path("image.cpio"), machine.path("unpacked"));
    build(bed, &machine.root(), &image, &[])?;
    let bytes = [std::fs::read(&image)?, archive(ODD)?].concat();
    std::fs::write(&image, bytes)?;
    build(bed, &image, &unpacked, &["--format", "dir"])?;
    let ours = list(bed, &unpacked.join("w"))?;
    ensure!(ours.len() > 2_000, "the list is short: {}", ours.escape_ascii());
    machine.root_is(&image);
    machine.options(&["--memory", "512M"]);
    let run = CommandRun::new(machine, &["sh", "-c", LIST, "sh", "/w"]);
    run.finish()?.is(0, ours, "").map(drop)
}
