//! Blobs: broken and slow connections, redirects, layers that are kept elsewhere.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::server::{End, Reply, Seen, Server};
use super::{PACE, Pace, layer, noise, open, open_at, options, options_with, text};
use crate::document::manifest::Descriptor;
use crate::origin::Origin;
use crate::registry::retry::Limits;
use crate::registry::transport::Patience;

/// Bytes of the blob in most tests.
const SIZE: usize = 300_000;
/// Bytes after which the attempts are counted anew.
const PIECE: usize = 64 << 10;

/// Reads a blob from a byte on.
fn read(
    registry: &super::Registry,
    descriptor: &Descriptor,
    offset: u64,
) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    registry.blob(descriptor, offset)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A server of one blob; `answer` gets the number of the request, from 0.
fn serving(
    contents: &[u8],
    answer: impl Fn(usize, &Seen, &[u8]) -> Reply + Send + Sync + 'static,
) -> Server {
    let (contents, number) = (contents.to_vec(), AtomicUsize::new(0));
    Server::start(move |seen| answer(number.fetch_add(1, Ordering::SeqCst), seen, &contents))
}

fn at(server: &Server) -> super::Registry {
    open(&format!("{}/a", server.authority()), &options())
}

#[test]
fn a_blob_is_read_from_any_byte() {
    let contents = noise(SIZE);
    let server = serving(&contents, |_, seen, contents| Reply::part(contents, seen));
    let descriptor = layer(&contents);
    for offset in [0, 1, SIZE - 1, SIZE] {
        let found = read(&at(&server), &descriptor, offset as u64).unwrap();
        assert!(found == contents[offset..], "from {offset}");
    }
    assert!(text(read(&at(&server), &descriptor, SIZE as u64 + 1)).contains("byte 300001"));
    assert_eq!(server.count("/v2/a/blobs/sha256:"), 3, "nothing is asked for the end");
}

#[test]
fn an_empty_blob_is_read() {
    let server = serving(b"", |_, _, _| Reply::new(200, ""));
    assert_eq!(read(&at(&server), &layer(b""), 0).unwrap(), b"");
}

#[test]
fn a_blob_that_breaks_off_is_resumed() {
    let contents = noise(SIZE);
    let server = serving(&contents, |number, seen, contents| {
        let reply = Reply::part(contents, seen);
        match number {
            0 => reply.ending(End::CutAt(SIZE * 6 / 10)),
            1 => reply.ending(End::CutAt(SIZE / 10)),
            _ => reply,
        }
    });
    assert!(read(&at(&server), &layer(&contents), 0).unwrap() == contents);
    let starts: Vec<_> = server.seen().iter().map(Seen::offset).collect();
    assert_eq!(starts, [0, SIZE * 6 / 10, SIZE * 7 / 10]);
}

#[test]
fn a_server_that_ignores_ranges_is_read_up_to_the_byte() {
    let contents = noise(SIZE);
    let server = serving(&contents, |number, _, contents| {
        let reply = Reply::new(200, contents);
        // The second answer breaks off while bytes are skipped.
        match number {
            0 => reply.ending(End::CutAt(SIZE / 2)),
            1 => reply.ending(End::CutAt(SIZE / 4)),
            _ => reply,
        }
    });
    assert!(read(&at(&server), &layer(&contents), 0).unwrap() == contents);
    assert_eq!(server.seen().len(), 3);
    assert!(read(&at(&server), &layer(&contents), 7).unwrap() == contents[7..]);
}

#[test]
fn a_body_without_a_length_is_resumed_too() {
    let contents = noise(SIZE);
    let server = serving(&contents, |number, seen, contents| {
        let reply = Reply::part(contents, seen).without_length();
        if number == 0 { reply.ending(End::CutAt(1000)) } else { reply }
    });
    assert!(read(&at(&server), &layer(&contents), 0).unwrap() == contents);
}

#[test]
fn a_stall_ends_and_is_resumed() {
    let contents = noise(SIZE);
    let server = serving(&contents, |number, seen, contents| {
        let reply = Reply::part(contents, seen);
        if number == 0 { reply.ending(End::StallAt(SIZE / 3)) } else { reply }
    });
    let patience = Patience { stall: Duration::from_millis(300), ..PACE.patience };
    let registry =
        open_at(&format!("{}/a", server.authority()), &options(), Pace { patience, ..PACE });
    assert!(read(&registry, &layer(&contents), 0).unwrap() == contents);
    assert!(server.seen().len() >= 2);
}

