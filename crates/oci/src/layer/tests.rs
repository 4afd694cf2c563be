//! Blobs as other programs write them, damaged ones, and sizes and digests that are wrong.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use archive::spool::TooLarge;
use flate2::{Compression, GzBuilder};

use super::fault::LayerFault;
use super::pipe::BUFFER;
use super::room::Room;
use super::{BlobCopy, Unpacked, unpack};
use crate::document::manifest::Descriptor;
use crate::name::digest::{Algorithm, Digest, Hasher};

const MAX: u64 = 64 << 20;

fn descriptor(bytes: &[u8]) -> Descriptor {
    let digest = Digest::of(bytes);
    let json = format!(r#"{{"digest": "{digest}", "size": {}}}"#, bytes.len());
    serde_json::from_str(&json).unwrap()
}

/// Unpacks `blob`, described as it is; `plain` is what the config says.
fn unpack_bytes(blob: &[u8], plain: &[u8]) -> Result<(Unpacked, Vec<u8>)> {
    unpack_as(blob, &descriptor(blob), &Digest::of(plain), MAX)
}

fn unpack_as(
    blob: &[u8],
    descriptor: &Descriptor,
    diff_id: &Digest,
    max_size: u64,
) -> Result<(Unpacked, Vec<u8>)> {
    let out = tempfile::tempfile().unwrap();
    let unpacked =
        unpack(Box::new(blob), descriptor, diff_id, None, &out, &Room::new(max_size), &|_| ())?;
    assert_eq!(unpacked.size, out.metadata().unwrap().len());
    Ok((unpacked, contents(&out)))
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Bytes that compress little, so that a blob has several buffers.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    gzip_with(GzBuilder::new(), bytes)
}

fn gzip_with(header: GzBuilder, bytes: &[u8]) -> Vec<u8> {
    let mut encoder = header.write(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A skippable frame of zstd (RFC 8878 §3.1.2) as zstd:chunked has them for its table.
fn skippable(kind: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_le_bytes();
    [&[0x50 + kind, 0x2a, 0x4d, 0x18], &length[..], data].concat()
}

#[test]
#[rustfmt::skip]
fn blobs_of_other_writers_are_read() {
    let large = noise(3 * BUFFER + 100);
    let zeros = vec![0; 4 * BUFFER];
    let named = GzBuilder::new().filename("layer.tar").extra(b"ab\x04\0data".to_vec()).comment("c").mtime(7);
    let frames: Vec<u8> = large.chunks(999).flat_map(zstd).collect();
    let members: Vec<u8> = large.chunks(9999).flat_map(gzip).collect();
    let two = [&large[..], b"end"].concat();
    for (name, blob, plain) in [
        ("plain",                            large.clone(), &large[..]),
        ("plain, short",                     b"x".to_vec(), b"x"),
        ("no bytes at all",                  Vec::new(), b""),
        ("plain zeros",                      zeros.clone(), &zeros),
        ("gzip",                             gzip(&large), &large),
        ("gzip of nothing",                  gzip(b""), b""),
        ("two gzip members",                 [gzip(&large), gzip(b"end")].concat(), &two),
        ("many gzip members",                members, &large),
        ("an empty gzip member between",     [gzip(&large), gzip(b""), gzip(b"end")].concat(), &two),
        ("an empty gzip member first, last", [gzip(b""), gzip(&two), gzip(b"")].concat(), &two),
        ("a gzip header with all fields",    gzip_with(named, &large), &large),
        ("gzip, then zeros",                 [gzip(&large), vec![0; 700]].concat(), &large),
        ("gzip, zeros, gzip",                [gzip(&large), vec![0; 5], gzip(b"end")].concat(), &two),
        ("zstd",                             zstd(&large), &large),
        ("zstd of zeros",                    zstd(&zeros), &zeros),
        ("many zstd frames",                 frames, &large),
        ("skippable frames everywhere",      [skippable(0, b"abc"), zstd(&large), skippable(15, b""), zstd(b"end"), skippable(4, &zeros)].concat(), &two),
        ("skippable frames only",            skippable(3, b"abc"), b""),
    ] {
        let (unpacked, found) = unpack_bytes(&blob, plain).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert!(found == plain, "{name}");
        assert_eq!(unpacked.notes, [""; 0], "{name}");
    }
    for blob in [[gzip(&large), b"garbage".to_vec()].concat(), [zstd(&large), b"garbage".to_vec()].concat()] {
        let (unpacked, found) = unpack_bytes(&blob, &large).unwrap();
        assert!(found == large);
        let [note] = &unpacked.notes[..] else { panic!("{:?}", unpacked.notes) };
        assert!(note.contains("7 bytes at offset"), "{note}");
    }
}

#[test]
fn damaged_blobs_are_refused_with_their_digest() {
    let large = noise(2 * BUFFER);
    let damage = |mut bytes: Vec<u8>, from_end: usize| {
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        bytes
    };
    let cut = |bytes: Vec<u8>, less: usize| bytes[..bytes.len() - less].to_vec();
    // A frame header with a window of 256 MiB (RFC 8878 §3.1.1.1.2), and an empty last block.
    let window = b"\x28\xb5\x2f\xfd\x00\x90\x01\x00\x00".to_vec();
    for (name, blob, words) in [
        ("a wrong check sum", damage(gzip(&large), 8), "gzip at offset 0"),
        ("a wrong length", damage(gzip(&large), 4), "gzip at offset 0"),
        ("wrong data", damage(gzip(&large), BUFFER), "gzip at offset 0"),
        ("gzip cut", cut(gzip(&large), 1), "damaged or truncated"),
        ("gzip cut early", cut(gzip(&large), BUFFER), "damaged or truncated"),
        ("the second member cut", [gzip(b"x"), cut(gzip(&large), 9)].concat(), "gzip at offset 2"),
        ("zstd cut", cut(zstd(&large), 1), "zstd at offset 0"),
        ("a skippable frame cut", cut(skippable(0, b"abc"), 1), "zstd at offset 0"),
        ("a window of 256 MiB", window, "too much memory"),
    ] {
        let digest = Digest::of(&blob);
        let error = unpack_bytes(&blob, &large).map(|_| ()).expect_err(name);
        let text = format!("{error:#}");
        assert!(text.starts_with(&format!("layer {digest}: ")), "{name}: {text}");
        assert!(text.contains(words), "{name}: {text}");
    }
}

#[test]
fn sizes_and_digests_are_verified() {
    let plain = noise(BUFFER + 5);
    let blob = gzip(&plain);
    let size = blob.len() as u64;
    let right = (descriptor(&blob), Digest::of(&plain));
    let other = Digest::of(b"other");
    let sized = |size| Descriptor { size, ..right.0.clone() };
    let named = Descriptor { digest: other.clone(), ..right.0.clone() };
    let damaged = [&blob[..99], &[!blob[99]], &blob[100..]].concat();
    let of_damaged = LayerFault::Blob { found: Digest::of(&damaged) };
    for (name, blob, descriptor, diff_id, expected) in [
        (
            "a byte too few",
            &blob,
            sized(size + 1),
            &right.1,
            LayerFault::Short { expected: size + 1, found: size },
        ),
        (
            "a byte too many",
            &blob,
            sized(size - 1),
            &right.1,
            LayerFault::Long { expected: size - 1 },
        ),
        ("no byte expected", &blob, sized(0), &right.1, LayerFault::Long { expected: 0 }),
        ("no bytes", &Vec::new(), sized(9), &right.1, LayerFault::Short { expected: 9, found: 0 }),
        (
            "another digest",
            &blob,
            named,
            &right.1,
            LayerFault::Blob { found: right.0.digest.clone() },
        ),
        (
            "another diff_id",
            &blob,
            right.0.clone(),
            &other,
            LayerFault::DiffId { expected: other.clone(), found: right.1.clone() },
        ),
        ("damage on the way", &damaged, right.0.clone(), &right.1, of_damaged),
    ] {
        let error = unpack_as(blob, &descriptor, diff_id, MAX).map(|_| ()).expect_err(name);
        let found: &LayerFault =
            error.downcast_ref().unwrap_or_else(|| panic!("{name}: {error:#}"));
        assert_eq!(*found, expected, "{name}");
        assert_eq!(found.is_of_blob(), name != "another diff_id", "{name}");
        assert!(format!("{error:#}").contains(descriptor.digest.as_str()), "{name}: {error:#}");
    }
}

#[test]
fn digests_may_be_of_both_algorithms() {
    let plain = noise(1000);
    let blob = gzip(&plain);
    let sha512 = |bytes: &[u8]| {
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(bytes);
        hasher.finish()
    };
    let descriptor = Descriptor { digest: sha512(&blob), ..descriptor(&blob) };
    let (_, found) = unpack_as(&blob, &descriptor, &sha512(&plain), MAX).unwrap();
    assert_eq!(found, plain);
}

#[test]
fn padding_of_the_archive_counts() {
    let archive = [noise(512), vec![0; 19 * 512]].concat();
    assert!(unpack_bytes(&gzip(&archive), &archive).is_ok());
    let error = unpack_bytes(&gzip(&archive), &archive[..archive.len() - 1]).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(LayerFault::DiffId { .. })), "{error:#}");
}

#[test]
fn unpacked_bytes_are_bounded() {
    let zeros = vec![0; 8 << 20];
    let endless: Vec<u8> = gzip(&zeros).repeat(20);
    let mut archive = zeros.clone();
    archive.extend(noise(BUFFER));
    for (name, blob) in [("gzip", endless), ("zstd", zstd(&zeros).repeat(9)), ("plain", archive)] {
        let out = tempfile::tempfile().unwrap();
        let (blob, max) = (&blob[..], 8 << 20);
        let room = Room::new(max);
        let diff_id = Digest::of(b"");
        let unpacked =
            unpack(Box::new(blob), &descriptor(blob), &diff_id, None, &out, &room, &|_| ());
        let error = unpacked.expect_err(name);
        assert_eq!(error.downcast_ref(), Some(&TooLarge { limit: max }), "{name}: {error:#}");
        assert!(out.metadata().unwrap().len() <= max, "{name}");
        // A layer that fails gives back what it took.
        assert_eq!(
            (room.take(max), room.take(1)),
            (Ok(()), Err(TooLarge { limit: max })),
            "{name}"
        );
    }
    assert_eq!(
        unpack_as(&gzip(&zeros), &descriptor(&gzip(&zeros)), &Digest::of(&zeros), 8 << 20)
            .unwrap()
            .0
            .size,
        8 << 20
    );
}

#[test]
fn a_copy_of_the_blob_is_completed() {
    let plain = noise(3 * BUFFER);
    let blob = gzip(&plain);
    for already in [0, 1, BUFFER - 1, BUFFER, BUFFER + 1, blob.len()] {
        let (file, out) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        // Other bytes than those of the blob, to see that they are not written again.
        file.write_all_at(&vec![b'#'; already], 0).unwrap();
        let counted = AtomicU64::new(0);
        let copy = BlobCopy { file: &file, already: already as u64 };
        let count = |more| {
            counted.fetch_add(more, Ordering::Relaxed);
        };
        let input = Box::new(&blob[..]);
        unpack(
            input,
            &descriptor(&blob),
            &Digest::of(&plain),
            Some(copy),
            &out,
            &Room::new(MAX),
            &count,
        )
        .unwrap();
        let found = contents(&file);
        assert!(found[..already].iter().all(|&byte| byte == b'#'), "{already}");
        assert!(found[already..] == blob[already..], "{already}");
        assert_eq!(counted.into_inner(), blob.len() as u64);
    }
}

/// Reader that fails after some bytes.
struct Breaking<'a>(&'a [u8]);

