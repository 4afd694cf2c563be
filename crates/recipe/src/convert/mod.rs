//! Files of other tools as recipes: buildfs' build.toml, and fledge's fledge.toml with its
//! manifest.toml.
//!
//! Every key of the other file is translated, or a note says what became of it. The text that
//! comes out is a valid recipe. Sources: the structures that buildfs 0.3.4 (src/schema.rs) and
//! fledge 0.2.9 (internal/config/schema.go) read.

mod buildfs;
mod fledge;
mod paths;
mod script;
mod source;
#[cfg(test)]
mod tests;

use toml::de::DeTable;

use self::source::Document;
use crate::model::{Action, Mistake, Position, Recipe, Step};
use crate::parse;
use crate::table::quote;

/// Name of fledge's second file in notes and messages.
const MANIFEST: &str = "manifest.toml";

/// Tool whose file is converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// fledge: fledge.toml.
    Fledge,
    /// buildfs: build.toml.
    Buildfs,
}

/// Keys at the top of a file, and the tool whose file has them. The first key that occurs
/// decides.
const MARKS: &[(&str, Kind)] = &[
    ("strategy", Kind::Fledge),
    ("container", Kind::Buildfs),
    ("mappings", Kind::Fledge),
    ("agent", Kind::Fledge),
    ("commands", Kind::Buildfs),
    ("overlays", Kind::Buildfs),
    ("export", Kind::Buildfs),
];

/// Keys at the top of a recipe that neither tool has.
const RECIPE_MARKS: &[&str] = &["from", "build", "step", "run", "output", "busybox"];

/// A converted file.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// The recipe.
    pub recipe: Recipe,
    /// What has no counterpart or is different now, one line each: `KEY (line N): why`.
    pub notes: Vec<String>,
}

impl Converted {
    /// The recipe as text, with the notes as comments at its top.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        if !self.notes.is_empty() {
            text.push_str("# Without counterpart, or different from the converted file:\n");
        }
        for note in &self.notes {
            // A comment ends with its line and has no control characters (TOML 1.1).
            let note: String = note.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            text.push_str("# - ");
            text.push_str(&note);
            text.push('\n');
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        text.push_str(&self.recipe.to_toml());
        text
    }
}

impl Kind {
    /// Keys by which the tool's file is known.
    pub fn marks(self) -> impl Iterator<Item = &'static str> {
        MARKS.iter().filter(move |(_, kind)| *kind == self).map(|(name, _)| *name)
    }
}

/// Recognises the file of a tool by its keys.
#[must_use]
pub fn recognise(text: &str) -> Option<Kind> {
    let document = Document::new("", text);
    let parsed = document.parse().ok()?;
    let table: &DeTable<'_> = parsed.get_ref();
    let has = |name: &str| table.iter().any(|(key, _)| key.get_ref() == name);
    if RECIPE_MARKS.iter().any(|name| has(name)) {
        return None;
    }
    MARKS.iter().find(|(name, _)| has(name)).map(|(_, kind)| *kind)
}

/// Converts buildfs' build.toml.
///
/// # Errors
/// The text is no TOML or longer than 1 MiB, a value has the wrong form, or no recipe can say
/// it.
pub fn buildfs(text: &str) -> Result<Converted, Mistake> {
    let document = Document::new("", text);
    let recipe = buildfs::recipe(&document)?;
    checked(recipe, document.into_notes())
}

/// Converts fledge.toml, with the text of manifest.toml if there is one.
///
/// # Errors
/// As [`buildfs()`]. Messages about the manifest begin with its name, and their position is in
/// it.
pub fn fledge(text: &str, manifest: Option<&str>) -> Result<Converted, Mistake> {
    let document = Document::new("", text);
    let manifest = manifest.map(|text| Document::new(MANIFEST, text));
    let recipe = fledge::recipe(&document, manifest.as_ref())?;
    let mut notes = document.into_notes();
    notes.extend(manifest.map(Document::into_notes).unwrap_or_default());
    checked(recipe, notes)
}

/// Makes sure that the recipe can be read: its rules are in the parser, which nothing here
/// repeats.
fn checked(recipe: Recipe, notes: Vec<String>) -> Result<Converted, Mistake> {
    let converted = Converted { recipe, notes };
    let text = converted.to_text();
    parse(&text).map(|_| ()).map_err(|mistake| {
        let line = text.lines().nth(mistake.position.line.saturating_sub(1)).unwrap_or_default();
        let line = quote(line.trim());
        let message = format!("a recipe cannot say this: {}: {line}", mistake.message);
        Mistake { position: Position::default(), message }
    })?;
    Ok(converted)
}

/// A step without a label.
fn step(position: Position, action: Action) -> Step {
    Step { position, label: None, action }
}
