//! Files by their addresses: from the cache, and from servers that break off or lie.
//!
//! | Module | Contents |
//! |---|---|
//! | `servers` | to whom a file may lead, and what a server that gives none says |

mod servers;

use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::server::{End, Reply, Seen, Server};
use super::{PACE, noise, options, text};
use crate::cache::{Bounds, Cache};
use crate::download::fetch_from;
use crate::name::digest::Digest;
use crate::registry::RegistryOptions;
use crate::registry::file::RemoteFile;

/// Bytes of the file in most tests.
const SIZE: usize = 300_000;
/// Limit of the size in most tests.
const MAX: u64 = 1 << 20;
/// Directory of files in the cache.
const BLOBS: &str = "oci/blobs/sha256";

/// A cache in a directory that is removed at the end.
struct Sample {
    dir: tempfile::TempDir,
    cache: Cache,
}

impl Sample {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("oci"), Bounds::default()).unwrap();
        Self { dir, cache }
    }

    fn fetch(&self, url: &str, digest: &Digest) -> anyhow::Result<Vec<u8>> {
        self.fetch_by(url, digest, &options())
    }

    fn fetch_by(
        &self,
        url: &str,
        digest: &Digest,
        options: &RegistryOptions,
    ) -> anyhow::Result<Vec<u8>> {
        let file = RemoteFile::new_at(url, options, PACE)?;
        fetch_from(&file, digest, &self.cache, MAX).map(contents)
    }

    /// Puts a file that an interrupted run left into the cache.
    fn leave(&self, digest: &Digest, bytes: &[u8]) {
        let dir = self.dir.path().join(BLOBS);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("{}.part", digest.parts().1)), bytes).unwrap();
    }

    /// Names and sizes of the files in the cache, with the ending of an incomplete one only.
    fn kept(&self) -> Vec<(String, u64)> {
        let Ok(entries) = std::fs::read_dir(self.dir.path().join(BLOBS)) else { return Vec::new() };
        let entries = entries.map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name.get(64..).unwrap().to_owned(), entry.metadata().unwrap().len())
        });
        entries.collect()
    }
}

