//! Words of chrootvm's command line: which ones it takes, and what it says to the others.

use std::process::{Command, Output};

/// Runs `chrootvm WORDS`.
fn chrootvm(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chrootvm")).args(words).output().unwrap()
}

/// Asserts that `output` has this status, and that both streams together contain `part`.
fn assert_says(output: &Output, status: i32, part: &str, case: &dyn std::fmt::Debug) {
    let streams = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert_eq!(output.status.code(), Some(status), "{case:?}: {streams:?}");
    assert!(streams.concat().contains(part), "{case:?}: no {part:?} in {streams:?}");
}

#[test]
fn help_is_a_subcommand() {
    for (words, status, part) in [
        (&["help"][..], 0, "Usage: chrootvm [OPTIONS] ROOTFS"),
        (&["help", "help"], 0, "Usage: chrootvm [OPTIONS] ROOTFS"),
        (&["help", "-h"], 0, "Usage: chrootvm [OPTIONS] ROOTFS"),
        (&["help", "exec"], 0, "Usage: chrootvm exec"),
        (&["help", "image", "build"], 0, "Usage: chrootvm image build"),
        (&["help", "no-such"], 125, "no subcommand no-such: `chrootvm --help` lists them"),
    ] {
        assert_says(&chrootvm(words), status, part, &words);
    }
}
