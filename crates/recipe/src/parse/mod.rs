//! Text of a recipe.toml → [`Recipe`].
//!
//! The tables of [`crate::keys`] say what each value looks like; what several values must have
//! in common is checked here.

mod build;
mod step;
mod workload;

use std::path::{Component, Path, PathBuf};

use crate::keys::{RECIPE, VERSION};
use crate::model::{Mistake, Output, Recipe};
use crate::table::{Fault, Fields, Lines, quote, read};
use crate::values::{parse_percent, parse_size};

/// Most steps of a recipe.
const STEPS_MAX: usize = 1000;

/// Parses a recipe.
///
/// # Errors
/// The text is longer than 1 MiB or no TOML, or has a key or a value that a recipe cannot have.
/// The mistake says how to write it.
pub fn parse(text: &str) -> Result<Recipe, Mistake> {
    read(text, &RECIPE, VERSION, recipe)
}

fn recipe(fields: &Fields, lines: &Lines<'_>) -> Result<Recipe, Fault> {
    let build = build::build(fields.table("build"))?;
    let steps = fields.tables("step");
    if let Some(step) = steps.get(STEPS_MAX) {
        return Err(Fault::new(step.at(), format!("a recipe has at most {STEPS_MAX} steps")));
    }
    let steps = steps.iter().map(|step| step::step(step, &build.secrets, lines));
    Ok(Recipe {
        name: fields.text("name"),
        manifest: path(fields, "manifest"),
        from: fields.table("from").map(build::from).unwrap_or_default(),
        steps: steps.collect::<Result<_, _>>()?,
        build,
        init: fields.table("init").map(build::init),
        busybox: fields.table("busybox").map(build::busybox),
        run: fields.table("run").map(workload::run).transpose()?.unwrap_or_default(),
        machine: fields.table("machine").map(workload::machine).transpose()?,
        outputs: outputs(fields)?,
    })
}

/// A text as a path of the host.
fn path(fields: &Fields, key: &str) -> Option<PathBuf> {
    fields.text(key).map(PathBuf::from)
}

/// The outputs. No two files of the build have the same path.
fn outputs(fields: &Fields) -> Result<Vec<Output>, Fault> {
    let mut taken: Vec<PathBuf> =
        path(fields, "manifest").map(|path| plain(&path)).into_iter().collect();
    let output = |fields: &Fields| {
        let output = output(fields)?;
        let file = plain(&output.file);
        if taken.contains(&file) {
            let shown = quote(&output.file.to_string_lossy());
            let message = format!("file: {shown} is named twice: give each output its own file");
            return Err(Fault::new(fields.at_value("file"), message));
        }
        taken.push(file);
        Ok(output)
    };
    fields.tables("output").iter().map(output).collect()
}

/// `path` without `.` and doubled slashes.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|name| !matches!(name, Component::CurDir)).collect()
}

fn output(fields: &Fields) -> Result<Output, Fault> {
    let (size, slack) =
        (fields.parsed("size", parse_size)?, fields.parsed("slack", parse_percent)?);
    if size.is_some() && slack.is_some() {
        let message = "size and slack exclude each other: give one of them";
        return Err(Fault::new(fields.at_key("slack"), message));
    }
    Ok(Output {
        file: path(fields, "file").unwrap_or_default(),
        format: fields.text("format"),
        init: fields.truth("init"),
        include: fields.texts("include"),
        exclude: fields.texts("exclude"),
        compress: fields.text("compress"),
        size,
        slack,
        label: fields.text("label"),
        uuid: fields.text("uuid"),
        cluster_size: fields.parsed("cluster-size", parse_size)?,
        mkfs_args: fields.texts("mkfs-args"),
    })
}
