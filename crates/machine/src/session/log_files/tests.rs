//! Log files in a directory of the host: rotation, permissions, locks.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use proptest::prelude::*;

use super::*;

/// Settings for `dir` with this size and number of old files.
fn settings(dir: &Path, size: u64, keep: u32) -> LogSettings {
    LogSettings { size, keep, ..LogSettings::new(dir.into()) }
}

/// Writes `chunks` to standard output.
fn write(settings: &LogSettings, chunks: &[&[u8]]) {
    let [mut output, _error] = settings.open().unwrap().into_targets();
    for chunk in chunks {
        output.write(chunk).unwrap();
    }
    output.close().unwrap();
}

/// The files of standard output, the oldest first. A number without a file is left out.
fn files(dir: &Path) -> Vec<String> {
    let path = |number| dir.join(LogStream::Output.file_name(number));
    let text = |number| fs::read(path(number)).ok().map(|text| String::from_utf8(text).unwrap());
    (0..=KEEP_MAX).rev().filter_map(text).collect()
}

#[test]
fn files_are_rotated_at_ends_of_lines() {
    for (name, size, keep, chunks, expected) in [
        ("one file", 10, 3, &["a\n", "b\n"][..], &["a\nb\n"][..]),
        ("a full file", 4, 3, &["a\nb\n"], &["a\nb\n"]),
        ("the next line", 4, 3, &["a\nb\n", "c\n"], &["a\nb\n", "c\n"]),
        ("in one chunk", 4, 3, &["a\nb\nc\n"], &["a\nb\n", "c\n"]),
        ("a line that does not fit", 4, 3, &["a\nbcd\n"], &["a\n", "bcd\n"]),
        ("the oldest part goes", 4, 2, &["abcdefghij\nk\n"], &["efgh", "ij\n", "k\n"]),
        ("a long line is cut", 4, 3, &["abcdefg\n"], &["abcd", "efg\n"]),
        ("a line in parts", 4, 3, &["a\nb", "c", "d\n"], &["a\nbc", "d\n"]),
        ("the oldest goes", 2, 1, &["a\n", "b\n", "c\n"], &["b\n", "c\n"]),
        ("no old files", 2, 0, &["a\n", "b\n", "c\n"], &["c\n"]),
        ("empty chunks", 2, 1, &["", "a\n", ""], &["a\n"]),
        ("nothing", 2, 1, &[], &[""]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let chunks: Vec<_> = chunks.iter().map(|chunk| chunk.as_bytes()).collect();
        write(&settings(dir.path(), size, keep), &chunks);
        assert_eq!(files(dir.path()), expected, "{name}");
    }
}

proptest! {
    // Each case makes many files.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No byte is lost, no file is too large, and files end at ends of lines that fit.
    #[test]
    fn all_bytes_arrive(chunks in proptest::collection::vec("[ab\n]{0,12}", 0..12), size in 1u64..9) {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<_> = chunks.iter().map(String::as_bytes).collect();
        write(&settings(dir.path(), size, KEEP_MAX), &bytes);
        let found = files(dir.path());
        // At most 12 * 12 bytes: with a size of 1, the oldest of them are gone.
        let all = chunks.concat();
        prop_assert!(all.ends_with(&found.concat()));
        prop_assert!(found.len() > KEEP_MAX as usize || all == found.concat());
        prop_assert!(found.iter().all(|text| text.len() as u64 <= size));
        // One chunk is cut within a line only if the line is longer than a file.
        if let [chunk] = &chunks[..] {
            let is_long = chunk.split_inclusive('\n').any(|line| line.len() as u64 > size);
            let last = found.len() - 1;
            prop_assert!(is_long || found[..last].iter().all(|text| text.ends_with('\n')));
        }
    }
}

#[test]
fn a_later_machine_appends() {
    let dir = tempfile::tempdir().unwrap();
    let few = settings(dir.path(), 4, 1);
    write(&settings(dir.path(), 4, 3), &[b"1\n2\n3\n4\n5\n6\n7"]);
    assert_eq!(files(dir.path()), ["1\n2\n", "3\n4\n", "5\n6\n", "7"]);
    // The line gets an end, and the files beyond the new number are removed.
    write(&few, &[b"8\n"]);
    assert_eq!(files(dir.path()), ["5\n6\n", "7\n8\n"]);
}

#[test]
fn stamps_are_written_once_for_each_line() {
    let dir = tempfile::tempdir().unwrap();
    let stamped = LogSettings {
        timestamps: Timestamps::Written,
        ..settings(dir.path(), DEFAULT_SIZE, DEFAULT_KEEP)
    };
    write(&stamped, &[b"on", b"e\ntwo", b"\n", b"three"]);
    write(&stamped, &[b"four\n"]);
    let text = files(dir.path()).concat();
    let lines: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap()).collect();
    let words: Vec<_> = lines.iter().map(|(_, word)| *word).collect();
    assert_eq!(words, ["one", "two", "three", "four"]);
    for (stamp, _) in &lines {
        assert_eq!(stamp.len(), files::time::TIMESTAMP_MICROS_LENGTH, "{stamp}");
        assert!(stamp.starts_with("20") && stamp.ends_with('Z'), "{stamp}");
    }
    assert!(lines.is_sorted());
}

