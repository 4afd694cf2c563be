//! Images of a registry: pull policies, downloads that break, and damage in the cache.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::json;

use super::fake::Fake;
use super::*;
use crate::document::manifest::Descriptor;
use crate::sample::{gzip, tar};

/// Bytes that compression does not shorten.
fn noise(seed: u64, count: usize) -> String {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + u8::try_from(state >> 58).unwrap())
    };
    (0..count).map(|_| next()).collect()
}

/// Bytes of each file of the image.
const SIZE: usize = 20_000;

/// A layout with an image of two layers of noise, and the descriptor of its manifest.
fn sample(seed: u64) -> (LayoutDir, Value) {
    let dir = LayoutDir::new();
    let layers = [tar(&[("a", &noise(seed, SIZE))]), tar(&[("b", &noise(0, SIZE))])];
    let top = dir.image(PLATFORM, &layers);
    (dir, top)
}

fn check(image: &Image, seed: u64) {
    let tree = tree(image).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(text(&tree, "a") == noise(seed, SIZE));
    assert!(text(&tree, "b") == noise(0, SIZE));
}

/// All files of a cache with their paths.
fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => pending.push(path),
                false => drop(found.insert(path)),
            }
        }
    }
    found
}

fn with_ending(dir: &Path, ending: &str) -> Vec<PathBuf> {
    files(dir).into_iter().filter(|path| path.to_str().unwrap().ends_with(ending)).collect()
}

#[test]
fn the_pull_policy_decides_what_is_asked() {
    let (dir, top) = sample(1);
    let registry = Fake::new(&dir, &top);
    let cache = tempfile::tempdir().unwrap();
    let options = options(cache.path());
    let open = |pull| registry.open(pull, &options);
    assert!(error(open(Pull::Never)).contains("--pull=never"));
    assert_eq!(registry.asked(), [0, 0, 0]);
    check(&open(Pull::Missing).unwrap(), 1);
    assert_eq!(registry.asked(), [2, 0, 2]);
    for (pull, expected) in [
        (Pull::Never, [0, 0, 0]),
        (Pull::Missing, [0, 0, 0]),
        (Pull::Newer, [0, 1, 0]),
        (Pull::Always, [1, 0, 0]),
    ] {
        check(&open(pull).unwrap(), 1);
        assert_eq!(registry.asked(), expected, "{pull:?}");
    }
    // The tag moves.
    let (dir, top) = sample(2);
    registry.fill(&dir, &top);
    check(&open(Pull::Missing).unwrap(), 1);
    check(&open(Pull::Newer).unwrap(), 2);
    assert_eq!(registry.asked(), [2, 1, 1], "one of the two layers was in the cache");
    check(&open(Pull::Never).unwrap(), 2);
    // The registry answers that it has no such image.
    registry.documents.lock().unwrap().clear();
    assert!(error(open(Pull::Newer)).contains("refused"));
    // The registry goes away between two requests.
    let (dir, top) = sample(3);
    registry.fill(&dir, &top);
    *registry.answers.lock().unwrap() = Some(1);
    check(&open(Pull::Newer).unwrap(), 2);
    *registry.answers.lock().unwrap() = None;
    // The registry does not answer.
    *registry.is_down.lock().unwrap() = true;
    check(&open(Pull::Newer).unwrap(), 2);
    assert!(error(open(Pull::Always)).contains("does not answer"));
    let elsewhere = registry.named("registry.example/other:1", Pull::Missing, &options);
    assert!(error(elsewhere).contains("does not answer"));
}

#[test]
fn a_digest_is_asked_for_once_and_verified() {
    let (dir, top) = sample(1);
    let registry = Fake::new(&dir, &top);
    let cache = tempfile::tempdir().unwrap();
    let options = options(cache.path());
    let name = format!("registry.example/app@{}", digest(&top));
    for expected in [[2, 0, 2], [0, 0, 0]] {
        check(&registry.named(&name, Pull::Always, &options).unwrap(), 1);
        assert_eq!(registry.asked(), expected);
    }
    let wrong = format!("registry.example/app@{}", Digest::of(b""));
    let found = error(registry.named(&wrong, Pull::Always, &options));
    assert!(found.contains("damaged or replaced"), "{found}");
    assert!(options.cache.seen(&wrong).is_none());
}

#[test]
fn a_broken_download_is_continued_by_the_next_run() {
    /// Bytes after which the connection breaks; several buffers.
    const BREAK: u64 = 1_200_000;
    let dir = LayoutDir::new();
    let long = noise(1, 2_000_000);
    let top = dir.image(PLATFORM, &[tar(&[("long", &long)])]);
    let registry = Fake::new(&dir, &top);
    let cache = tempfile::tempdir().unwrap();
    let options = options(cache.path());
    *registry.breaks_after.lock().unwrap() = Some(BREAK);
    let found = error(tree(&registry.open(Pull::Missing, &options).unwrap()));
    assert!(found.contains("connection reset"), "{found}");
    // Of the unpacked layer nothing is left, of the blob what was read.
    let parts = with_ending(cache.path(), ".part");
    let [part] = &parts[..] else { panic!("{parts:?}") };
    assert!(part.starts_with(cache.path().join("blobs")), "{parts:?}");
    let already = part.metadata().unwrap().len();
    assert!(already > BREAK / 2 && already <= BREAK, "{already}");
    let tree = tree(&registry.open(Pull::Missing, &options).unwrap()).unwrap();
    assert!(text(&tree, "long") == long);
    assert_eq!(*registry.offsets.lock().unwrap(), [0, already]);
    assert!(with_ending(cache.path(), ".part").is_empty());
}

