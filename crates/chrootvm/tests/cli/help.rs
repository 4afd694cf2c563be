//! `-h` and `--help` of all commands: their size, their examples, and the names in them.

use std::collections::BTreeSet;
use std::process::Command;

use chrootvm::line::help::SCREEN;

const CHROOTVM: &str = env!("CARGO_BIN_EXE_chrootvm");
const MKVIRTINITRD: &str = env!("CARGO_BIN_EXE_mkvirtinitrd");

/// Every command: a program and the subcommand's words.
#[rustfmt::skip]
const COMMANDS: &[(&str, &[&str])] = &[
    (CHROOTVM, &[]),
    (CHROOTVM, &["cache"]),
    (CHROOTVM, &["cache", "dir"]),
    (CHROOTVM, &["cache", "ls"]),
    (CHROOTVM, &["cache", "prune"]),
    (CHROOTVM, &["cache", "verify"]),
    (CHROOTVM, &["completions"]),
    (CHROOTVM, &["run"]),
    (CHROOTVM, &["exec"]),
    (CHROOTVM, &["ps"]),
    (CHROOTVM, &["restart"]),
    (CHROOTVM, &["logs"]),
    (CHROOTVM, &["stop"]),
    (CHROOTVM, &["image"]),
    (CHROOTVM, &["image", "build"]),
    (CHROOTVM, &["image", "cat"]),
    (CHROOTVM, &["image", "check"]),
    (CHROOTVM, &["image", "convert"]),
    (CHROOTVM, &["image", "diff"]),
    (CHROOTVM, &["image", "inspect"]),
    (CHROOTVM, &["image", "layers"]),
    (CHROOTVM, &["image", "ls"]),
    (CHROOTVM, &["image", "pack"]),
    (CHROOTVM, &["image", "unpack"]),
    (CHROOTVM, &["image", "verify"]),
    (CHROOTVM, &["kernel"]),
    (CHROOTVM, &["kernel", "build"]),
    (CHROOTVM, &["kernel", "ls"]),
    (MKVIRTINITRD, &[]),
];

fn help(program: &str, words: &[&str], option: &str) -> String {
    let output = Command::new(program).args(words).arg(option).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Options in a text, without their values.
fn options(text: &str) -> BTreeSet<&str> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
    let words = text.split(ends).filter(|word| word.len() > 2 && word.starts_with("--"));
    words.collect()
}

#[test]
fn short_help_is_one_screen_with_examples() {
    let (lines, columns) = SCREEN;
    for (program, words) in COMMANDS {
        let text = help(program, words, "-h");
        assert!(text.lines().count() <= lines, "{words:?}:\n{text}");
        assert!(text.lines().all(|line| line.chars().count() <= columns), "{words:?}:\n{text}");
        let name = program.rsplit('/').next().unwrap();
        let command = [&[name], *words].concat().join(" ");
        let examples = text.split_once("\nExamples:\n").map(|(_, rest)| rest);
        let example = examples.unwrap_or_else(|| panic!("{words:?}:\n{text}"));
        assert!(example.starts_with(&format!("  {command}")), "{command}:\n{text}");
        assert!(text.contains(&format!("\nUsage: {command}")), "{command}:\n{text}");
    }
}

#[test]
fn long_help_fits_and_has_all_options_of_the_short_one() {
    let of_chrootvm = help(CHROOTVM, &[], "--help");
    for (program, words) in COMMANDS {
        let text = help(program, words, "--help");
        let wide = text.lines().find(|line| line.chars().count() > SCREEN.1);
        assert_eq!(wide, None, "{words:?}");
        let declared: BTreeSet<&str> = text
            .lines()
            .filter(|line| line.trim_start().starts_with('-'))
            .flat_map(options)
            .chain(options(&of_chrootvm))
            .collect();
        let short = help(program, words, "-h");
        for option in options(&short) {
            assert!(declared.contains(option), "{words:?}: {option}");
        }
    }
}

/// Words that a reader needs in order to use what the option list names.
#[test]
fn long_help_explains() {
    let text = help(CHROOTVM, &[], "--help");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "Directory or image that becomes the root",
        "HOST:GUEST:rw is the same as HOST:GUEST",
        "the workload that /etc/virtinit/run in ROOTFS configures",
        "localhost with COMMAND and (none) with INIT",
        "125 chrootvm or the machine failed",
    ] {
        assert!(text.contains(part), "{part}");
    }
}
