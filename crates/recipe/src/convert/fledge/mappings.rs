//! `[mappings]` of fledge → put steps, in the order of the file.

use crate::convert::paths::{self, Absolute};
use crate::convert::source::Table;
use crate::convert::step;
use crate::model::{Action, Contents, Mistake, Mode, PutStep, Scope, Step};

/// Converted mappings.
#[derive(Debug, Default)]
pub(super) struct Mapped {
    /// The steps.
    pub(super) steps: Vec<Step>,
    /// Path of the package and guest path of each step.
    pairs: Vec<(String, String)>,
}

impl Mapped {
    /// Whether something is put at the guest path `to`.
    pub(super) fn has(&self, to: &str) -> bool {
        self.source_of(to).is_some()
    }

    /// Path of the package of what is put at the guest path `to`.
    pub(super) fn source_of(&self, to: &str) -> Option<&str> {
        let pair = self.pairs.iter().find(|(_, guest)| guest == to);
        pair.map(|(source, _)| source.as_str())
    }
}

/// Converts the table.
///
/// # Errors
/// A destination is no absolute path.
pub(super) fn convert(table: Option<Table<'_>>) -> Result<Mapped, Mistake> {
    let mut mapped = Mapped::default();
    for (source, value) in table.map(Table::pairs).unwrap_or_default() {
        if !value.text()?.starts_with('/') {
            return Err(value.mistake("must begin with /: it is a path of the image"));
        }
        let to = paths::guest(&value)?;
        if source.contains('\0') {
            return Err(value.mistake("must not have a NUL character in its key"));
        }
        let file = paths::package(&value, source, Absolute::Host)?;
        mapped.pairs.push((file.clone(), to.clone()));
        let contents = Contents::Files(file);
        let put = PutStep { contents, to, owner: None, mode: Mode::Auto, scope: Scope::Image };
        mapped.steps.push(step(value.position(), Action::Put(put)));
    }
    Ok(mapped)
}
