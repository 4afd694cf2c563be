//! `[[overlays]]` of buildfs → put steps.

use crate::convert::paths::{self, Absolute};
use crate::convert::source::Value;
use crate::convert::step;
use crate::model::{Action, Contents, Mistake, Mode, PutStep, Scope, Step};

/// Converted overlays.
#[derive(Debug, Default)]
pub(super) struct Overlays {
    /// Steps before the commands.
    pub(super) mounted: Vec<Step>,
    /// Steps at the end.
    pub(super) steps: Vec<Step>,
    /// Guest paths of the steps at the end, without a last `/`.
    pub(super) paths: Vec<String>,
}

/// Converts the list.
///
/// # Errors
/// A value has the wrong form.
pub(super) fn convert(overlays: Option<Value<'_>>) -> Result<Overlays, Mistake> {
    let mut converted = Overlays::default();
    let Some(overlays) = overlays else { return Ok(converted) };
    for overlay in &overlays.list()? {
        let mut table = overlay.table()?;
        let destination = table.require("destination")?;
        let mut to = paths::guest_directory(&destination)?;
        let is_directory = table.take_flag("is_directory")?;
        let contents = match (table.take("source"), table.take("source_inline")) {
            (Some(source), None) => {
                let path = paths::package(&source, source.text()?, Absolute::Package)?;
                if is_directory {
                    to = inside(&to, &path);
                    destination.note(&format!(
                        "buildfs puts the directory itself there, so its contents are in {to}"
                    ));
                }
                Contents::Files(path)
            }
            (None, Some(inline)) if !is_directory => Contents::Text(inline.text()?.to_owned()),
            (None, Some(_)) => {
                return Err(overlay.mistake("must have `source` if it is a directory"));
            }
            (Some(_), Some(_)) | (None, None) => {
                return Err(overlay.mistake("must have exactly one of source, source_inline"));
            }
        };
        let mounted = table.take("mounted");
        let scope = match mounted.as_ref().map_or(Ok(false), Value::flag)? {
            true => Scope::Build,
            false => Scope::Image,
        };
        let put = PutStep { contents, to: to.clone(), owner: None, mode: Mode::Auto, scope };
        let put = step(table.position(), Action::Put(put));
        table.finish();
        match scope {
            Scope::Build => converted.mounted.push(put),
            Scope::Image => {
                converted.steps.push(put);
                converted.paths.push(to);
            }
        }
        if let (Scope::Build, Some(mounted)) = (scope, mounted) {
            mounted.note(
                "there during the build only; buildfs also copies it into the image at the end: \
                 repeat the step at the end without `mount` for that",
            );
        }
    }
    Ok(converted)
}

/// Guest path of the directory `source` inside of the directory `to`.
fn inside(to: &str, source: &str) -> String {
    match source.rsplit('/').next() {
        None | Some(".") => to.to_owned(),
        Some(name) => format!("{}/{name}", to.trim_end_matches('/')),
    }
}
