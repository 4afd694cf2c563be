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

/// Options stand before the command. An unknown one is neither INIT nor a COMMAND.
#[test]
fn words_after_rootfs_are_a_command() {
    for (words, part) in [
        (&["/nonexistent", "uname", "-r"][..], "find /nonexistent"),
        (&["/nonexistent", "ls", "--no-such-option"], "find /nonexistent"),
        (&["/nonexistent", "--quiet", "ls", "--help"], "find /nonexistent"),
        (&["/nonexistent", "-r", "uname"], "unexpected argument '-r'"),
        (&["/nonexistent", "--quit", "ls"], "a similar argument exists: '--quiet'"),
        (&["/nonexistent", "--"], "no COMMAND after --"),
        (&["/nonexistent", "-w", "/tmp", "ls"], "--workdir is for a COMMAND"),
        (&["/nonexistent", "--keep", "ls"], "--keep is for a COMMAND"),
        (&["exec", "no-such-machine", "ls", "--help"], "no machine \"no-such-machine\""),
        (&["exec", "no-such-machine", "ls"], "no machine \"no-such-machine\""),
        (&["exec", "no-such-machine", "--", "ls"], "no machine \"no-such-machine\""),
        (&["exec", "no-such-machine", "--quit", "ls"], "unexpected argument '--quit'"),
        (&["exec", "no-such-machine"], "[--] COMMAND"),
        (&["exec", "no-such-machine", "--"], "[--] COMMAND"),
    ] {
        assert_says(&chrootvm(words), 125, part, &words);
    }
}
