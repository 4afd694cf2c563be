//! Several users of a cache at once, and one that is killed.

use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::document::manifest::Descriptor;

#[test]
fn processes_at_once_build_an_image_once() {
    const USERS: usize = 8;
    let sample = Sample::new();
    let (builds, start) = (AtomicUsize::new(0), Barrier::new(USERS));
    let user = || {
        let cache = sample.open();
        start.wait();
        let held = cache.image("key", "", |mut out| {
            builds.fetch_add(1, Ordering::Relaxed);
            // Half of the image is there while the others come.
            out.write_all(b"te")?;
            std::thread::yield_now();
            Ok(out.write_all(b"xt")?)
        });
        assert_eq!(read(&held.unwrap()), "text");
    };
    std::thread::scope(|scope| {
        for _ in 0..USERS {
            scope.spawn(user);
        }
    });
    assert_eq!(builds.load(Ordering::Relaxed), 1);
}

#[test]
fn a_user_that_waits_takes_over_from_one_that_fails() {
    let sample = Sample::new();
    let (first, second) = (sample.open(), sample.open());
    let (told, waits) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let failed = first.layer(&Digest::of(b"text"), Wait::SILENT, |_| {
            scope.spawn(|| {
                let told = told;
                let begin = || told.send(()).unwrap();
                let wait = Wait { begin: &begin, ..Wait::SILENT };
                let build = |mut out: &File| Ok(out.write_all(b"text")?);
                assert_eq!(read(&second.layer(&Digest::of(b"text"), wait, build).unwrap()), "text");
            });
            // The other one waits for us now.
            waits.recv()?;
            anyhow::bail!("stopped")
        });
        assert!(failed.is_err());
    });
    assert!(first.find_layer(&Digest::of(b"text")).unwrap().is_some());
}

#[test]
fn a_user_that_waits_ends_when_the_object_is_not_wanted() {
    let sample = Sample::new();
    let (first, second) = (sample.open(), sample.open());
    let digest = Digest::of(b"text");
    let made = first.layer(&digest, Wait::SILENT, |mut out| {
        let wait = Wait { begin: &|| (), is_over: Some(&AtomicBool::new(true)) };
        // The other one would wait for ever, because this build waits for it.
        let error = second.layer(&digest, wait, |_| Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("nobody waits"), "{error:#}");
        Ok(out.write_all(b"text")?)
    });
    assert_eq!(read(&made.unwrap()), "text");
}

/// Variable with the directory of the cache, for the process that is killed.
const KILLED: &str = "VIRTINITRD_TEST_KILLED";

/// Begins objects, says so, and waits to be killed. Does nothing as a test of its own.
#[test]
fn process_that_is_killed() {
    let Some(dir) = std::env::var_os(KILLED) else { return };
    let cache = Cache::open(Path::new(&dir), Bounds::default()).unwrap();
    let descriptor = blob(b"blob");
    let Blob::Missing(part) = cache.blob(&descriptor, Wait::SILENT).unwrap() else {
        panic!("complete")
    };
    part.file().write_all_at(b"bl", 0).unwrap();
    let held = image(&cache, "used", "used");
    let _ = cache.image("key", "", |mut out| {
        out.write_all(b"half")?;
        println!("begun");
        std::thread::sleep(Duration::from_secs(60));
        drop(held);
        Ok(())
    });
}

fn blob(bytes: &[u8]) -> Descriptor {
    let value = serde_json::json!({ "digest": Digest::of(bytes), "size": bytes.len() });
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_killed_process_leaves_a_usable_cache() {
    let sample = Sample::new();
    let cache = sample.open();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "cache::tests::processes::process_that_is_killed"])
        .env(KILLED, sample.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = io::BufReader::new(child.stdout.take().unwrap());
    let begun = io::BufRead::lines(output).find(|line| line.as_ref().unwrap().ends_with("begun"));
    assert!(begun.is_some());
    // While the process lives, nothing of it is removed.
    let removed = cache.prune(|_| true).unwrap();
    assert_eq!((removed.count, removed.in_use), (0, 3));
    let objects = cache.list().unwrap();
    assert!(objects.iter().all(contents::Object::is_in_use), "{objects:?}");
    child.kill().unwrap();
    child.wait().unwrap();

    assert_eq!(names(&cache).len(), 3);
    assert_eq!(read(&image(&cache, "key", "whole")), "whole");
    assert_eq!(read(&image(&cache, "used", "again")), "used");
    let Blob::Missing(part) = cache.blob(&blob(b"blob"), Wait::SILENT).unwrap() else {
        panic!("complete");
    };
    assert_eq!(part.file().metadata().unwrap().len(), 2);
    part.file().write_all_at(b"ob", 2).unwrap();
    assert_eq!(read(&part.commit().unwrap()), "blob");
    assert!(cache.list().unwrap().iter().all(|object| object.is_complete));
}
