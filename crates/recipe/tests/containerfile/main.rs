//! Containerfiles: what is read, what is refused where, and what their instructions do.

mod bad;
mod checks;
mod commands;
mod config;
mod copies;
mod mounts;
mod properties;
mod stages;
mod variables;

use std::collections::BTreeMap;

use virtinitrd_recipe::Mistake;
use virtinitrd_recipe::containerfile::{
    Action, Arguments, Config, Copy, Evaluated, FromBase, Mount, Run, parse,
};

/// Arguments that all tests give.
fn arguments() -> Arguments {
    let given = [("GIVEN", "given"), ("EMPTY", ""), ("https_proxy", "http://p:1")];
    let given: BTreeMap<_, _> =
        given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Arguments {
        given,
        build_platform: "linux/amd64".to_owned(),
        target_platform: "linux/arm64/v8".to_owned(),
    }
}

/// Config of the base of all tests.
fn base() -> Config {
    let env = [("PATH", "/bin"), ("BASE", "base"), ("PWD", "/home"), ("NULL", "")];
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config { env, cmd: vec!["base-command".to_owned()], ..Config::default() }
}

/// Evaluates all stages of `text`, one base after the other, and returns the last one.
fn evaluate(text: &str) -> Result<Evaluated, Mistake> {
    let file = parse(text)?;
    let arguments = arguments();
    let mut done: Vec<Evaluated> = Vec::new();
    for (index, from) in file.froms(&arguments)?.iter().enumerate() {
        let config = match from.base {
            FromBase::Stage(stage) => done[stage].config.clone(),
            FromBase::Image(_) => base(),
            FromBase::Scratch => Config::scratch(),
        };
        done.push(file.evaluate(index, &config, &arguments)?);
    }
    Ok(done.pop().expect("a file has a stage"))
}

/// Like [`evaluate`], for instructions on a base.
fn on_base(instructions: &str) -> Evaluated {
    let text = format!("FROM base\n{instructions}\n");
    evaluate(&text).unwrap_or_else(|mistake| panic!("{mistake} in\n{text}"))
}

/// The commands of `instructions`.
fn runs(instructions: &str) -> Vec<Run> {
    let actions = on_base(instructions).instructions.into_iter().map(|done| done.action);
    let run = |action| match action {
        Action::Run(run) => Some(run),
        _ => None,
    };
    actions.filter_map(run).collect()
}

/// The last command of `instructions`.
fn run(instructions: &str) -> Run {
    runs(instructions).pop().unwrap_or_else(|| panic!("no RUN in {instructions}"))
}

/// The last COPY or ADD of `instructions`.
fn copy(instructions: &str) -> Copy {
    let actions = on_base(instructions).instructions.into_iter().map(|done| done.action);
    let copy = |action| match action {
        Action::Copy(copy) => Some(copy),
        _ => None,
    };
    actions.filter_map(copy).next_back().unwrap_or_else(|| panic!("no COPY in {instructions}"))
}

/// The mounts of the last command of `instructions`.
fn mounts(instructions: &str) -> Vec<Mount> {
    run(instructions).mounts
}

/// Value of a variable of the image behind `instructions`.
fn variable(instructions: &str, name: &str) -> Option<String> {
    let env = on_base(instructions).config.env;
    env.into_iter().find(|(found, _)| found == name).map(|(_, value)| value)
}
