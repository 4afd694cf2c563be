//! `chrootvm logs` with a directory. The tests write to it as the chrootvm of a machine does.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use machine::session::log_files::{LogSettings, Timestamps};

/// Deadline of a wait for something that takes a moment.
const DEADLINE: Duration = Duration::from_secs(60);

/// `chrootvm logs WORDS DIR`.
fn command(words: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chrootvm"));
    command.arg("logs").args(words).arg(dir).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs `chrootvm logs WORDS DIR`, and returns its status and both streams.
fn logs(words: &[&str], dir: &Path) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command(words, dir).output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (status.code(), stdout, stderr)
}

/// Waits until `process` has ended, and returns its status. Kills it, and fails, if it does not end
/// in time.
fn end(process: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            process.kill().unwrap();
            panic!("process {} has not ended within {DEADLINE:?}", process.id());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn files_are_printed_from_the_oldest_to_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("stdout.log.10", "1\n"),
        ("stdout.log.2", "2\n"),
        ("stdout.log", "3\n4"),
        ("stderr.log.1", "5\n"),
        ("stderr.log", "6\n"),
        ("stdout.log.old", "not ours\n"),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    for (words, stdout, stderr) in [
        (&[][..], "1\n2\n3\n4", "5\n6\n"),
        (&["--tail", "2"], "3\n4", "5\n6\n"),
        (&["--tail=0"], "", ""),
        (&["--stream=stdout", "--tail=3"], "2\n3\n4", ""),
        (&["--stream", "stderr"], "", "5\n6\n"),
        // No machine writes to the directory.
        (&["-f"], "1\n2\n3\n4", "5\n6\n"),
    ] {
        let expected = (Some(0), stdout.to_owned(), stderr.to_owned());
        assert_eq!(logs(words, dir.path()), expected, "{words:?}");
    }
}

#[test]
fn missing_files_and_bad_words_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    for (words, name, part) in [
        (&[][..], "", "no log files in "),
        (&[], "missing", "`chrootvm --logs DIR` makes them"),
        (&["--stream=console"], "", "invalid value 'console'"),
        (&["--tail=-1"], "", "invalid value '-1'"),
    ] {
        let (status, stdout, stderr) = logs(words, &dir.path().join(name));
        assert_eq!((status, &*stdout), (Some(125), ""), "{words:?}: {stderr}");
        assert!(stderr.contains(part), "{words:?}: {stderr}");
    }
    for (word, part) in [
        ("no-such-machine", "of yours runs; `chrootvm ps` lists them"),
        ("..", "a directory has a /, as in ./DIR"),
    ] {
        let (status, _, stderr) = logs(&[], Path::new(word));
        assert_eq!(status, Some(125), "{word}");
        assert!(stderr.contains(part), "{word}: {stderr}");
    }
}

#[test]
fn a_follower_gets_all_lines_and_ends_with_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let settings = LogSettings { size: 8 << 10, keep: 100, ..LogSettings::new(dir.path().into()) };
    let [mut output, mut error] = settings.open().unwrap().into_targets();
    output.write(b"0\n").unwrap();
    let mut follower = command(&["--follow"], dir.path()).spawn().unwrap();
    let mut stdout = BufReader::new(follower.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "0\n");
    let lines: String = (1..100_000).map(|number| number.to_string() + "\n").collect();
    for chunk in lines.as_bytes().chunks(1000) {
        output.write(chunk).unwrap();
    }
    error.write(b"last words").unwrap();
    drop((output, error));
    // A reader that is late gets everything, too.
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    assert!(text == lines, "{} bytes of {}", text.len(), lines.len());
    assert_eq!(end(&mut follower), Some(0));
    let mut stderr = String::new();
    follower.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "last words");
}

/// A follower without a reader ends, even if nothing is written any more.
#[test]
fn a_follower_ends_with_its_reader() {
    let dir = tempfile::tempdir().unwrap();
    let files = LogSettings::new(dir.path().into()).open().unwrap();
    let mut follower = command(&["-f"], dir.path()).spawn().unwrap();
    assert_eq!(follower.try_wait().unwrap(), None);
    drop(follower.stdout.take());
    assert_eq!(end(&mut follower), Some(0));
    drop(files);
}

#[test]
fn lines_with_time_stamps_are_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        LogSettings { timestamps: Timestamps::Written, ..LogSettings::new(dir.path().into()) };
    let [mut output, mut error] = settings.open().unwrap().into_targets();
    for _ in 0..3 {
        output.write(b"out\n").unwrap();
        error.write(b"err\n").unwrap();
    }
    drop((output, error));
    let mut both = Command::new("sh");
    both.args(["-c", "exec \"$0\" logs \"$1\" 2>&1", env!("CARGO_BIN_EXE_chrootvm")]);
    let text = String::from_utf8(both.arg(dir.path()).output().unwrap().stdout).unwrap();
    let words: Vec<_> = text.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    // Times of two lines may be the same microsecond; then standard output comes first.
    assert_eq!(words.len(), 6, "{text}");
    assert!(text.lines().map(|line| &line[..27]).is_sorted(), "{text}");
}