#[test]
fn the_end_of_a_connection_is_not_waited_for() {
    let contents = noise(1000);
    let server = serving(&contents, |_, _, contents| {
        Reply::new(200, contents).without_length().ending(End::StallAt(1000))
    });
    // A time-out would be 20 seconds, and an error.
    let start = std::time::Instant::now();
    assert!(read(&at(&server), &layer(&contents), 0).unwrap() == contents);
    assert!(start.elapsed() < PACE.patience.stall);
}

#[test]
fn a_registry_that_goes_away_is_looked_for_again() {
    let contents = noise(SIZE);
    let server =
        serving(&contents, |_, seen, contents| Reply::part(contents, seen).ending(End::CutAt(10)));
    let mut blob = at(&server).blob(&layer(&contents), 0).unwrap();
    drop(server);
    let error = blob.read_to_end(&mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("broken off after 10 of 300000"), "{error}");
    assert!(error.contains("further attempts") && error.contains("refused"), "{error}");
}

#[test]
fn breaks_without_progress_end() {
    let contents = noise(SIZE);
    // Ten bytes each time are no progress: a hostile server could go on for days.
    let server =
        serving(&contents, |_, seen, contents| Reply::part(contents, seen).ending(End::CutAt(10)));
    let error = text(read(&at(&server), &layer(&contents), 0));
    assert!(error.contains("broken off after 50 of 300000 bytes"), "{error}");
    assert_eq!(server.seen().len(), 5);
}

#[test]
fn a_mirror_that_breaks_off_is_left_for_the_registry() {
    let contents = noise(SIZE);
    let mirror = serving(&contents, |_, seen, contents| {
        Reply::part(contents, seen).with("ETag", "\"of the mirror\"").ending(End::CutAt(10))
    });
    let own = serving(&contents, |_, seen, contents| {
        Reply::part(contents, seen).with("ETag", "\"of the registry\"")
    });
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("registries.conf");
    let (name, location) = (own.authority(), mirror.authority());
    let text = format!(
        "[[registry]]\nlocation = \"{name}\"\n[[registry.mirror]]\nlocation = \"{location}\"\n"
    );
    std::fs::write(&conf, text).unwrap();
    let options = options_with(&[("CONTAINERS_REGISTRIES_CONF", conf.into())], dir.path());
    let registry = open(&format!("{name}/a"), &options);
    assert!(read(&registry, &layer(&contents), 0).unwrap() == contents);
    assert_eq!(mirror.seen().len(), 2);
    assert_eq!(own.seen().iter().map(Seen::offset).collect::<Vec<_>>(), [20]);
    assert!(read(&registry, &layer(&contents), 0).unwrap() == contents);
    assert_eq!(mirror.seen().len(), 2, "not asked again");
    let registry = open(&format!("{name}/a"), &options);
    assert!(registry.leave_mirrors(), "there is one");
    assert!(read(&registry, &layer(&contents), 0).unwrap() == contents);
    assert_eq!(mirror.seen().len(), 2, "not asked after it was left");
    assert!(registry.leave_mirrors(), "what was read before may be of the mirror");
    assert!(!at(&own).leave_mirrors(), "there is none");
}

#[test]
fn progress_renews_the_attempts() {
    let contents = noise(10 * PIECE);
    let server = serving(&contents, |_, seen, contents| {
        let reply = Reply::part(contents, seen);
        let rest = contents.len() - seen.offset();
        if rest > PIECE { reply.ending(End::CutAt(PIECE)) } else { reply }
    });
    assert!(read(&at(&server), &layer(&contents), 0).unwrap() == contents);
    assert_eq!(server.seen().len(), 10);
}

#[test]
fn a_server_that_ignores_ranges_is_not_asked_for_ever() {
    let contents = noise(20 * PIECE);
    let server = serving(&contents, |number, _, contents| {
        Reply::new(200, contents).ending(End::CutAt((number + 2) * PIECE))
    });
    let error = text(read(&at(&server), &layer(&contents), 0));
    assert!(error.contains("broken off"), "{error}");
    assert!(server.seen().len() <= 6, "{}", server.seen().len());
}

#[test]
fn answers_that_do_not_fit_are_errors() {
    let contents = noise(SIZE);
    for (name, word) in [
        ("longer", "the manifest says 300000"),
        ("other start", "byte 9"),
        ("no range", "without saying which"),
        ("range of another", "the manifest says 300000"),
    ] {
        let server = serving(&contents, move |number, seen, contents| {
            let part = |range: &str| Reply::new(206, "x").with("Content-Range", range);
            match (number, name) {
                (_, "longer") => Reply::new(200, [contents, b"x"].concat()),
                (0, _) => Reply::part(contents, seen).ending(End::CutAt(8)),
                (_, "other start") => part("bytes 9-9/300000"),
                (_, "no range") => Reply::new(206, "x"),
                _ => part("bytes 8-8/300001"),
            }
        });
        let error = text(read(&at(&server), &layer(&contents), 0));
        assert!(error.contains(word), "{name}: {error}");
    }
}

