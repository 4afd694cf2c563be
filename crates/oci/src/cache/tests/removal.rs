//! What is removed from a cache, and in which order.

use super::*;

/// Sets the time of the last use to so many seconds ago.
fn age(path: &Path, seconds: u64) {
    let time = SystemTime::now() - Duration::from_secs(seconds);
    let times = std::fs::FileTimes::new().set_accessed(time);
    File::open(path).unwrap().set_times(times).unwrap();
}

#[test]
fn what_was_not_used_is_removed_first() {
    const BYTES: usize = 10_000;
    let sample = Sample::new();
    let cache = sample.open();
    let text = "x".repeat(BYTES);
    for key in ["a", "b", "c", "d", "e"] {
        image(&cache, key, &text);
    }
    let size = cache.list().unwrap()[0].size;
    for (key, seconds) in [("a", 40), ("b", 50), ("c", 30), ("d", 20), ("e", 10)] {
        let path = sample.file("images").join(key);
        age(&path, 1000 + seconds);
        let time = SystemTime::now() - Duration::from_secs(2000);
        // The time of the last change counts, too; it is in the record.
        let file = File::open(&path).unwrap();
        file.set_times(std::fs::FileTimes::new().set_modified(time)).unwrap();
        record::write(&path, &file, key).unwrap();
    }
    assert_eq!(names(&cache), ["b", "a", "c", "d", "e"]);
    let used = cache.find_image("a").unwrap().unwrap();
    let held = cache.find_image("b").unwrap().unwrap();
    age(held.path().unwrap(), 5000);
    // `b` is the oldest, but in use; `a` was used last.
    let removed = cache.prune_to(3 * size).unwrap();
    assert_eq!((removed.count, removed.bytes, removed.in_use), (2, 2 * size, 1));
    assert_eq!(names(&cache), ["b", "e", "a"]);
    drop((used, held));
    assert_eq!(cache.prune(|object| object.label == "e").unwrap().count, 1);
    // A new image makes room for itself.
    image(&sample.bounded(size), "f", &text);
    assert_eq!(names(&cache), ["f"]);
    assert_eq!(cache.prune(|_| true).unwrap().count, 1);
    assert_eq!(std::fs::read_dir(sample.file("images")).unwrap().count(), 0);
}

#[test]
fn what_interrupted_runs_left_behind_is_swept() {
    let sample = Sample::new();
    let cache = sample.open();
    image(&cache, "key", "text");
    cache.keep_document(&Digest::of(b"{}"), b"{}").unwrap();
    cache.remember("a.example/kept:1", &Digest::of(b"{}"), "").unwrap();
    cache.remember("a.example/gone:1", &Digest::of(b"gone"), "").unwrap();
    // A local image that was started: its config is in no blob, but in the key of its image.
    let config = Digest::of(b"config");
    image(&cache, &format!("erofs-{}", config.parts().1), "text");
    cache.remember("/layout linux/amd64", &config, "").unwrap();
    std::fs::write(sample.file("images/lost.record"), "").unwrap();
    std::fs::write(sample.file("refs/.tmp1234"), "half").unwrap();
    let files = || {
        let count = |name| std::fs::read_dir(sample.file(name)).unwrap().count();
        (count("images"), count("refs"))
    };
    // A run that goes on may need them.
    cache.prune(|_| false).unwrap();
    assert_eq!(files(), (5, 4));
    for dir in ["images", "refs"] {
        for entry in std::fs::read_dir(sample.file(dir)).unwrap() {
            let file = File::open(entry.unwrap().path()).unwrap();
            let time = SystemTime::now() - Duration::from_secs(7200);
            file.set_times(std::fs::FileTimes::new().set_modified(time)).unwrap();
        }
    }
    cache.prune(|_| false).unwrap();
    assert_eq!(files(), (4, 2));
    assert!(cache.seen("a.example/kept:1").is_some());
    assert!(cache.seen("/layout linux/amd64").is_some());
    cache.prune(|object| object.kind == Kind::Image).unwrap();
    assert!(cache.seen("/layout linux/amd64").is_none());
}
