//! Seeds that our own writers do not make, built byte by byte.

use std::io::Read;

use anyhow::Result;
use files::notes::Notes;
use image::progress::Progress;
use image::squashfs;
use image::tree::Tree;
use image::ustar::BLOCK;

use super::input::in_memory;

/// A squashfs image with plain metadata: level 0 of gzip stores them uncompressed.
pub(super) fn plain_squashfs(tree: &Tree) -> Result<Vec<u8>> {
    use std::io::Seek;
    let options =
        squashfs::SquashfsOptions { level: Some(0), ..squashfs::SquashfsOptions::default() };
    let mut file = in_memory(b"")?;
    let progress = Progress::bar(tree, String::new());
    squashfs::write(tree, &options, &file, &mut Notes::default(), &progress)?;
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A header with its padded data. `edit` changes the header before its sum is computed.
fn member(name: &str, kind: u8, data: &[u8], edit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_uid(1);
    header.set_gid(2);
    header.set_mtime(7);
    edit(header.as_mut_bytes());
    header.set_cksum();
    let mut bytes = [header.as_bytes(), data].concat();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// A pax header of these records (pax(1), "pax Extended Header").
fn pax(kind: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let record = |(key, value): &(&str, &str)| {
        let rest = format!(" {key}={value}\n");
        // The length counts its own digits.
        let mut length = rest.len();
        while format!("{length}{rest}").len() != length {
            length = format!("{length}{rest}").len();
        }
        format!("{length}{rest}")
    };
    let text: String = records.iter().map(record).collect();
    member("pax", kind, text.as_bytes(), |_| ())
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 2 * BLOCK]].concat()
}

/// Files of 4096 bytes with data at 512 and 2048: old GNU, and pax 0.0, 0.1 and 1.0
/// (GNU tar's manual, "Storing Sparse Files").
pub(super) fn sparse_tars() -> Vec<Vec<u8>> {
    let data = [[b'a'; BLOCK], [b'b'; BLOCK]].concat();
    let old = member("old", b'S', &data, |header| {
        for (at, number) in [(386, 512), (398, 512), (410, 2048), (422, 512), (483, 4096)] {
            header[at..at + 12].copy_from_slice(format!("{number:011o}\0").as_bytes());
        }
    });
    let repeated = [
        ("GNU.sparse.size", "4096"),
        ("GNU.sparse.numblocks", "2"),
        ("GNU.sparse.offset", "512"),
        ("GNU.sparse.numbytes", "512"),
        ("GNU.sparse.offset", "2048"),
        ("GNU.sparse.numbytes", "512"),
    ];
    let listed = [
        ("GNU.sparse.size", "4096"),
        ("GNU.sparse.numblocks", "2"),
        ("GNU.sparse.map", "512,512,2048,512"),
        ("GNU.sparse.name", "listed"),
    ];
    let inside = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "inside"),
        ("GNU.sparse.realsize", "4096"),
    ];
    let mut map = b"2\n512\n512\n2048\n512\n".to_vec();
    map.resize(BLOCK, 0);
    let file = |name, data: &[u8]| member(name, b'0', data, |_| ());
    vec![
        archive(&[old]),
        archive(&[pax(b'x', &repeated), file("repeated", &data)]),
        archive(&[pax(b'x', &listed), file("listed", &data)]),
        archive(&[pax(b'x', &inside), file("inside", &[map, data].concat())]),
    ]
}

/// An archive with members as other programs write them: long names of GNU, global
/// headers, attributes of three kinds, large numbers in base 256, a hard link, a volume
/// label.
pub(super) fn other_tar() -> Vec<u8> {
    let long = format!("long/{}\0", "n".repeat(150));
    let attributes = [
        ("SCHILY.xattr.user.a", "value"),
        ("LIBARCHIVE.xattr.user.b", "dmFsdWU="),
        ("RHT.security.selinux", "system_u:object_r:bin_t:s0"),
        ("mtime", "1700000000.5"),
        ("uid", "3000000"),
        ("path", "with/attributes"),
        ("size", "3"),
    ];
    let base_256 = |header: &mut [u8]| {
        header[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0, 0x2d, 0xc6, 0xc0]);
    };
    archive(&[
        member("volume", b'V', b"", |_| ()),
        pax(b'g', &[("comment", "of all"), ("SCHILY.xattr.user.g", "global"), ("gname", "users")]),
        member("././@LongLink", b'L', long.as_bytes(), |_| ()),
        member("short", b'0', b"data", base_256),
        pax(b'x', &attributes),
        member("plain", b'0', b"abc", |_| ()),
        member("hard", b'1', b"", |header| header[157..172].copy_from_slice(b"with/attributes")),
        member("link", b'2', b"", |header| header[157..165].copy_from_slice(b"../short")),
        member("dir/", b'5', b"", |_| ()),
        member("dir/fifo", b'6', b"", |_| ()),
    ])
}

/// Three layers that change the same files: additions; whiteouts, and a link in the place of a
/// directory; members below the link.
pub(super) fn layers() -> [Vec<u8>; 3] {
    let file = |name, data: &str| member(name, b'0', data.as_bytes(), |_| ());
    let link = |name, kind, target: &str| {
        let target = target.as_bytes().to_vec();
        member(name, kind, b"", move |header| {
            header[157..157 + target.len()].copy_from_slice(&target);
        })
    };
    let directory = |name| member(name, b'5', b"", |_| ());
    [
        archive(&[
            directory("./"),
            directory("dir/"),
            file("dir/file", "lower"),
            directory("dir/sub/"),
            file("dir/sub/file", "deep"),
            link("link", b'2', "dir"),
            link("out", b'2', "../../.."),
            link("hard", b'1', "dir/file"),
        ]),
        archive(&[
            file("dir/.wh.file", ""),
            file("dir/sub/.wh..wh..opq", ""),
            link("hard2", b'1', "hard"),
            file("link/new", "through a link"),
            file(".wh..wh.plnk/x", ""),
            link("dir/sub/again", b'2', "/dir"),
        ]),
        archive(&[
            directory("link/"),
            file("link/own", "of a directory"),
            file("out/x", "at the root"),
            file("dir/sub/again/y", "in dir"),
            file(".wh.hard", ""),
            file("hard2", "one name less"),
        ]),
    ]
}
