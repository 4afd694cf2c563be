//! `[export]` of buildfs → `include` of the output, and steps for what is made.
//!
//! What is made is empty in the image, whatever the container has there.

use crate::convert::paths::{self, is_covered};
use crate::convert::source::{Document, Table, Value};
use crate::convert::step;
use crate::model::{
    Action, Contents, DirectoryStep, Mistake, Mode, Position, PutStep, Scope, Step,
};

/// Modes of directories that are not 0755 in every Linux system (hier(7)).
const MODES: &[(&str, u16)] = &[("/tmp", 0o1777), ("/var/tmp", 0o1777), ("/root", 0o700)];

/// What is exported.
#[derive(Debug, Default)]
pub(super) struct Exported {
    /// Guest paths that the output contains; empty for all.
    pub(super) include: Vec<String>,
    /// Steps after the commands.
    pub(super) steps: Vec<Step>,
}

/// Paths of one of the two tables.
#[derive(Debug, Default)]
struct Paths {
    include: Vec<String>,
    create: Vec<(Position, String)>,
}

/// Converts the table.
///
/// # Errors
/// A value has the wrong form.
pub(super) fn convert(
    document: &Document<'_>,
    table: Option<Table<'_>>,
) -> Result<Exported, Mistake> {
    let (mut directories, mut files) = (Paths::default(), Paths::default());
    if let Some(mut table) = table {
        directories = paths_of(table.take_table("directories")?)?;
        files = paths_of(table.take_table("files")?)?;
        table.finish();
    }
    let mut exported = Exported::default();
    include_also(&mut exported.include, directories.include);
    include_also(&mut exported.include, files.include);
    let included = exported.include.clone();
    let created: Vec<_> = directories.create.iter().map(|(_, path)| path.clone()).collect();
    if let Some((position, _)) = directories.create.first() {
        let patterns = emptied(&created, &included);
        let remove = step(*position, Action::Remove(patterns.clone()));
        exported.steps.extend((!patterns.is_empty()).then_some(remove));
    }
    for (position, path) in directories.create {
        let mode = MODES.iter().find(|(known, _)| *known == path);
        let mode = mode.map_or(DirectoryStep::MODE, |(_, mode)| *mode);
        let make = DirectoryStep { path, owner: None, mode };
        exported.steps.push(step(position, Action::Directory(make)));
    }
    include_also(&mut exported.include, created);
    for (position, path) in files.create {
        let (contents, to) = (Contents::Text(String::new()), path.clone());
        let put = PutStep { contents, to, owner: None, mode: Mode::Auto, scope: Scope::Image };
        exported.steps.push(step(position, Action::Put(put)));
        include_also(&mut exported.include, vec![path]);
    }
    if exported.include.is_empty() {
        document.note("export: buildfs exports what it lists; without a list, this is everything");
    }
    Ok(exported)
}

/// Adds paths to a list of paths to include, if the list does not cover them.
pub(super) fn include_also(include: &mut Vec<String>, paths: Vec<String>) {
    for path in paths {
        if !include.iter().any(|above| is_covered(&path, above)) {
            include.push(path);
        }
    }
}

/// Patterns that remove the contents of the directories `created`, except what is `included`.
fn emptied(created: &[String], included: &[String]) -> Vec<String> {
    let mut patterns = Vec::new();
    for path in created {
        // The whole tree is no directory that somebody wants to be empty.
        if path == "/" || included.iter().any(|above| is_covered(path, above)) {
            continue;
        }
        patterns.push(format!("{}/**", escaped(path)));
        for kept in included.iter().filter(|kept| is_covered(kept, path)) {
            patterns.extend([format!("!{}", escaped(kept)), format!("!{}/**", escaped(kept))]);
        }
    }
    patterns
}

/// A path as a pattern that matches only the path (gitignore(5)).
fn escaped(path: &str) -> String {
    let mut pattern = String::new();
    for c in path.chars() {
        if "*?[]\\ ".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

fn paths_of(table: Option<Table<'_>>) -> Result<Paths, Mistake> {
    let Some(mut table) = table else { return Ok(Paths::default()) };
    let (include, create) = (table.take_list("include")?, table.take_list("create")?);
    table.finish();
    let made = |item: &Value<'_>| Ok((item.position(), paths::guest_directory(item)?));
    Ok(Paths {
        include: include.iter().map(paths::guest_directory).collect::<Result<_, _>>()?,
        create: create.iter().map(made).collect::<Result<_, _>>()?,
    })
}
