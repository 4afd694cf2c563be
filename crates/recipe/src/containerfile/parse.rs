//! Text → [`Containerfile`].

use super::form::{Command, RunCommand};
use super::instruction::{self, Parts, Read};
use super::lines::{self, Line};
use super::model::{Containerfile, Instruction, Kind, Stage};
use super::text::with_documents;
use crate::table::quote;
use crate::{Mistake, Position};

/// Most stages of a Containerfile. Each has a config, and a share of the memory for values.
const STAGES_MAX: usize = 200;

/// Parses a Containerfile.
///
/// # Errors
/// The text is longer than 1 MiB or has more than 1000 instructions or 200 stages, an instruction does not
/// have the form of the Dockerfile reference, or is one that is not supported. The mistake names
/// it, with its line.
pub fn parse(text: &str) -> Result<Containerfile, Mistake> {
    let read = lines::read(text)?;
    let mut file = Containerfile {
        notes: read.notes,
        stages: Vec::new(),
        globals: Vec::new(),
        escape: read.escape,
    };
    for line in &read.instructions {
        let found =
            instruction::read(line, file.escape).and_then(|found| add(&mut file, line, found));
        found.map_err(|message| Mistake { position: line.position, message })?;
    }
    if file.stages.is_empty() {
        let message = "the file has no stage: add FROM IMAGE".to_owned();
        return Err(Mistake { position: Position::default(), message });
    }
    file.notes.sort_by_key(|note| note.position);
    Ok(file)
}

/// Adds the instruction of `line` to `file`.
fn add(file: &mut Containerfile, line: &Line, read: Read<'_>) -> Result<(), String> {
    let kind = match read {
        Read::From(parts) => {
            let stage = stage(&parts)?;
            if file.stages.len() == STAGES_MAX {
                return Err(format!("more than {STAGES_MAX} stages: split the file"));
            }
            if let Some(name) = &stage.name {
                note_name(file, name, line.position);
            }
            file.stages.push(stage);
            return Ok(());
        }
        Read::Part(kind) => kind,
    };
    if let Some(note) = note(&kind) {
        file.notes.push(Mistake { position: line.position, message: note.to_owned() });
    }
    match (file.stages.last_mut(), kind) {
        (Some(stage), kind) => {
            let text = with_documents(&line.text, &line.documents);
            stage.instructions.push(Instruction { position: line.position, text, kind });
            Ok(())
        }
        (None, Kind::Arg(arguments)) => {
            file.globals.extend(arguments.into_iter().map(|argument| (line.position, argument)));
            Ok(())
        }
        (None, _) => {
            let keyword = line.split.keyword.to_ascii_uppercase();
            Err(format!("{keyword} stands before the first FROM: only ARG may stand there"))
        }
    }
}

/// Remark on an instruction.
fn note(kind: &Kind) -> Option<&'static str> {
    /// Starts of texts that no shell would run.
    const JSON_STARTS: &[&str] = &["[\"", "['"];
    let command = match kind {
        Kind::Maintainer(_) => {
            return Some(
                "MAINTAINER is deprecated: write LABEL org.opencontainers.image.authors=NAME",
            );
        }
        Kind::Cmd(command) | Kind::Entrypoint(command) => command,
        Kind::Run(run) => match &run.command {
            RunCommand::Command(command) => command,
            RunCommand::Document(_) => return None,
        },
        _ => return None,
    };
    match command {
        Command::Shell(text) if JSON_STARTS.iter().any(|start| text.starts_with(start)) => {
            Some("this is no JSON, so the shell runs it: put each word into double quotes")
        }
        _ => None,
    }
}

/// Remarks on the name of a new stage.
fn note_name(file: &mut Containerfile, name: &str, position: Position) {
    let message = if file.stage(name).is_some() {
        format!("the name of stage {} is taken: a later stage hides an earlier one", quote(name))
    } else if name == "scratch" {
        "a stage with the name scratch cannot be a base: FROM scratch is the empty tree".to_owned()
    } else {
        return;
    };
    file.notes.push(Mistake { position, message });
}

/// Stage that FROM begins.
fn stage(parts: &Parts<'_>) -> Result<Stage, String> {
    const FORM: &str = "write FROM IMAGE or FROM IMAGE AS NAME";
    let words: Vec<_> = parts.rest.split_whitespace().collect();
    let (base, name) = match &*words {
        [base] => (base, None),
        [base, word, name] if word.eq_ignore_ascii_case("as") => (base, Some(stage_name(name)?)),
        [] => return Err(format!("FROM has no image: {FORM}")),
        _ => return Err(format!("FROM has too many words: {FORM}")),
    };
    Ok(Stage {
        position: parts.line.position,
        text: parts.line.text.clone(),
        name,
        base: (*base).to_owned(),
        platform: parts.flags.value("platform").map(ToOwned::to_owned),
        instructions: Vec::new(),
    })
}

/// Name of a stage in lower case.
fn stage_name(written: &str) -> Result<String, String> {
    let name = written.to_ascii_lowercase();
    let is_valid = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
    if !is_valid {
        let written = quote(written);
        return Err(format!(
            "FROM: {written} cannot name a stage: begin with a letter, and use letters, digits, -, _ and ."
        ));
    }
    Ok(name)
}
