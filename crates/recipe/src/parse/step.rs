//! One `[[step]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::build::{sha256, unique};
use crate::model::{
    Action, CommandStep, Contents, DirectoryStep, LinkStep, Mode, Network, Program, PutStep, Scope,
    Secret, Step,
};
use crate::table::{Fault, Fields, Item, Lines, nearest, quote};
use crate::values::{parse_duration, parse_mode};

/// Secrets of the build.
type Secrets = BTreeMap<String, Secret>;

/// A step. It may name the `secrets`.
pub(super) fn step(fields: &Fields, secrets: &Secrets, lines: &Lines<'_>) -> Result<Step, Fault> {
    let verb = fields.verb();
    let text = fields.text(verb).unwrap_or_default();
    let action = match verb {
        "run" => command(fields, Program::Shell(text), secrets)?,
        "argv" => command(fields, Program::Words(fields.texts(verb)), secrets)?,
        "script" => command(fields, Program::Script(text.into()), secrets)?,
        "put" => put(fields, Contents::Files(text), fields.text("to").unwrap_or_default())?,
        "text" => put(fields, Contents::Text(text), to_file(fields)?)?,
        "url" => {
            put(fields, Contents::Url { url: text, sha256: sha256(fields) }, to_file(fields)?)?
        }
        "link" => {
            let (to, owner) = (to_file(fields)?, fields.text("owner"));
            Action::Link(LinkStep { target: text, to, owner })
        }
        "mkdir" => {
            let mode = match mode(fields)? {
                Mode::Auto => DirectoryStep::MODE,
                Mode::Fixed(bits) => bits,
            };
            Action::Directory(DirectoryStep { path: text, owner: fields.text("owner"), mode })
        }
        _ => Action::Remove(fields.texts(verb)),
    };
    Ok(Step { position: lines.position(fields.at()), label: fields.text("label"), action })
}

fn command(fields: &Fields, program: Program, secrets: &Secrets) -> Result<Action, Fault> {
    check_secrets(fields, secrets)?;
    Ok(Action::Command(CommandStep {
        program,
        network: fields.named("network", Network::ALL),
        user: fields.text("user"),
        workdir: fields.text("workdir"),
        env: fields.map("env"),
        secrets: fields.texts("secrets"),
        inputs: inputs(fields)?,
        timeout: fields.parsed("timeout", parse_duration)?,
    }))
}

/// Fails if a step names a secret that the build does not have.
fn check_secrets(fields: &Fields, known: &Secrets) -> Result<(), Fault> {
    unique(fields, "secrets")?;
    let unknown = fields.items("secrets").iter().find(|item| !known.contains_key(&item.text));
    unknown.map_or(Ok(()), |item| {
        let name = &item.text;
        let hint = match nearest(name, known.keys().map(String::as_str)) {
            Some(known) => format!("did you mean {known}?"),
            None => format!("write secrets.{name} = {{ env = \"VARIABLE\" }} there"),
        };
        Err(Fault::new(item.at, format!("[build] has no secret {}: {hint}", quote(name))))
    })
}

/// The inputs. Each has a name of its own.
fn inputs(fields: &Fields) -> Result<Vec<PathBuf>, Fault> {
    let mut names = BTreeSet::new();
    let input = |item: &Item| {
        let path = PathBuf::from(&item.text);
        let shown = quote(&item.text);
        let fail = |message: String| Fault::new(item.at, format!("inputs: {message}"));
        let name = path.file_name().ok_or_else(|| {
            fail(format!("{shown} has no name to be seen by: name a file or a directory"))
        })?;
        match names.insert(name.to_owned()) {
            true => Ok(path),
            false => Err(fail(format!(
                "{shown} has the last name of another input: both would be {}",
                quote(&format!("/run/inputs/{}", name.display()))
            ))),
        }
    };
    fields.items("inputs").iter().map(input).collect()
}

fn put(fields: &Fields, contents: Contents, to: String) -> Result<Action, Fault> {
    let scope = match fields.truth("mount") {
        Some(true) => Scope::Build,
        _ => Scope::Image,
    };
    let (owner, mode) = (fields.text("owner"), mode(fields)?);
    Ok(Action::Put(PutStep { contents, to, owner, mode, scope }))
}

/// The key `to` where it names one file.
fn to_file(fields: &Fields) -> Result<String, Fault> {
    let to = fields.text("to").unwrap_or_default();
    match to.ends_with('/') {
        true => Err(Fault::new(
            fields.at_value("to"),
            format!("to: {} names a directory: add the name of the file", quote(&to)),
        )),
        false => Ok(to),
    }
}

fn mode(fields: &Fields) -> Result<Mode, Fault> {
    Ok(fields.parsed("mode", parse_mode)?.unwrap_or_default())
}
