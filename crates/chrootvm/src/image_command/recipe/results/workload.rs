//! The workload of a recipe: its `[run]` above the config of an OCI image.

use std::ffi::{OsStr, OsString};

use anyhow::Result;
use image::tree::Tree;
use oci::document::config::{Healthcheck, Process};
use proto::settings::health::Unhealthy;
use recipe::{Health, Run, RunCommand};

use super::super::super::write::workload::{Given, add_run_file};
use crate::image_config::{self, HEALTH_SHELL, HEALTH_WORDS, SYSTEMS, nanoseconds};

/// The command and its surroundings, as the config of an image has them.
pub(in crate::image_command::recipe) fn process(base: Option<&Process>, run: &Run) -> Process {
    let mut process = base.cloned().unwrap_or_default();
    if !run.command.is_empty() {
        process.entrypoint.clone_from(&run.command);
        process.cmd.clone_from(&run.args);
    } else if !run.args.is_empty() {
        process.cmd.clone_from(&run.args);
    }
    for (name, value) in &run.env {
        let pair = format!("{name}={value}");
        let is_same = |known: &String| known.split('=').next() == Some(name);
        match process.env.iter().position(is_same) {
            Some(at) => process.env[at] = pair,
            None => process.env.push(pair),
        }
    }
    if let Some(user) = &run.user {
        process.user.clone_from(user);
    }
    if let Some(dir) = &run.workdir {
        process.working_dir.clone_from(dir);
    }
    if run.stop_signal.is_some() {
        process.stop_signal.clone_from(&run.stop_signal);
    }
    for (all, more) in
        [(&mut process.volumes, &run.volumes), (&mut process.exposed_ports, &run.expose)]
    {
        let new: Vec<_> = more.iter().filter(|one| !all.contains(one)).cloned().collect();
        all.extend(new);
    }
    process.labels.extend(run.labels.clone());
    if let Some(health) = &run.health {
        process.health = Some(check(health));
    }
    process
}

fn check(health: &Health) -> Healthcheck {
    let test = match &health.args {
        RunCommand::Shell(text) => vec![HEALTH_SHELL.to_owned(), text.clone()],
        RunCommand::Words(words) => [&[HEALTH_WORDS.to_owned()][..], words].concat(),
    };
    Healthcheck {
        test,
        interval: nanoseconds(health.interval),
        timeout: nanoseconds(health.timeout),
        start_period: nanoseconds(health.start_period),
        start_interval: nanoseconds(health.start_interval),
        retries: health.retries.unwrap_or(0),
    }
}

/// The words of a command beside the workload.
fn words_of(command: &RunCommand) -> Vec<String> {
    match command {
        RunCommand::Shell(text) => {
            image_config::SHELL.into_iter().chain([text.as_str()]).map(str::to_owned).collect()
        }
        RunCommand::Words(words) => words.clone(),
    }
}

/// The words of the command; empty if there is none, or if the image boots a system itself.
pub(in crate::image_command::recipe) fn words(process: &Process) -> Vec<&OsStr> {
    let words = image_config::words(process, None, &[]);
    match words.as_slice() {
        [program] if SYSTEMS.iter().any(|system| program == system) => Vec::new(),
        _ => words,
    }
}

/// Adds the run file to a tree.
///
/// # Errors
/// The user is missing in the tree; a file is in the place of a directory of the workload.
pub(in crate::image_command::recipe) fn add(
    tree: &mut Tree,
    process: &Process,
    run: &Run,
    time: i64,
) -> Result<()> {
    let words = words(process);
    if words.is_empty() {
        return Ok(());
    }
    // What the recipe says need not be in the image, and is an error then.
    let workdir = run.workdir.as_ref().map(OsString::from);
    let user = run.user.as_ref().map(OsString::from);
    let before: Vec<_> = run.before.iter().map(words_of).collect();
    let given = Given {
        env: &[],
        workdir: workdir.as_deref(),
        user: user.as_deref(),
        before: &before,
        restart: run.restart.unwrap_or_default(),
        stop_timeout: run.stop_timeout,
        unhealthy: run.health.as_ref().map_or(Unhealthy::Report, |health| health.on_failure),
    };
    add_run_file(tree, &words, process, &given, time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_wins_over_the_image() {
        let texts =
            |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let base = Process {
            entrypoint: texts(&["/entry"]),
            cmd: texts(&["a"]),
            env: texts(&["A=1", "B=2"]),
            volumes: texts(&["/data"]),
            user: "app".into(),
            ..Process::default()
        };
        assert_eq!(process(Some(&base), &Run::default()), base);
        let run = Run { args: texts(&["b"]), ..Run::default() };
        assert_eq!(words(&process(Some(&base), &run)), ["/entry", "b"]);
        let run = Run {
            command: texts(&["/new"]),
            env: [("B".to_owned(), "3".to_owned()), ("C".to_owned(), String::new())].into(),
            volumes: texts(&["/data", "/more"]),
            ..Run::default()
        };
        let found = process(Some(&base), &run);
        assert_eq!(words(&found), ["/new"]);
        assert_eq!(found.env, texts(&["A=1", "B=3", "C="]));
        assert_eq!((found.volumes, &*found.user), (texts(&["/data", "/more"]), "app"));
        let system = Process { cmd: texts(&["/sbin/init"]), ..Process::default() };
        assert!(words(&system).is_empty());
    }
}