/// A reader that opens the current file by its name, and goes on after each rotation.
#[test]
fn a_reader_that_follows_the_name_loses_nothing() {
    use std::io::Read;
    let dir = tempfile::tempdir().unwrap();
    let [mut output, _error] = settings(dir.path(), 8, 1).open().unwrap().into_targets();
    let path = dir.path().join("stdout.log");
    let mut text = String::new();
    let mut open = File::open(&path).unwrap();
    for number in 0..100 {
        output.write(format!("{number}\n").as_bytes()).unwrap();
        open.read_to_string(&mut text).unwrap();
        // As the name may lead to a new file, the old one has all of its bytes.
        open = match File::open(&path).unwrap() {
            new if is_same(&new, &open) => open,
            mut new => {
                new.read_to_string(&mut text).unwrap();
                new
            }
        };
    }
    let expected: String = (0..100).map(|number| number.to_string() + "\n").collect();
    assert_eq!(text, expected);
}

fn is_same(a: &File, b: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    a.metadata().unwrap().ino() == b.metadata().unwrap().ino()
}

#[test]
fn only_the_user_reads_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made/logs");
    let log = LogSettings::new(path.clone()).open().unwrap();
    assert_eq!(log.path(), path.canonicalize().unwrap());
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&path), 0o700);
    for name in ["stdout.log", "stderr.log"] {
        assert_eq!(mode(&path.join(name)), 0o600, "{name}");
    }
}

#[test]
fn one_machine_writes_to_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let settings = LogSettings::new(dir.path().into());
    assert!(!is_written(dir.path()));
    let first = settings.open().unwrap();
    assert!(is_written(dir.path()));
    let error = settings.open().unwrap_err().to_string();
    assert!(error.ends_with("another machine writes to it; give each machine one of its own"));
    // The lock lasts until both streams have ended.
    let [output, error] = first.into_targets();
    drop(output);
    assert!(is_written(dir.path()) && settings.open().is_err());
    drop(error);
    assert!(!is_written(dir.path()));
    drop(settings.open().unwrap());
    // A reader that looks at the lock does not keep a machine from starting.
    let reader = Flock::lock(open_dir(dir.path()).unwrap(), FlockArg::LockShared).unwrap();
    let opening = std::thread::spawn(move || settings.open().map(drop));
    drop(reader);
    opening.join().unwrap().unwrap();
    assert!(!is_written(&dir.path().join("missing")));
}

#[test]
fn only_regular_files_are_opened() {
    for (name, place, expected) in [
        ("a link", (|path| symlink("elsewhere", path).unwrap()) as fn(&Path), "remove it"),
        ("a directory", |path| fs::create_dir(path).unwrap(), "it is no regular file; remove it"),
        ("a FIFO", |path| mkfifo(path, Mode::S_IRWXU).unwrap(), "it is no regular file; remove it"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        place(&dir.path().join("stderr.log"));
        let error = LogSettings::new(dir.path().into()).open().unwrap_err().to_string();
        let start = format!("open log file {}/stderr.log: ", dir.path().display());
        assert!(error.starts_with(&start) && error.ends_with(expected), "{name}: {error}");
        assert!(!dir.path().join("elsewhere").exists(), "{name}");
        assert!(!is_written(dir.path()), "{name}");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = format!("{:#}", LogSettings::new(path.clone()).open().unwrap_err());
        let start = format!("make log directory {}: ", path.display());
        assert!(error.starts_with(&start), "{error}");
    }
}
