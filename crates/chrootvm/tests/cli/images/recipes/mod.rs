//! Recipes whose steps need no machine, and mistakes in recipes.
//!
//! | Module | Content |
//! |---|---|
//! | `files` | files that steps put, link and remove, and the outputs |
//! | `errors` | mistakes: places, statuses, and that nothing is written |
//! | `plan` | `--dry-run`, `--explain`, kept outputs, `image check` |
//! | `lock` | `recipe.lock`, with a registry on loopback |

mod errors;
mod files;
mod lock;
mod plan;

use std::process::{Command, Output};

use crate::images::bench::Bench;

/// Exit status of a build whose recipe is wrong.
const WRONG_RECIPE: i32 = 2;
/// Exit status of a build that fails for another reason than a step or the recipe.
const OTHER: i32 = 125;

/// `MODE UID:GID NAME` of each file of an image, with what follows the name.
fn listing(bench: &Bench, image: &str) -> Vec<String> {
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        format!("{} {}:{} {}", words[0], words[2], words[3], words[5..].join(" "))
    };
    bench.prints(&["ls", image]).lines().map(line).collect()
}

/// `image build recipe.toml WORDS`, after the recipe was written with its version before `text`.
fn build(bench: &Bench, text: &str, words: &[&str]) -> Command {
    bench.write("recipe.toml", format!("version = 1\n{text}"));
    bench.command(&[&["build", "recipe.toml"], words].concat())
}

/// Standard error of a command that must succeed.
fn succeeds(mut command: Command) -> String {
    let output = command.output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{command:?}: {message}");
    message
}

/// The message of a command that must fail with `status`, one error and without output.
fn fails(mut command: Command, status: i32) -> String {
    let Output { status: found, stdout, stderr } = command.output().unwrap();
    let message = String::from_utf8(stderr).unwrap();
    assert_eq!(found.code(), Some(status), "{command:?}: {message}");
    assert!(stdout.is_empty(), "{command:?}");
    let errors = message.lines().filter(|line| line.starts_with("error: "));
    assert_eq!(errors.count(), 1, "{command:?}: {message}");
    message
}
