//! Tests of the cache: owners, failures, damage.
//!
//! | Module | Contents |
//! |---|---|
//! | `processes` | several users at once, and one that is killed |
//! | `removal` | what is removed, and in which order |

mod processes;
mod removal;

use std::fs::{Permissions, set_permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use super::*;

/// A cache in a temporary directory, which is closed to others.
struct Sample {
    dir: tempfile::TempDir,
}

impl Sample {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("made/oci")
    }

    /// One more handle, as another process has it.
    fn open(&self) -> Cache {
        self.bounded(u64::MAX)
    }

    fn bounded(&self, max_size: u64) -> Cache {
        Cache::open(&self.path(), Bounds { max_size }).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

fn read(held: &Held) -> String {
    let mut text = String::new();
    archive::bytes::At { file: held.file(), offset: 0 }.read_to_string(&mut text).unwrap();
    text
}

fn image(cache: &Cache, key: &str, text: &str) -> Held {
    cache.image(key, key, |mut out| Ok(out.write_all(text.as_bytes())?)).unwrap()
}

fn names(cache: &Cache) -> Vec<String> {
    cache.list().unwrap().into_iter().map(|found| found.name).collect()
}

#[test]
fn only_its_user_can_read_and_write_the_cache() {
    let sample = Sample::new();
    let cache = sample.open();
    image(&cache, "key", "text");
    cache.keep_document(&Digest::of(b"{}"), b"{}").unwrap();
    let digest = format!("blobs/sha256/{}", Digest::of(b"{}").parts().1);
    for (name, mode) in [("", 0o700), ("images", 0o700), ("images/key", 0o600), (&digest, 0o600)] {
        let found = sample.file(name).metadata().unwrap().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
    for mode in [0o770, 0o702] {
        set_permissions(sample.path(), Permissions::from_mode(mode)).unwrap();
        let error = format!("{:#}", Cache::open(&sample.path(), Bounds::default()).unwrap_err());
        assert!(error.contains("others can write to it"), "{error}");
    }
    set_permissions(sample.path(), Permissions::from_mode(0o755)).unwrap();
    sample.open();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(sample.path(), Some(1), None).unwrap();
        let error = format!("{:#}", Cache::open(&sample.path(), Bounds::default()).unwrap_err());
        assert!(error.contains("belongs to another user"), "{error}");
    }
}

#[test]
fn a_directory_that_cannot_be_written_to_keeps_nothing() {
    let sample = Sample::new();
    for dir in ["/proc/self/fdinfo/oci", "/sys/oci"] {
        let opened = Cache::open(Path::new(dir), Bounds::default());
        let Ok(cache) = opened else { continue };
        assert!(cache.dir().is_none());
        assert_eq!(read(&image(&cache, "key", "text")), "text");
    }
    // Root may write everywhere.
    if !rustix::process::geteuid().is_root() {
        image(&sample.open(), "key", "text");
        set_permissions(sample.path(), Permissions::from_mode(0o500)).unwrap();
        let cache = sample.open();
        assert_eq!(cache.access, Access::ReadOnly);
        assert_eq!(read(&image(&cache, "key", "other")), "text");
        set_permissions(sample.path(), Permissions::from_mode(0o700)).unwrap();
    }
    let cache = Cache::unkept();
    let digest = Digest::of(b"x");
    cache.keep_document(&digest, b"x").unwrap();
    assert!(cache.document(&digest).unwrap().is_none());
    assert!(cache.list().unwrap().is_empty());
    let held = image(&cache, "key", "text");
    assert_eq!((read(&held), held.path()), ("text".into(), None));
}

#[test]
fn a_cache_that_is_only_read_is_used_and_stays_as_it_is() {
    let sample = Sample::new();
    let layer = |cache: &Cache, text: &str, now: &str| {
        let build = |mut out: &File| Ok(out.write_all(now.as_bytes())?);
        cache.layer(&Digest::of(text.as_bytes()), Wait::SILENT, build).unwrap()
    };
    let cache = sample.open();
    image(&cache, "key", "text");
    layer(&cache, "layer", "layer");
    cache.keep_document(&Digest::of(b"{}"), b"{}").unwrap();
    cache.remember("a.example/b:1", &Digest::of(b"{}"), "").unwrap();
    std::fs::write(sample.file("images/key2"), "damaged").unwrap();
    let objects = names(&cache);

    let bounds = Bounds { max_size: 0 };
    let cache = Cache { dir: Some(sample.path()), bounds, access: Access::ReadOnly };
    assert_eq!(read(&image(&cache, "key", "other")), "text");
    assert_eq!(read(&layer(&cache, "layer", "other")), "layer");
    assert_eq!(cache.document(&Digest::of(b"{}")).unwrap().unwrap(), b"{}");
    assert!(cache.seen("a.example/b:1").is_some());
    for key in ["key2", "key3"] {
        let held = image(&cache, key, "new");
        assert_eq!((read(&held), held.path()), ("new".into(), None), "{key}");
    }
    assert_eq!(layer(&cache, "new", "new").path(), None);
    cache.keep_document(&Digest::of(b"new"), b"new").unwrap();
    cache.remember("a.example/b:2", &Digest::of(b"new"), "").unwrap();
    assert!(cache.seen("a.example/b:2").is_none());
    let mut found = names(&sample.open());
    found.sort();
    assert_eq!(found, {
        let mut objects = objects;
        objects.sort();
        objects
    });
}

#[test]
fn the_directory_above_a_users_cache_is_closed_to_others_too() {
    let base = tempfile::tempdir().unwrap();
    let cache = Cache::below(base.path(), Bounds::default()).unwrap();
    let parent = base.path().join("virtinitrd");
    assert_eq!(cache.dir(), Some(&*parent.join("oci")));
    for (mode, is_open) in [(0o755, true), (0o775, false), (0o702, false)] {
        set_permissions(&parent, Permissions::from_mode(mode)).unwrap();
        match Cache::below(base.path(), Bounds::default()) {
            Ok(_) => assert!(is_open, "{mode:o}"),
            Err(error) => {
                let error = format!("{error:#}");
                assert!(!is_open && error.contains("virtinitrd: others can"), "{mode:o} {error}");
            }
        }
    }
}

/// What the caller wants is there, so a failure to make room is no error.
#[test]
fn a_cache_that_cannot_be_trimmed_is_of_use() {
    let sample = Sample::new();
    let cache = sample.bounded(0);
    std::fs::write(sample.file("layers/sha256"), "in place of a directory").unwrap();
    assert!(cache.prune_to(0).is_err());
    assert_eq!(read(&image(&cache, "key", "text")), "text");
}

#[test]
fn a_damaged_object_is_removed_unless_it_was_made_again() {
    let sample = Sample::new();
    let held = image(&sample.open(), "key", "text");
    let path = held.path().unwrap();
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, "again").unwrap();
    assert!(!object::remove_held(&held).unwrap());
    assert_eq!(std::fs::read(path).unwrap(), b"again");
    assert!(object::remove_held(&hold(path).unwrap().unwrap()).unwrap());
    assert!(!path.exists());
}

#[test]
fn a_file_in_place_of_the_directory_is_an_error() {
    let sample = Sample::new();
    std::fs::write(sample.dir.path().join("made"), "").unwrap();
    assert!(Cache::open(&sample.path(), Bounds::default()).is_err());
}

#[test]
fn an_image_is_built_once_and_stays_after_a_failure() {
    let sample = Sample::new();
    let cache = sample.open();
    let failed = cache.image("key", "", |mut out| {
        out.write_all(b"half")?;
        anyhow::bail!("no space")
    });
    assert_eq!(failed.unwrap_err().to_string(), "no space");
    assert!(names(&cache).is_empty());
    let held = image(&cache, "key", "text");
    assert_eq!(held.path(), Some(&*sample.file("images/key")));
    assert_eq!(read(&image(&sample.open(), "key", "other")), "text");
    assert_eq!(read(&cache.find_image("key").unwrap().unwrap()), "text");
    assert!(cache.find_image("other").unwrap().is_none());
    for key in ["", ".", "..", "a/b", "a.part", "a.record", &"x".repeat(201)] {
        assert!(cache.find_image(key).is_err(), "{key}");
        assert!(cache.image(key, "", |_| Ok(())).is_err(), "{key}");
    }
}

#[test]
fn a_full_disk_names_what_helps() {
    let sample = Sample::new();
    let cache = sample.open();
    let fill = |mut out: &File| {
        out.write_all(b"te")?;
        let full = io::Error::from(io::ErrorKind::StorageFull);
        Err(anyhow::Error::from(full).context("write the unpacked layer"))
    };
    let failed = cache.layer(&Digest::of(b"other"), Wait::SILENT, |_| {
        cache.layer(&Digest::of(b"text"), Wait::SILENT, fill).map(drop)
    });
    let error = format!("{:#}", failed.unwrap_err());
    assert_eq!(error.matches("chrootvm cache prune").count(), 1, "{error}");
    assert!(error.ends_with("names another place"), "{error}");
    assert!(error.contains(&*sample.path().to_string_lossy()), "{error}");
    assert!(names(&cache).is_empty());
    let build = |mut out: &File| Ok(out.write_all(b"text")?);
    assert_eq!(read(&cache.layer(&Digest::of(b"text"), Wait::SILENT, build).unwrap()), "text");
}

#[test]
fn damage_is_found() {
    let sample = Sample::new();
    let cache = sample.open();
    let layer = |text: &str| {
        cache
            .layer(&Digest::of(text.as_bytes()), Wait::SILENT, |mut out| {
                Ok(out.write_all(text.as_bytes())?)
            })
            .unwrap()
    };
    let path = layer("layer").path().unwrap().to_path_buf();
    for damage in ["", "laye", "LAYER", "layer and more"] {
        std::fs::write(&path, damage).unwrap();
        // A clock of the kernel may not have moved since the object was completed.
        let future = SystemTime::now() + Duration::from_secs(10);
        let times = std::fs::FileTimes::new().set_modified(future);
        File::open(&path).unwrap().set_times(times).unwrap();
        assert!(cache.find_layer(&Digest::of(b"layer")).unwrap().is_none(), "{damage}");
        assert_eq!(read(&layer("layer")), "layer", "{damage}");
    }
    for lost in [path.clone(), record::path_of(&path)] {
        std::fs::remove_file(lost).unwrap();
        assert!(cache.find_layer(&Digest::of(b"layer")).unwrap().is_none());
        assert_eq!(read(&layer("layer")), "layer");
    }
    // Damage that neither size nor time shows is found by reading everything.
    layer("second");
    cache.keep_document(&Digest::of(b"{}"), b"{}").unwrap();
    image(&cache, "key", "text");
    let file = File::options().write(true).open(&path).unwrap();
    let time = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(b"L", 0).unwrap();
    file.set_times(std::fs::FileTimes::new().set_modified(time)).unwrap();
    let mut found = Vec::new();
    cache.verify(&mut |object, is_intact| found.push((object.name.clone(), is_intact))).unwrap();
    assert_eq!(found.len(), 4);
    let damaged: Vec<_> = found.into_iter().filter(|row| !row.1).map(|row| row.0).collect();
    assert_eq!(damaged, [Digest::of(b"layer").to_string()]);
    assert_eq!(names(&cache).len(), 3);
}

/// A crash may lose bytes of an object, but neither its size nor its time.
#[test]
fn an_object_of_an_earlier_boot_counts_only_if_it_was_synced() {
    let sample = Sample::new();
    let cache = sample.open();
    let held = image(&cache, "key", "text");
    let record = record::path_of(held.path().unwrap());
    let text = || std::fs::read_to_string(&record).unwrap();
    let boot = text().lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(boot.len(), 36, "{boot}");
    std::fs::write(&record, text().replace(&boot, "11111111-2222-3333-4444-555555555555")).unwrap();
    assert!(cache.find_image("key").unwrap().is_none());
    assert_eq!(read(&image(&cache, "key", "again")), "again");
    // A use soon after does not wait for the disk, and a later one does once.
    assert!(cache.find_image("key").unwrap().is_some());
    assert!(text().contains(&boot));
    let held = cache.find_image("key").unwrap().unwrap();
    let old = SystemTime::now() - Duration::from_secs(3600);
    held.file().set_times(std::fs::FileTimes::new().set_modified(old)).unwrap();
    record::write(held.path().unwrap(), held.file(), "label").unwrap();
    for _ in 0..2 {
        assert!(cache.find_image("key").unwrap().is_some());
        assert!(text().ends_with(" synced\nlabel\n"), "{}", text());
    }
    assert_eq!(std::fs::read_dir(sample.file("images")).unwrap().count(), 2);
}

#[test]
fn a_link_in_the_cache_is_not_followed() {
    let sample = Sample::new();
    let cache = sample.open();
    let outside = sample.dir.path().join("outside");
    std::fs::write(&outside, "outside").unwrap();
    image(&cache, "other", "text");
    for name in ["images/key", "images/key.part"] {
        symlink(&outside, sample.file(name)).unwrap();
        assert!(cache.image("key", "", |mut out| Ok(out.write_all(b"x")?)).is_err(), "{name}");
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "outside", "{name}");
        std::fs::remove_file(sample.file(name)).unwrap();
    }
    assert_eq!(names(&cache), ["other"]);
}

#[test]
fn references_are_remembered() {
    let sample = Sample::new();
    let cache = sample.open();
    assert!(cache.seen("docker.io/library/debian:12").is_none());
    for digest in [Digest::of(b"1"), Digest::of(b"2")] {
        cache.remember("docker.io/library/debian:12", &digest, "type").unwrap();
        let seen = sample.open().seen("docker.io/library/debian:12").unwrap();
        assert_eq!((seen.digest, &*seen.media_type), (digest, "type"));
        assert!(seen.time > 1_600_000_000);
    }
    cache.remember("a.example/b:1", &Digest::of(b"3"), "").unwrap();
    // A damaged file counts as none.
    for entry in std::fs::read_dir(sample.file("refs")).unwrap() {
        std::fs::write(entry.unwrap().path(), "{").unwrap();
    }
    assert!(cache.seen("a.example/b:1").is_none());
}
