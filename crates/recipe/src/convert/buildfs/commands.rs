//! `[[commands]]` of buildfs → command steps.

use std::path::PathBuf;

use crate::convert::paths::{self, Absolute};
use crate::convert::script::{self, Inline};
use crate::convert::source::{Table, Value};
use crate::convert::step;
use crate::model::{Action, CommandStep, Contents, Mistake, Mode, Program, PutStep, Scope, Step};

/// Keys of which a command has exactly one.
const VERBS: &[&str] = &["command", "script_inline", "script_path"];

/// Directory of inline scripts that only a file can hold, in the machine of the build.
const SCRIPTS: &str = "/run/buildfs";

/// Converts the list.
///
/// # Errors
/// A value has the wrong form.
pub(super) fn convert(commands: Option<Value<'_>>) -> Result<Vec<Step>, Mistake> {
    let Some(commands) = commands else { return Ok(Vec::new()) };
    let list = commands.list()?;
    if !list.is_empty() {
        commands.note(
            "a command that ends with another status than 0 ends the build; buildfs goes on. \
             Inside of a script, a line that fails ends it only after `set -e`",
        );
    }
    let mut steps = Vec::new();
    for command in &list {
        steps.extend(one(command)?);
    }
    Ok(steps)
}

/// The steps of one command.
fn one(command: &Value<'_>) -> Result<Vec<Step>, Mistake> {
    let mut table = command.table()?;
    let position = table.position();
    let verbs = VERBS.iter().filter_map(|name| Some((*name, table.take(name)?)));
    let verbs: Vec<_> = verbs.collect();
    let [(name, verb)] = &verbs[..] else {
        return Err(command.mistake(&format!("must have exactly one of {}", VERBS.join(", "))));
    };
    let mut steps = Vec::new();
    let program = match *name {
        "command" => words(verb)?,
        "script_path" => {
            let path = paths::package(verb, verb.text()?, Absolute::Package)?;
            Program::Script(PathBuf::from(path))
        }
        _ => match script::inline(verb.text()?) {
            Inline::Program(program) => program,
            Inline::File => {
                let to = format!("{SCRIPTS}/line-{}", position.line);
                let put = PutStep {
                    contents: Contents::Text(script::file_text(verb.text()?)),
                    to: to.clone(),
                    owner: None,
                    mode: Mode::Fixed(0o755),
                    scope: Scope::Build,
                };
                steps.push(step(position, Action::Put(put)));
                Program::Words(vec![to])
            }
        },
    };
    let user = user(&mut table)?;
    let workdir = table.take("working_dir").as_ref().map(paths::guest_directory).transpose()?;
    if let Some(privileged) = table.take("privileged")
        && privileged.flag()?
    {
        privileged.note("root of a step has all privileges in a machine of its own");
    }
    let env = table.take_variables("env")?;
    table.finish();
    let command = CommandStep { user, workdir, env, ..CommandStep::new(program) };
    steps.push(step(position, Action::Command(command)));
    Ok(steps)
}

/// Words of a command: buildfs splits it at white space, and knows no quotes.
fn words(verb: &Value<'_>) -> Result<Program, Mistake> {
    let text = verb.text()?;
    let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
    if words.is_empty() {
        return Err(verb.mistake("must name a program"));
    }
    if text.contains(['\'', '"', '$', '|', '>', ';', '&']) {
        verb.note("split at white space, as buildfs does; `run` in place of `argv` is a shell");
    }
    Ok(Program::Words(words))
}

/// User and group of a command.
fn user(table: &mut Table<'_>) -> Result<Option<String>, Mistake> {
    let number = |value: &Value<'_>| value.number(0..=u32::MAX);
    let uid = table.take("uid").as_ref().map(number).transpose()?;
    let Some(gid) = table.take("gid") else { return Ok(uid.map(|uid| uid.to_string())) };
    let group = number(&gid)?;
    if uid.is_none() {
        gid.note("without uid the user is root; buildfs leaves the group out");
    }
    Ok(Some(format!("{}:{group}", uid.unwrap_or(0))))
}
