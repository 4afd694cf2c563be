//! Logical line → instruction, by a table of keywords.

mod copy;
mod health;
mod run;
mod simple;

use super::flags::{Flag, Flags, Takes};
use super::lines::Line;
use super::model::Kind;
use crate::table::{list, nearest, quote};

/// Parts of an instruction whose flags have been read.
pub(super) struct Parts<'l> {
    /// Keyword in upper case.
    pub(super) keyword: &'static str,
    /// Flags.
    pub(super) flags: Flags,
    /// Text behind the flags, without blanks around it.
    pub(super) rest: &'l str,
    /// The line.
    pub(super) line: &'l Line,
    /// Character that escapes another one.
    pub(super) escape: char,
}

/// Known instruction.
struct Keyword {
    name: &'static str,
    flags: &'static [Flag],
    form: Form,
}

/// What becomes of an instruction.
#[derive(Clone, Copy)]
enum Form {
    /// FROM begins a stage.
    From,
    /// Part of a stage.
    Part(fn(&Parts<'_>) -> Result<Kind, String>),
    /// Refused; this is why, and what to do.
    Refused(&'static str),
}

/// FROM, or another instruction.
pub(super) enum Read<'l> {
    /// FROM.
    From(Parts<'l>),
    /// Another one.
    Part(Kind),
}

/// Flags of instructions that have none.
const NO_FLAGS: &[Flag] = &[];

/// Flags of FROM.
const FROM_FLAGS: &[Flag] = &[Flag { name: "platform", takes: Takes::Value }];

/// All instructions (Dockerfile reference).
#[rustfmt::skip]
const KEYWORDS: &[Keyword] = &[
    Keyword { name: "ADD",         flags: copy::ADD_FLAGS,  form: Form::Part(copy::copy) },
    Keyword { name: "ARG",         flags: NO_FLAGS,         form: Form::Part(simple::arg) },
    Keyword { name: "CMD",         flags: NO_FLAGS,         form: Form::Part(simple::cmd) },
    Keyword { name: "COPY",        flags: copy::COPY_FLAGS, form: Form::Part(copy::copy) },
    Keyword { name: "ENTRYPOINT",  flags: NO_FLAGS,         form: Form::Part(simple::entrypoint) },
    Keyword { name: "ENV",         flags: NO_FLAGS,         form: Form::Part(simple::env) },
    Keyword { name: "EXPOSE",      flags: NO_FLAGS,         form: Form::Part(simple::expose) },
    Keyword { name: "FROM",        flags: FROM_FLAGS,       form: Form::From },
    Keyword { name: "HEALTHCHECK", flags: health::FLAGS,    form: Form::Part(health::health) },
    Keyword { name: "LABEL",       flags: NO_FLAGS,         form: Form::Part(simple::label) },
    Keyword { name: "MAINTAINER",  flags: NO_FLAGS,         form: Form::Part(simple::maintainer) },
    Keyword { name: "ONBUILD",     flags: NO_FLAGS,         form: Form::Refused("move its instruction into the Containerfile that has this image as its base") },
    Keyword { name: "RUN",         flags: run::FLAGS,       form: Form::Part(run::run) },
    Keyword { name: "SHELL",       flags: NO_FLAGS,         form: Form::Part(simple::shell) },
    Keyword { name: "STOPSIGNAL",  flags: NO_FLAGS,         form: Form::Part(simple::stop_signal) },
    Keyword { name: "USER",        flags: NO_FLAGS,         form: Form::Part(simple::user) },
    Keyword { name: "VOLUME",      flags: NO_FLAGS,         form: Form::Part(simple::volume) },
    Keyword { name: "WORKDIR",     flags: NO_FLAGS,         form: Form::Part(simple::workdir) },
];

/// Reads `line`.
///
/// # Errors
/// The keyword is unknown or refused, a flag is wrong, or the rest does not have the form of its
/// instruction.
pub(super) fn read(line: &Line, escape: char) -> Result<Read<'_>, String> {
    let name = line.split.keyword.to_ascii_uppercase();
    let found = KEYWORDS.iter().find(|keyword| keyword.name == name);
    let found = found.ok_or_else(|| unknown(&line.split.keyword, &name))?;
    let keyword = found.name;
    if let Form::Refused(hint) = found.form {
        return Err(format!("{keyword} is not supported: {hint}"));
    }
    let flags = Flags::read(keyword, found.flags, &line.split.flags)?;
    let parts = Parts { keyword, flags, rest: &line.split.rest, line, escape };
    match found.form {
        Form::Part(read) => read(&parts).map(Read::Part),
        _ => Ok(Read::From(parts)),
    }
}

/// Message about a keyword that the table does not have.
fn unknown(written: &str, name: &str) -> String {
    let names = || KEYWORDS.iter().map(|keyword| keyword.name);
    let shown = quote(written);
    match nearest(name, names()) {
        Some(near) => format!("unknown instruction {shown}: did you mean {near}?"),
        None => format!("unknown instruction {shown}: there are {}", list(names(), "and")),
    }
}

impl Parts<'_> {
    /// The rest, which must not be empty; `example` is how to write it.
    fn needed(&self, example: &str) -> Result<&str, String> {
        if self.rest.is_empty() {
            return Err(format!("{} has no argument: write {example}", self.keyword));
        }
        Ok(self.rest)
    }
}
