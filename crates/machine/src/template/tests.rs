//! Tests of templates as files.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use files::memory::new_memory_file;
use proptest::prelude::*;

use super::file::Template;
use super::key::TemplateKey;
use super::store::TemplateStore;

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;

fn store() -> (tempfile::TempDir, TemplateStore) {
    let base = tempfile::tempdir().unwrap();
    let store = TemplateStore::below(base.path()).unwrap();
    (base, store)
}

fn empty_memory(size: u64) -> File {
    let file = new_memory_file().unwrap();
    file.set_len(size).unwrap();
    file
}

/// Memory with these pages; each one has its number as contents.
fn memory(size: u64, pages: impl IntoIterator<Item = u64>) -> File {
    let file = empty_memory(size);
    for page in pages {
        let contents = [page.to_le_bytes(), 1_u64.to_le_bytes()].concat().repeat(256);
        file.write_all_at(&contents, page * PAGE).unwrap();
    }
    file
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len().try_into().unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn allocated(file: &File) -> u64 {
    file.metadata().unwrap().blocks() * 512
}

fn filled(template: &Template) -> anyhow::Result<File> {
    let file = empty_memory(template.memory_size());
    template.fill(&file).map(|()| file)
}

#[test]
fn a_kept_template_is_found() {
    let (base, store) = store();
    let key = TemplateKey::sample("a");
    assert!(store.find(&key).is_none());
    // Runs of pages across the bounds of pieces and chunks, and one alone at the end.
    let pages = [0, 3, 4, 5].into_iter().chain(30..34).chain(1000..2100).chain([4095]);
    let memory = memory(16 * MIB, pages);
    // A page of zeros that is no hole.
    memory.write_all_at(&[0; 4096], 20 * PAGE).unwrap();
    store.keep(&key, &memory, b"state").unwrap();
    let again = TemplateStore::below(base.path()).unwrap();
    let template = again.find(&key).unwrap();
    assert_eq!((template.state(), template.memory_size()), (&b"state"[..], 16 * MIB));
    template.verify().unwrap();
    let copy = filled(&template).unwrap();
    assert!(contents(&copy) == contents(&memory));
    assert_eq!(allocated(&copy), allocated(&memory) - PAGE);
    let mut mapped = vec![0; 16 << 20];
    template.memory().read_exact_at(&mut mapped, 0).unwrap();
    assert!(mapped == contents(&memory));
    assert!(allocated(template.memory()) < allocated(&memory) + 64 * PAGE);
    assert!(again.find(&TemplateKey::sample("b")).is_none());
    assert!(template.fill(&empty_memory(MIB)).is_err());
}

#[test]
fn memory_without_data_can_be_kept() {
    let (_base, store) = store();
    for (name, size) in [("none", 0), ("zeros", 64 * MIB)] {
        let key = TemplateKey::sample(name);
        store.keep(&key, &empty_memory(size), b"").unwrap();
        let template = store.find(&key).unwrap();
        template.verify().unwrap();
        assert_eq!(allocated(&filled(&template).unwrap()), 0, "{name}");
    }
}

/// A store with a small template, its key, and the path of its file.
fn kept() -> (tempfile::TempDir, TemplateStore, TemplateKey, PathBuf) {
    let (base, store) = store();
    let key = TemplateKey::sample("kept");
    store.keep(&key, &memory(MIB, [1, 2, 9]), b"the state").unwrap();
    let path = base.path().join(format!("virtinitrd/warm/{key}"));
    (base, store, key, path)
}

/// A store's answer to a damaged file: whether it finds the template, and whether that can be
/// verified and filled in.
fn answers(store: &TemplateStore, key: &TemplateKey) -> (bool, bool, bool) {
    store.find(key).map_or((false, false, false), |template| {
        (true, template.verify().is_ok(), filled(&template).is_ok())
    })
}

#[test]
fn damage_is_noticed() {
    let (_base, store, key, path) = kept();
    let good = fs::read(&path).unwrap();
    let end = good.len();
    let flip = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        bytes
    };
    let memory = 1 << 20;
    for (name, bytes, expected) in [
        ("nothing", good.clone(), (true, true, true)),
        ("first page of an extent", flip(4096), (true, false, false)),
        ("last byte of an extent", flip(3 * 4096 - 1), (true, false, false)),
        ("a hole, which is not filled in", flip(5 * 4096), (true, false, true)),
        ("the last hole", flip(memory - 1), (true, false, true)),
        ("state", flip(memory), (false, false, false)),
        ("table", flip(memory + 9), (false, false, false)),
        ("magic", flip(end - 128), (false, false, false)),
        ("version", flip(end - 120), (false, false, false)),
        ("count", flip(end - 116), (false, false, false)),
        ("high byte of the count", flip(end - 113), (false, false, false)),
        ("length of the memory", flip(end - 110), (false, false, false)),
        ("length of the state", flip(end - 104), (false, false, false)),
        ("key", flip(end - 90), (false, false, false)),
        ("digest of the state", flip(end - 64), (false, false, false)),
        ("digest of the end", flip(end - 1), (false, false, false)),
        ("cut by a byte", good[..end - 1].to_vec(), (false, false, false)),
        ("cut in the memory", good[..5000].to_vec(), (false, false, false)),
        ("empty", Vec::new(), (false, false, false)),
        ("only an end", good[end - 128..].to_vec(), (false, false, false)),
        ("a byte more", [&good[..], b"\0"].concat(), (false, false, false)),
        ("a byte before", [b"\0", &good[..]].concat(), (false, false, false)),
    ] {
        fs::write(&path, bytes).unwrap();
        assert_eq!(answers(&store, &key), expected, "{name}");
        assert_eq!(path.exists(), expected.0, "{name}");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_open_is_an_error() {
    let (_base, store, key, path) = kept();
    let template = store.find(&key).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(5000).unwrap();
    assert!(template.verify().is_err());
    let error = format!("{:#}", filled(&template).unwrap_err());
    assert!(error.contains(&key.to_string()), "{error}");
}

#[test]
fn another_template_under_its_name_is_not_used() {
    let (_base, store, key, path) = kept();
    let other = TemplateKey::sample("other");
    store.keep(&other, &memory(MIB, [3]), b"").unwrap();
    fs::copy(path.with_file_name(other.to_string()), &path).unwrap();
    assert!(store.find(&key).is_none());
    assert!(store.find(&other).is_some());
}

#[test]
fn a_file_that_others_can_write_to_is_not_used() {
    let (base, store, key, path) = kept();
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o777, 0o700);
    fs::set_permissions(&path, Permissions::from_mode(0o620)).unwrap();
    assert!(store.find(&key).is_none());
    store.keep(&key, &memory(MIB, [1]), b"").unwrap();
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    assert!(store.find(&key).is_some());
    let moved = base.path().join("moved");
    fs::rename(&path, &moved).unwrap();
    symlink(&moved, &path).unwrap();
    assert!(store.find(&key).is_none() && moved.exists());
    fs::set_permissions(path.parent().unwrap(), Permissions::from_mode(0o770)).unwrap();
    assert!(TemplateStore::below(base.path()).is_none());
}

#[test]
fn too_much_data_is_refused_and_nothing_is_left() {
    let (base, store) = store();
    let key = TemplateKey::sample("big");
    let error = store.keep(&key, &empty_memory(MIB + 1), b"").unwrap_err();
    assert!(format!("{error:#}").contains("not whole pages"), "{error:#}");
    let state = vec![1; (16 << 20) + 1];
    let error = store.keep(&key, &empty_memory(MIB), &state).unwrap_err();
    assert!(format!("{error:#}").contains("too many"), "{error:#}");
    assert_eq!(fs::read_dir(base.path().join("virtinitrd/warm")).unwrap().count(), 0);
}

#[test]
fn a_removed_template_stays_usable() {
    let (_base, store, key, path) = kept();
    let template = store.find(&key).unwrap();
    store.remove(&key);
    assert!(!path.exists() && store.find(&key).is_none());
    template.verify().unwrap();
    filled(&template).unwrap();
}

#[test]
fn the_templates_used_last_stay() {
    let (_base, store) = store();
    let keys: Vec<_> = (0..9).map(|number| TemplateKey::sample(&number.to_string())).collect();
    let age = |key: &TemplateKey, seconds| {
        let then = SystemTime::now() - Duration::from_secs(seconds);
        store.find(key).unwrap().memory().set_modified(then).unwrap();
    };
    for (key, seconds) in keys[..8].iter().zip((0..8).map(|number| 1000 - 100 * number)) {
        store.keep(key, &memory(MIB, [1]), b"").unwrap();
        age(key, seconds);
    }
    // The oldest is used again, so the second one goes.
    assert!(store.find(&keys[0]).is_some());
    store.keep(&keys[8], &memory(MIB, [1]), b"").unwrap();
    let mut names: Vec<_> = store.list().into_iter().map(|listed| listed.name).collect();
    let mut expected: Vec<_> = keys.iter().map(ToString::to_string).collect();
    expected.remove(1);
    names.sort();
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn listed_templates_can_be_removed() {
    let (base, store, key, path) = kept();
    let listed = store.list();
    assert_eq!(listed.len(), 1);
    assert_eq!((&*listed[0].name, listed[0].is_complete), (&*key.to_string(), true));
    assert!((3 * PAGE..MIB).contains(&listed[0].size), "{listed:?}");
    fs::write(base.path().join("virtinitrd/x"), "").unwrap();
    for name in ["none", "../x", &key.to_string()] {
        store.remove_named(name).unwrap();
    }
    assert!(base.path().join("virtinitrd/x").exists() && !path.exists());
}

#[test]
fn concurrent_runs_do_not_disturb_each_other() {
    let (base, store) = store();
    let memory = memory(4 * MIB, (0..1024).step_by(3));
    let expected = contents(&memory);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..8 {
                    let key = TemplateKey::sample(["a", "b"][round % 2]);
                    store.keep(&key, &memory, b"state").unwrap();
                    if let Some(template) = store.find(&key) {
                        assert!(contents(&filled(&template).unwrap()) == expected);
                    }
                }
            });
        }
    });
    assert!(fs::read_dir(base.path().join("virtinitrd/warm")).unwrap().count() <= 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_memory_comes_back(
        pages in prop::collection::btree_set(0_u64..2048, 0..200),
        state in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let (_base, store) = store();
        let key = TemplateKey::sample("any");
        let memory = memory(8 * MIB, pages);
        store.keep(&key, &memory, &state).unwrap();
        let template = store.find(&key).unwrap();
        template.verify().unwrap();
        prop_assert!(contents(&filled(&template).unwrap()) == contents(&memory));
        prop_assert_eq!(template.state(), &state[..]);
    }

    #[test]
    fn any_damage_is_an_error(at in 0_usize..1 << 20, bit in 0_u8..8) {
        let (_base, store, key, path) = kept();
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() - 1 - at;
        bytes[at] ^= 1 << bit;
        fs::write(&path, bytes).unwrap();
        prop_assert!(!answers(&store, &key).1);
    }
}
