//! Scripts that name their interpreter (`#!`, execve(2)) as steps of a recipe.
//!
//! A script of buildfs runs under the interpreter of its first line, and a line that fails does
//! not end it unless the script says so. `run` of a recipe is `sh -eu`, so only some scripts
//! can be that.

use crate::model::Program;

/// Longest script that is one word of a command, in bytes. The kernel takes 128 KiB on most
/// machines (`MAX_ARG_STRLEN`, include/uapi/linux/binfmts.h).
const WORD_MAX: usize = 96 << 10;

/// Interpreters that take a program as a word, and the option for that.
const INTERPRETERS: &[(&str, &str)] = &[
    ("sh", "-c"),
    ("bash", "-c"),
    ("dash", "-c"),
    ("ash", "-c"),
    ("ksh", "-c"),
    ("mksh", "-c"),
    ("zsh", "-c"),
    ("python", "-c"),
    ("python3", "-c"),
    ("perl", "-e"),
    ("ruby", "-e"),
];

/// How a script can be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Inline {
    /// As this program.
    Program(Program),
    /// As a file of the machine of the build.
    File,
}

/// How to run the script `text`.
pub(super) fn inline(text: &str) -> Inline {
    if text.len() > WORD_MAX {
        return Inline::File;
    }
    let Some(line) = text.strip_prefix("#!") else {
        return Inline::Program(Program::Shell(text.to_owned()));
    };
    let (line, rest) = line.split_once('\n').unwrap_or((line, ""));
    let line = line.trim();
    // The kernel gives the interpreter all words as one.
    let (interpreter, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let argument = argument.trim_start();
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let program = match name(interpreter).as_str() {
        "env" => name(argument.trim_start_matches("-S").split_whitespace().next().unwrap_or("")),
        other => other.to_owned(),
    };
    let option = INTERPRETERS.iter().find(|(known, _)| *known == program);
    match option {
        Some(("sh", _)) if argument.is_empty() => {
            Inline::Program(Program::Shell(format!("set +eu\n{rest}")))
        }
        Some((_, option)) => {
            let words = [interpreter, argument, option, text];
            let words = words.iter().filter(|word| !word.is_empty());
            Inline::Program(Program::Words(words.map(|word| (*word).to_owned()).collect()))
        }
        None => Inline::File,
    }
}

/// The text of the file of a script; without an interpreter it gets that of `run`.
pub(super) fn file_text(text: &str) -> String {
    if text.starts_with("#!") { text.to_owned() } else { format!("#!/bin/sh -eu\n{text}") }
}
