//! fledge's fledge.toml and manifest.toml → recipe.
//!
//! With the strategy `initramfs` fledge fills a cpio archive: directories, base, busybox, PID 1
//! and its agent, mapped files. With `oci_rootfs` it makes a disk of an OCI image, with the
//! agent and mapped files.

mod agent;
mod init;
mod manifest;
mod mappings;
mod output;
mod source;

use super::source::{Document, Table};
use crate::model::{Init, Mistake, Recipe};

/// What fledge makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    /// A cpio archive.
    Initramfs,
    /// A disk.
    Disk,
}

/// Strategies by their names.
const STRATEGIES: &[(&str, Strategy)] =
    &[("initramfs", Strategy::Initramfs), ("oci_rootfs", Strategy::Disk)];

/// The version of the file that fledge reads.
const VERSION: &str = "1";

/// Times of all files of an initramfs of fledge, in seconds since 1970: 2024-01-01.
const TIME: u32 = 1_704_067_200;

/// Converts a file.
///
/// # Errors
/// The text is no TOML, or a value has the wrong form.
pub(super) fn recipe(
    document: &Document<'_>,
    manifest: Option<&Document<'_>>,
) -> Result<Recipe, Mistake> {
    let parsed = document.parse()?;
    let mut root = Table::root(document, &parsed);
    let version = root.require("version")?;
    if version.text()? != VERSION {
        return Err(version.mistake("must be \"1\""));
    }
    let value = root.require("strategy")?;
    let name = value.text()?;
    let found = STRATEGIES.iter().find(|(known, _)| *known == name);
    let Some(&(_, strategy)) = found else {
        return Err(value.mistake("must be \"initramfs\" or \"oci_rootfs\""));
    };
    let mut recipe = Recipe::default();
    if strategy == Strategy::Initramfs {
        recipe.build.time = Some(TIME);
    }
    source::convert(root.take_table("source")?, strategy, &mut recipe)?;
    let mapped = mappings::convert(root.take_table("mappings")?)?;
    let init = root.take_table("init")?;
    recipe.init = init::convert(init, document, strategy, &mapped)?;
    recipe.steps.extend(agent::convert(root.take("agent"), document, strategy, &recipe)?);
    recipe.steps.extend(mapped.steps);
    let mut output = output::convert(root.take("filesystem"), strategy)?;
    match manifest {
        Some(manifest) => manifest::convert(manifest, &mut recipe)?,
        None if recipe.init == Some(Init::Builtin) => document.note(
            "run: without manifest.toml nothing says what /init starts: add [run] with a command",
        ),
        None => {}
    }
    output.file = output::file(recipe.name.as_deref(), &output);
    recipe.outputs = vec![output];
    root.finish();
    Ok(recipe)
}
