//! `docs/coming-from.md`: each of our words in its table exists.
//!
//! The words of a subcommand are those that its `--help` shows.

use std::collections::BTreeSet;
use std::process::Command;

/// Program of the table.
const PROGRAM: &str = "chrootvm";

/// Fewest words in the table; a test that finds none must fail.
const WORDS_MIN: usize = 60;

/// Code in the last cell of each row, with the row.
fn our_code(document: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for row in document.lines().filter(|line| line.starts_with("| ")) {
        // A bar in a cell is escaped.
        let row = row.replace("\\|", "/");
        let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        found.extend(cell.split('`').skip(1).step_by(2).map(|code| (row.clone(), code.into())));
    }
    found
}

/// Words of a command line before its COMMAND: those of the subcommand, and the options.
fn words(code: &str) -> Option<(Vec<&str>, Vec<&str>)> {
    let words: Vec<&str> = code.split_whitespace().take_while(|word| *word != "--").collect();
    let after = match words.iter().position(|word| *word == PROGRAM) {
        Some(at) => &words[at + 1..],
        // Options alone are those of a run.
        None if code.starts_with('-') => &words[..],
        None => return None,
    };
    let is_name = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase());
    let subcommand: Vec<&str> = after.iter().take_while(is_name).copied().collect();
    let options = after.iter().filter(|word| word.starts_with('-') && word.len() > 1);
    Some((subcommand, options.copied().collect()))
}

fn help(subcommand: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_chrootvm")).args(subcommand).arg("--help").output();
    let output = output.expect("run chrootvm");
    assert!(output.status.success(), "{subcommand:?}: {output:?}");
    String::from_utf8(output.stdout).expect("help is text")
}

#[test]
fn our_words_exist() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/coming-from.md");
    let document = std::fs::read_to_string(path).expect("read docs/coming-from.md");
    let (mut count, mut problems) = (0, Vec::new());
    for (row, code) in our_code(&document) {
        let Some((subcommand, options)) = words(&code) else { continue };
        let text = help(&subcommand);
        let usage = [&[PROGRAM], &subcommand[..]].concat().join(" ");
        if !text.contains(&format!("Usage: {usage}")) {
            problems.push(format!("`{usage}` is no subcommand: {row}"));
        }
        let entries = text.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        let ends = |c: char| !c.is_ascii_alphanumeric() && c != '-';
        let known: BTreeSet<&str> = entries.flat_map(|line| line.split(ends)).collect();
        let unknown =
            options.iter().filter(|option| !known.contains(option.split('=').next().unwrap()));
        problems.extend(unknown.map(|option| format!("{usage} has no {option}: {row}")));
        count += 1 + options.len();
    }
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(count >= WORDS_MIN, "only {count} words were found");
}