#[test]
fn a_wrong_beginning_is_read_again() {
    let (dir, top) = sample(1);
    let blob = |number: usize| {
        let image = open(&location(&dir_with(&dir, &top)), &unkept()).unwrap();
        image.manifest.layers[number].clone()
    };
    let Descriptor { digest, size, .. } = blob(0);
    for length in [1, 1000, size - 1, size, size + 1, 2 * size] {
        let registry = Fake::new(&dir, &top);
        let cache = tempfile::tempdir().unwrap();
        let options = options(cache.path());
        let part = cache.path().join("blobs/sha256").join(format!("{}.part", digest.parts().1));
        std::fs::create_dir_all(part.parent().unwrap()).unwrap();
        std::fs::write(part, vec![b'x'; usize::try_from(length).unwrap()]).unwrap();
        check(&registry.open(Pull::Missing, &options).unwrap(), 1);
        assert!(registry.offsets.lock().unwrap().contains(&0), "{length}");
        assert!(with_ending(cache.path(), ".part").is_empty(), "{length}");
    }
    // A beginning that is complete needs no download.
    let registry = Fake::new(&dir, &top);
    let cache = tempfile::tempdir().unwrap();
    let options = options(cache.path());
    let part = cache.path().join("blobs/sha256").join(format!("{}.part", digest.parts().1));
    std::fs::create_dir_all(part.parent().unwrap()).unwrap();
    std::fs::copy(dir.file(&digest), part).unwrap();
    check(&registry.open(Pull::Missing, &options).unwrap(), 1);
    assert_eq!(registry.asked(), [2, 0, 1]);
}

/// The layout `dir` with its manifest in the index.
fn dir_with(dir: &LayoutDir, top: &Value) -> LayoutDir {
    let mut copy = LayoutDir::new();
    for file in std::fs::read_dir(dir.path().join("blobs/sha256")).unwrap() {
        copy.blob(&std::fs::read(file.unwrap().path()).unwrap(), "");
    }
    copy.enter(top.clone(), "");
    copy
}

#[test]
fn a_blob_whose_diff_id_is_wrong_is_not_fetched_again() {
    let dir = LayoutDir::new();
    let config = dir.config(PLATFORM, &json!({}), &[tar(&[("a", "other")])]);
    let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
    let blob = dir.blob(&gzip(&tar(&[("a", "1")])), layer);
    let top = dir.manifest(&config, std::slice::from_ref(&blob));
    let registry = Fake::new(&dir, &top);
    let cache = tempfile::tempdir().unwrap();
    let options = options(cache.path());
    for expected in [[2, 0, 1], [0, 0, 0]] {
        let found = error(tree(&registry.open(Pull::Missing, &options).unwrap()));
        assert!(found.contains("diff_id"), "{found}");
        assert_eq!(registry.asked(), expected);
    }
    let path = cache.path().join("blobs/sha256").join(digest(&blob).parts().1);
    assert_eq!(std::fs::read(path).unwrap(), gzip(&tar(&[("a", "1")])));
}

#[test]
fn a_damaged_blob_of_a_base_is_fetched_again() {
    let (dir, top) = sample(1);
    let registry = Fake::new(&dir, &top);
    let cache = tempfile::tempdir().unwrap();
    let image = registry.open(Pull::Missing, &options(cache.path())).unwrap();
    tree(&image).unwrap();
    let Descriptor { digest, size, .. } = image.manifest.layers[0].clone();
    let path = cache.path().join("blobs/sha256").join(digest.parts().1);
    for expected in [0, 1] {
        registry.asked();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut image.blob(0).unwrap(), &mut bytes).unwrap();
        assert_eq!(Digest::of(&bytes), digest);
        assert_eq!(registry.asked()[2], expected);
        std::fs::write(&path, vec![0; usize::try_from(size).unwrap()]).unwrap();
    }
}