fn contents(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

/// A server of one file; `answer` gets the number of the request, from 0.
fn serving(
    contents: &[u8],
    answer: impl Fn(usize, &Seen, &[u8]) -> Reply + Send + Sync + 'static,
) -> Server {
    let (contents, number) = (contents.to_vec(), AtomicUsize::new(0));
    Server::start(move |seen| answer(number.fetch_add(1, Ordering::SeqCst), seen, &contents))
}

fn url(server: &Server) -> String {
    format!("http://{}/dir/file.bin?token=secret", server.authority())
}

#[test]
fn a_file_is_fetched_once() {
    for size in [0, 1, SIZE] {
        let file = noise(size);
        let server = serving(&file, |_, seen, file| Reply::part(file, seen));
        let sample = Sample::new();
        for _ in 0..2 {
            assert!(sample.fetch(&url(&server), &Digest::of(&file)).unwrap() == file, "{size}");
        }
        // Nor is another address asked for the same bytes.
        let other = sample.fetch("http://other.invalid/", &Digest::of(&file));
        assert!(other.unwrap() == file);
        let paths: Vec<_> = server.seen().into_iter().map(|seen| seen.path).collect();
        assert_eq!(paths, ["/dir/file.bin?token=secret"], "{size}");
        assert_eq!(sample.kept(), [(String::new(), size as u64)]);
    }
}

#[test]
fn without_a_cache_a_file_is_fetched_each_time() {
    let file = noise(SIZE);
    let server = serving(&file, |_, seen, file| Reply::part(file, seen));
    let remote = RemoteFile::new_at(&url(&server), &options(), PACE).unwrap();
    for _ in 0..2 {
        let found = fetch_from(&remote, &Digest::of(&file), &Cache::unkept(), MAX).unwrap();
        assert!(contents(found) == file);
    }
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn another_digest_is_an_error_and_nothing_is_kept() {
    let expected = Digest::of(b"another");
    for reply in [Reply::new(200, "x"), Reply::new(200, "x").without_length()] {
        let server = serving(b"", move |_, _, _| reply.clone());
        let sample = Sample::new();
        let error = text(sample.fetch(&url(&server), &expected));
        let address = format!("fetch http://{}/dir/file.bin: ", server.authority());
        assert!(error.starts_with(&address) && !error.contains("secret"), "{error}");
        let digests = format!("the digest {} instead of {expected}", Digest::of(b"x"));
        assert!(error.contains(&digests) && error.contains("use the new digest"), "{error}");
        assert_eq!((sample.kept(), server.seen().len()), (Vec::new(), 1));
    }
}

#[test]
fn a_damaged_file_of_the_cache_is_fetched_again() {
    let file = noise(SIZE);
    let server = serving(&file, |_, seen, file| Reply::part(file, seen));
    let (sample, digest) = (Sample::new(), Digest::of(&file));
    sample.fetch(&url(&server), &digest).unwrap();
    let path = sample.dir.path().join(BLOBS).join(digest.parts().1);
    let mut damaged = file.clone();
    damaged[SIZE / 2] ^= 1;
    std::fs::write(path, damaged).unwrap();
    assert!(sample.fetch(&url(&server), &digest).unwrap() == file);
    assert_eq!(server.seen().len(), 2);
}

/// A file in one chunk (RFC 9112 §7.1), with this many bytes of it.
fn chunked(file: &[u8], bytes: usize) -> Reply {
    let head = format!("{:x}\r\n", file.len());
    let body = [head.as_bytes(), &file[..bytes], b"\r\n0\r\n\r\n"].concat();
    let end = if bytes < file.len() { End::CutAt(head.len() + bytes) } else { End::Whole };
    Reply::new(200, body).without_length().with("Transfer-Encoding", "chunked").ending(end)
}

#[test]
fn a_file_that_breaks_off_is_resumed() {
    /// The answer to a request by its number, from 0.
    type Shape = fn(usize, &Seen, &[u8]) -> Reply;
    let file = noise(SIZE);
    let shapes: [(&str, Shape, &[usize]); 5] = [
        (
            "ranges",
            |number, seen, file| match number {
                0 => Reply::part(file, seen).ending(End::CutAt(SIZE / 2)),
                _ => Reply::part(file, seen),
            },
            &[0, SIZE / 2],
        ),
        (
            "no ranges",
            |number, _, file| match number {
                0 => Reply::new(200, file).ending(End::CutAt(SIZE / 2)),
                _ => Reply::new(200, file),
            },
            &[0, SIZE / 2],
        ),
        ("one chunk", |_, _, file| chunked(file, SIZE), &[0]),
        (
            "a part of a chunk",
            |number, seen, file| match number {
                0 => chunked(file, SIZE / 2),
                _ => Reply::part(file, seen),
            },
            &[0, SIZE / 2],
        ),
        (
            "busy",
            |number, seen, file| match number {
                0 | 1 => Reply::new(503, ""),
                _ => Reply::part(file, seen),
            },
            &[0, 0, 0],
        ),
    ];
    for (name, shape, offsets) in shapes {
        let server = serving(&file, shape);
        let found = Sample::new().fetch(&url(&server), &Digest::of(&file)).unwrap();
        assert!(found == file, "{name}");
        assert_eq!(server.seen().iter().map(Seen::offset).collect::<Vec<_>>(), offsets, "{name}");
    }
}

#[test]
fn the_next_call_continues_an_interrupted_one() {
    let file = noise(SIZE);
    let digest = Digest::of(&file);
    let sample = Sample::new();
    let server = serving(&file, |_, seen, file| Reply::part(file, seen).ending(End::CutAt(1000)));
    let error = text(sample.fetch(&url(&server), &digest));
    assert!(error.contains("broken off after 5000 of 300000 bytes"), "{error}");
    assert_eq!(sample.kept(), [(".part".to_owned(), 5000)]);
    // A server that cannot be reached, or refuses, takes nothing away.
    drop(server);
    let refusing = serving(b"", |_, _, _| Reply::new(404, ""));
    text(sample.fetch(&url(&refusing), &digest));
    text(sample.fetch("http://127.0.0.1:1/", &digest));
    assert_eq!(sample.kept(), [(".part".to_owned(), 5000)]);
    let server = serving(&file, |_, seen, file| Reply::part(file, seen));
    assert!(sample.fetch(&url(&server), &digest).unwrap() == file);
    assert_eq!(server.seen().iter().map(Seen::offset).collect::<Vec<_>>(), [5000]);
}

#[test]
fn a_beginning_that_is_of_no_use_is_fetched_again() {
    let file = noise(SIZE);
    let digest = Digest::of(&file);
    let longer = [&file[..], b"x"].concat();
    let too_long = vec![0; usize::try_from(MAX).unwrap() + 1];
    let mut wrong = file[..1000].to_vec();
    wrong[7] ^= 1;
    for (name, kept, offsets) in [
        ("complete", &file[..], &[][..]),
        ("wrong", &wrong, &[1000, 0]),
        ("longer than the file", &longer, &[SIZE + 1, 0]),
        ("longer than the limit", &too_long, &[0]),
    ] {
        for is_ranged in [true, false] {
            let sample = Sample::new();
            sample.leave(&digest, kept);
            let server = serving(&file, move |_, seen, file| match seen.offset() {
                _ if !is_ranged => Reply::new(200, file),
                offset if offset > file.len() => Reply::new(416, ""),
                _ => Reply::part(file, seen),
            });
            assert!(sample.fetch(&url(&server), &digest).unwrap() == file, "{name}");
            let found: Vec<_> = server.seen().iter().map(Seen::offset).collect();
            assert_eq!(found, offsets, "{name} {is_ranged}");
            assert_eq!(sample.kept(), [(String::new(), SIZE as u64)], "{name}");
        }
    }
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let file = noise(usize::try_from(MAX).unwrap() + 1);
    let digest = Digest::of(&file);
    for (reply, word) in [
        (Reply::new(200, &file[..]), "has 1048577 bytes, more than the limit of 1048576"),
        (Reply::new(200, &file[..]).without_length(), "more bytes than the limit of 1048576"),
    ] {
        let server = serving(b"", move |_, _, _| reply.clone());
        let sample = Sample::new();
        let error = text(sample.fetch(&url(&server), &digest));
        assert!(error.contains(word), "{error}");
        assert_eq!((sample.kept(), server.seen().len()), (Vec::new(), 1));
    }
    // One of the cache, too.
    let server = serving(&file, |_, seen, file| Reply::part(file, seen));
    let remote = RemoteFile::new_at(&url(&server), &options(), PACE).unwrap();
    let sample = Sample::new();
    fetch_from(&remote, &digest, &sample.cache, MAX + 1).unwrap();
    assert!(text(sample.fetch(&url(&server), &digest)).contains("more bytes than the limit"));
}

#[test]
fn several_callers_share_one_transfer() {
    let file = noise(SIZE);
    let digest = Digest::of(&file);
    let server = serving(&file, |_, seen, file| Reply::part(file, seen));
    let sample = Sample::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(sample.fetch(&url(&server), &digest).unwrap() == file));
        }
    });
    assert_eq!(server.seen().len(), 1);
}
