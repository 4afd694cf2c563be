//! `[init]` of fledge → `[init]`.

use std::path::PathBuf;

use super::Strategy;
use super::mappings::Mapped;
use crate::convert::paths::{self, Absolute};
use crate::convert::source::{Document, Table, Value};
use crate::model::{Init, Mistake};

/// The program that a kernel starts in an initramfs.
const INIT: &str = "/init";

/// Converts the table.
///
/// # Errors
/// A value has the wrong form, or both keys are there.
pub(super) fn convert(
    table: Option<Table<'_>>,
    document: &Document<'_>,
    strategy: Strategy,
    mapped: &Mapped,
) -> Result<Option<Init>, Mistake> {
    let init = of_table(table, strategy, mapped)?;
    if strategy == Strategy::Initramfs && init != Some(Init::None) && mapped.has(INIT) {
        // fledge puts mapped files last.
        document.note("mappings: the file that is mapped to /init is PID 1, so [init] is none");
        return Ok(Some(Init::None));
    }
    Ok(init)
}

fn of_table(
    table: Option<Table<'_>>,
    strategy: Strategy,
    mapped: &Mapped,
) -> Result<Option<Init>, Mistake> {
    let builtin = (strategy == Strategy::Initramfs).then_some(Init::Builtin);
    let Some(mut table) = table else { return Ok(builtin) };
    let path = table.take("path").filter(|path| path.text() != Ok(""));
    let none = table.take("none");
    let is_none = none.as_ref().map_or(Ok(false), Value::flag)?;
    let init = match (path, none) {
        (Some(path), _) if is_none => {
            return Err(path.mistake("must not be there beside init.none"));
        }
        (Some(value), _) | (None, Some(value)) if strategy == Strategy::Disk => {
            value.note("fledge reads it for an initramfs only");
            None
        }
        (Some(path), _) => Some(Init::File(file(&path, mapped)?)),
        (None, Some(none)) if is_none => {
            if !mapped.has(INIT) {
                none.note("nothing is mapped to /init, so the image has no PID 1 there");
            }
            Some(Init::None)
        }
        (None, _) => builtin,
    };
    table.finish();
    Ok(init)
}

/// The file of the package that is PID 1.
fn file(path: &Value<'_>, mapped: &Mapped) -> Result<PathBuf, Mistake> {
    path.note(
        "it is PID 1 itself and mounts what it needs; [init] builtin = true with it as the \
         command of [run] has all that mounted",
    );
    // fledge takes a file of the host, but its examples name the path in the image.
    match mapped.source_of(path.text()?) {
        Some(source) => Ok(PathBuf::from(source)),
        None => Ok(PathBuf::from(paths::package(path, path.text()?, Absolute::Host)?)),
    }
}