#[test]
fn damage_in_the_cache_is_repaired() {
    type Damage = fn(&Path);
    let flip: Damage = |path| {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
        // A clock of the kernel may not have moved since the object was completed.
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(10);
        let times = std::fs::FileTimes::new().set_modified(later);
        std::fs::File::open(path).unwrap().set_times(times).unwrap();
    };
    let cut: Damage = |path| {
        std::fs::File::options().write(true).open(path).unwrap().set_len(7).unwrap();
    };
    let remove: Damage = |path| std::fs::remove_file(path).unwrap();
    let empty: Damage = |path| std::fs::write(path, "").unwrap();
    let (dir, top) = sample(1);
    for (name, damage) in [("flip", flip), ("cut", cut), ("remove", remove), ("empty", empty)] {
        for kind in ["blobs", "layers", "refs", "blobs and layers"] {
            let registry = Fake::new(&dir, &top);
            let cache = tempfile::tempdir().unwrap();
            let options = options(cache.path());
            check(&registry.open(Pull::Missing, &options).unwrap(), 1);
            for kind in kind.split(" and ") {
                for path in files(&cache.path().join(kind)) {
                    damage(&path);
                }
            }
            check(&registry.open(Pull::Missing, &options).unwrap(), 1);
            registry.asked();
            check(&registry.open(Pull::Never, &options).unwrap(), 1);
            let mut damaged = Vec::new();
            let mut tell = |object: &crate::cache::contents::Object, is_intact: bool| {
                if !is_intact {
                    damaged.push(object.name.clone());
                }
            };
            options.cache.verify(&mut tell).unwrap();
            // Damaged blobs of layers that are unpacked are not read until somebody verifies.
            assert!(damaged.is_empty() || kind == "blobs", "{name} {kind}: {damaged:?}");
            check(&registry.open(Pull::Never, &options).unwrap(), 1);
        }
    }
}

#[test]
fn a_lying_registry_leaves_nothing_in_the_cache() {
    let (dir, top) = sample(1);
    let registry = Fake::new(&dir, &top);
    let other = gzip(&tar(&[("a", &noise(9, SIZE))]));
    for (digest, bytes) in registry.documents.lock().unwrap().iter_mut() {
        if bytes.starts_with(&[0x1f, 0x8b]) {
            *bytes = other.clone();
            bytes.resize(std::fs::metadata(dir.file(digest)).unwrap().len().try_into().unwrap(), 0);
        }
    }
    let cache = tempfile::tempdir().unwrap();
    let options = options(cache.path());
    let image = registry.open(Pull::Missing, &options).unwrap();
    for _ in 0..2 {
        let found = error(tree(&image));
        assert!(found.contains("the blob has the digest"), "{found}");
        let kept = options.cache.list().unwrap();
        // A layer that was stopped because of the other one may be incomplete.
        let complete = kept.iter().filter(|object| object.is_complete);
        let names: Vec<_> = complete.map(|object| object.name.as_str()).collect();
        let layers: Vec<_> = image.manifest.layers.iter().map(|it| it.digest.as_str()).collect();
        assert!(layers.iter().all(|layer| !names.contains(layer)), "{kept:?}");
    }

    // A document with other contents.
    let registry = Fake::new(&dir, &top);
    for (_, bytes) in registry.documents.lock().unwrap().iter_mut() {
        if bytes.starts_with(b"{") {
            *bytes = json!({}).to_string().into_bytes();
        }
    }
    let cache = tempfile::tempdir().unwrap();
    let name = format!("registry.example/app@{}", digest(&top));
    let found = error(registry.named(&name, Pull::Missing, &self::options(cache.path())));
    assert!(found.contains("damaged or replaced"), "{found}");
    assert!(files(cache.path()).is_empty());
}

#[test]
fn a_mirror_that_sends_other_layers_is_left() {
    let (dir, top) = sample(1);
    for wrong in
        [gzip(&tar(&[("a", "other")])), vec![0; 100], gzip(&tar(&[("a", &noise(7, 99_999))]))]
    {
        let registry = Fake::new(&dir, &top);
        *registry.mirror.lock().unwrap() = Some(wrong);
        let cache = tempfile::tempdir().unwrap();
        check(&registry.open(Pull::Missing, &options(cache.path())).unwrap(), 1);
        assert!(registry.is_left.load(std::sync::atomic::Ordering::Relaxed));
        let registry = Fake::new(&dir, &top);
        *registry.mirror.lock().unwrap() = Some(vec![0; 100]);
        check(&registry.open(Pull::Missing, &unkept()).unwrap(), 1);
    }
}

#[test]
fn two_pulls_at_once_share_the_work() {
    let (dir, top) = sample(1);
    let registry = Fake::new(&dir, &top);
    let cache = tempfile::tempdir().unwrap();
    let pull = || check(&registry.open(Pull::Missing, &options(cache.path())).unwrap(), 1);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(pull);
        }
    });
    let [_, _, blobs] = registry.asked();
    assert_eq!(blobs, 2);
    assert!(with_ending(cache.path(), ".part").is_empty());
}

#[test]
fn nothing_is_kept_without_a_cache() {
    let (dir, top) = sample(1);
    let registry = Fake::new(&dir, &top);
    for _ in 0..2 {
        check(&registry.open(Pull::Missing, &unkept()).unwrap(), 1);
        assert_eq!(registry.asked(), [2, 0, 2]);
    }
}