#[test]
fn contents_that_change_meanwhile_are_an_error() {
    let contents = noise(SIZE);
    let server = serving(&contents, |number, seen, contents| {
        let reply = Reply::part(contents, seen).with("ETag", format!("\"{number}\""));
        if number == 0 { reply.ending(End::CutAt(8)) } else { reply }
    });
    let error = text(read(&at(&server), &layer(&contents), 0));
    assert!(error.contains("changed while they were read"), "{error}");
}

#[test]
fn more_bytes_than_the_manifest_says_are_not_read() {
    let contents = noise(1000);
    let server = serving(&contents, |_, _, contents| {
        Reply::new(200, [contents, b"more"].concat()).without_length()
    });
    assert!(read(&at(&server), &layer(&contents), 0).unwrap() == contents);
}

#[test]
fn storage_elsewhere_gets_no_credentials() {
    let contents = noise(1000);
    let storage = serving(&contents, |_, seen, contents| match seen.header("authorization") {
        Some(_) => Reply::new(400, "two ways of authentication"),
        None => Reply::part(contents, seen),
    });
    for status in [301, 302, 303, 307, 308] {
        let target = format!("http://{}/bucket/x?signature=a%2Fb", storage.authority());
        let server = Server::start(move |seen| match seen.header("authorization") {
            Some("Basic dXNlcjpwYXNz") => Reply::new(status, "").with("Location", &target),
            _ => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
        });
        let credentials =
            crate::registry::UserPassword { user: "user".into(), password: "pass".into() };
        let options = super::RegistryOptions { credentials: Some(credentials), ..options() };
        let registry = open(&format!("{}/a", server.authority()), &options);
        assert!(read(&registry, &layer(&contents), 0).unwrap() == contents, "{status}");
        assert!(read(&registry, &layer(&contents), 5).unwrap() == contents[5..], "{status}");
    }
    let paths: Vec<_> = storage.seen().into_iter().map(|seen| seen.path).collect();
    assert!(paths.iter().all(|path| path == "/bucket/x?signature=a%2Fb"), "{paths:?}");
}

#[test]
fn redirects_end_and_stay_encrypted() {
    let server = Server::start(|seen| {
        let number: usize = seen.path.rsplit('/').next().unwrap().parse().unwrap_or(0);
        Reply::new(307, "").with("Location", format!("/loop/{}", number + 1))
    });
    let error = text(read(&at(&server), &layer(b"x"), 0));
    assert!(error.contains("more than 10 redirects"), "{error}");
    assert_eq!(server.seen().len(), 11);
    for (location, word) in [
        ("http://r.example/x", "not encrypted"),
        ("file:///etc/passwd", "neither https nor http"),
        ("", "redirect"),
    ] {
        let server = Server::start(move |_| Reply::new(307, "").with("Location", location));
        let error = text(read(&at(&server), &layer(b"x"), 0));
        assert!(error.contains(word), "{location}: {error}");
    }
    let nowhere = Server::start(|_| Reply::new(307, ""));
    assert!(text(read(&at(&nowhere), &layer(b"x"), 0)).contains("to nowhere"));
}

#[test]
fn layers_that_are_kept_elsewhere_are_read_encrypted_only() {
    let server = Server::start(|_| Reply::new(404, ""));
    let elsewhere = Arc::new(Server::start(|_| Reply::new(200, "x")));
    let urls = vec![format!("http://{}/x", elsewhere.authority())];
    let descriptor = Descriptor { urls, ..layer(b"x") };
    let error = text(read(&at(&server), &descriptor, 0));
    assert!(error.contains("not encrypted"), "{error}");
    assert!(elsewhere.seen().is_empty());
    // The registry may have such a layer all the same.
    let server = Server::start(|_| Reply::new(200, "x"));
    assert_eq!(read(&at(&server), &descriptor, 0).unwrap(), b"x");
}

#[test]
fn waits_between_breaks_are_limited() {
    let contents = noise(SIZE);
    let server =
        serving(&contents, |_, seen, contents| Reply::part(contents, seen).ending(End::CutAt(1)));
    let limits = Limits { pause: Duration::from_secs(3600), ..PACE.limits };
    let registry =
        open_at(&format!("{}/a", server.authority()), &options(), Pace { limits, ..PACE });
    assert!(text(read(&registry, &layer(&contents), 0)).contains("broken off after 1 of"));
    assert_eq!(server.seen().len(), 1);
}