impl Read for Breaking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::new(io::ErrorKind::ConnectionReset, "the cable is cut")),
            count => Ok(count),
        }
    }
}

#[test]
fn errors_of_the_files_are_the_cause() {
    let plain = noise(9 * BUFFER);
    let blob = gzip(&plain);
    let (descriptor, diff_id) = (descriptor(&blob), Digest::of(&plain));
    let out = tempfile::tempfile().unwrap();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let run = |input: Box<dyn Read + Send>, copy: Option<&File>, out: &File| {
        let copy = copy.map(|file| BlobCopy { file, already: 0 });
        let error =
            unpack(input, &descriptor, &diff_id, copy, out, &Room::new(MAX), &|_| ()).unwrap_err();
        let cause = error.downcast_ref::<io::Error>().map(io::Error::kind);
        (cause, format!("{error:#}"))
    };
    for (name, (cause, text), kind, words) in [
        (
            "input",
            run(Box::new(Breaking(&blob[..BUFFER])), None, &out),
            io::ErrorKind::ConnectionReset,
            "read the blob: the cable is cut",
        ),
        (
            "input, at once",
            run(Box::new(Breaking(b"")), None, &out),
            io::ErrorKind::ConnectionReset,
            "read the blob",
        ),
        (
            "copy",
            run(Box::new(&blob[..]), Some(&full()), &out),
            io::ErrorKind::StorageFull,
            "keep a copy of the blob",
        ),
        (
            "output",
            run(Box::new(&blob[..]), None, &full()),
            io::ErrorKind::StorageFull,
            "write the unpacked layer",
        ),
    ] {
        assert_eq!(cause, Some(kind), "{name}: {text}");
        assert!(text.contains(words), "{name}: {text}");
    }
}

/// Reader that calls a function before its last byte.
struct Late<'a>(&'a [u8], &'a (dyn Fn() + Sync));

impl Read for Late<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.len() == 1 {
            (self.1)();
        }
        let most = buffer.len().min(self.0.len().saturating_sub(1).max(1));
        self.0.read(&mut buffer[..most])
    }
}

#[test]
fn layers_that_are_unpacked_at_the_same_time_share_the_room() {
    let (large, small) = (noise(8 * BUFFER), noise(5 * BUFFER));
    let room = Room::new(large.len() as u64);
    let run = |input: Box<dyn Read + Send + '_>, bytes: &[u8]| {
        let out = tempfile::tempfile().unwrap();
        unpack(input, &descriptor(bytes), &Digest::of(bytes), None, &out, &room, &|_| ())
    };
    // When the last buffer is filled, the first four have been written, because a pipe has four.
    let second = || {
        let error = run(Box::new(&small[..]), &small).unwrap_err();
        assert!(error.is::<TooLarge>(), "{error:#}");
    };
    assert_eq!(run(Box::new(Late(&large, &second)), &large).unwrap().size, large.len() as u64);
}
