//! `chrootvm cache`: a cache that was filled by hand is listed, checked and emptied.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

/// Digits of the SHA-256 of "abc" (FIPS 180-4).
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// Runs `chrootvm cache WORDS` with the cache directory `home`.
fn cache(home: &Path, words: &[&str]) -> (Option<i32>, String) {
    let mut chrootvm = Command::new(env!("CARGO_BIN_EXE_chrootvm"));
    let output = chrootvm.arg("cache").args(words).env("XDG_CACHE_HOME", home).output().unwrap();
    let Output { status, stdout, stderr } = output;
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

/// Writes a file that was last used so many days ago.
fn write(path: &Path, text: &str, days: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    let then = SystemTime::now() - Duration::from_secs(days * 86_400);
    let times = fs::FileTimes::new().set_modified(then).set_accessed(then);
    fs::File::options().write(true).open(path).unwrap().set_times(times).unwrap();
}

/// A cache with a blob, two unpacked kernels, and two small kernels, of which one is current.
fn filled() -> (tempfile::TempDir, String) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("virtinitrd");
    write(&dir.join("oci/blobs/sha256").join(ABC), "abc", 40);
    write(&dir.join("vmlinux/1-old"), "kernel", 31);
    write(&dir.join("vmlinux/1-new"), "kernel", 0);
    for name in ["one", "two"] {
        write(&dir.join("kernel").join(name).join("vmlinux"), "kernel", 50);
    }
    std::os::unix::fs::symlink("two", dir.join("kernel/current")).unwrap();
    (home, dir.to_str().unwrap().to_owned())
}

/// Kinds and names in a list, without the last line.
fn names(list: &str) -> Vec<String> {
    let rows = list.lines().skip(1);
    let name = |row: &str| {
        let words: Vec<_> = row.split_whitespace().collect();
        format!("{} {}", words[0], words[words.len() - 1])
    };
    let mut names: Vec<_> = rows.map(name).collect();
    names.pop();
    names
}

#[test]
fn everything_is_in_one_list() {
    let (home, dir) = filled();
    assert_eq!(cache(home.path(), &["dir"]), (Some(0), format!("{dir}\n")));
    let (status, list) = cache(home.path(), &["ls"]);
    assert_eq!(status, Some(0), "{list}");
    let blob = format!("blob sha256:{}", &ABC[..12]);
    let expected = ["kernel one", "kernel two", &*blob, "unpacked 1-old", "unpacked 1-new"];
    assert_eq!(names(&list), expected, "{list}");
    let current = list.lines().find(|line| line.ends_with("two")).unwrap();
    assert!(current.contains("in use") && current.contains("50d"), "{list}");
    assert!(list.trim_end().ends_with(&format!(" in {dir}")), "{list}");

    let (status, json) = cache(home.path(), &["ls", "--json"]);
    assert_eq!(status, Some(0), "{json}");
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["entries"].as_array().unwrap().len(), 5, "{json}");
    assert_eq!(value["entries"][2]["name"], format!("sha256:{ABC}"), "{json}");
}

#[test]
fn rules_say_what_is_removed() {
    for (words, expected) in [
        (&["--older", "45d"][..], &["kernel two", "blob", "unpacked 1-old", "unpacked 1-new"][..]),
        (&["--older", "35d"], &["kernel two", "unpacked 1-old", "unpacked 1-new"]),
        (&["--older", "1d"], &["kernel two", "unpacked 1-new"]),
        (
            &["--to", "1G"],
            &["kernel one", "kernel two", "blob", "unpacked 1-old", "unpacked 1-new"],
        ),
        (&["--to", "0"], &["kernel two"]),
        (&["--all"], &["kernel two"]),
    ] {
        let (home, _) = filled();
        let (status, text) = cache(home.path(), &[&["prune"], words].concat());
        assert_eq!(status, Some(0), "{words:?}: {text}");
        let kept = names(&cache(home.path(), &["ls"]).1);
        let kept: Vec<_> =
            kept.iter().map(|name| if name.starts_with("blob") { "blob" } else { name }).collect();
        assert_eq!(kept, expected, "{words:?}: {text}");
        assert!(text.starts_with(&format!("removed {}, ", 5 - expected.len())), "{text}");
    }
    for words in [&["prune"][..], &["prune", "--all", "--to", "1G"], &["prune", "--older", "x"]] {
        let (home, _) = filled();
        assert_eq!(cache(home.path(), words).0, Some(125), "{words:?}");
        assert_eq!(names(&cache(home.path(), &["ls"]).1).len(), 5, "{words:?}");
    }
}

#[test]
fn what_is_damaged_is_removed() {
    let (home, dir) = filled();
    let verified = (Some(0), "1 intact, 0 damaged\n".to_owned());
    assert_eq!(cache(home.path(), &["verify"]), verified);
    let blob = Path::new(&dir).join("oci/blobs/sha256").join(ABC);
    fs::write(&blob, "abd").unwrap();
    let text = format!("damaged, and removed: blob sha256:{ABC}\n0 intact, 1 damaged\n");
    assert_eq!(cache(home.path(), &["verify"]), (Some(1), text));
    assert!(!blob.exists());
    let verified = (Some(0), "0 intact, 0 damaged\n".to_owned());
    assert_eq!(cache(home.path(), &["verify"]), verified);
}

#[test]
fn without_a_directory_there_is_an_error() {
    let mut chrootvm = Command::new(env!("CARGO_BIN_EXE_chrootvm"));
    chrootvm.args(["cache", "ls"]).env_clear();
    let output = chrootvm.output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{error}");
    assert!(error.contains("set HOME or XDG_CACHE_HOME"), "{error}");
}
