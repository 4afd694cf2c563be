//! Text of a configuration file → settings, each with its position.
//!
//! Interface: TOML 1.0. Everything in the file must be known; a mistake is an error with
//! its line and column.

use std::ops::Range;
use std::path::PathBuf;

use oci::name::location::Location;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{Bases, KEYS, Key, SECTION, Words};

/// A configuration file.
#[derive(Debug)]
pub struct Config {
    /// Settings for every root.
    pub settings: Vec<Setting>,
    /// Settings for one root each, in the order of the file.
    pub sections: Vec<Section>,
}

/// Settings for one root.
#[derive(Debug)]
pub struct Section {
    /// Path of the root; absolute, but not canonical.
    pub rootfs: PathBuf,
    /// Settings for this root.
    pub settings: Vec<Setting>,
    /// Position of the name.
    pub position: Position,
}

/// One key with its value.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its row in the table of keys.
    pub key: &'static Key,
    /// The value.
    pub value: Words,
    /// Position of the value.
    pub position: Position,
}

/// Position in a file; line and column count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// Mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Its place.
    pub position: Position,
    /// Explanation.
    pub message: String,
}

/// Parses a file. `check` says what is wrong with words of the command line.
///
/// # Errors
/// The text is no TOML, or has a key or a value that chrootvm does not know.
pub fn parse(
    text: &str,
    bases: Bases<'_>,
    check: &dyn Fn(&[std::ffi::OsString]) -> Result<(), String>,
) -> Result<Config, Mistake> {
    let file = Parser { text, bases, check };
    let parsed = DeTable::parse(text).map_err(|error| Mistake {
        position: file.position(error.span().unwrap_or_default()),
        message: error.message().to_owned(),
    })?;
    let mut sections = Vec::new();
    let mut others = Vec::new();
    for (name, value) in entries(parsed.get_ref()) {
        match name.get_ref().as_ref() {
            SECTION => sections = file.sections(value)?,
            _ => others.push((name, value)),
        }
    }
    let known = || KEYS.iter().map(|key| key.name).chain([SECTION]);
    Ok(Config { settings: file.settings(others, known)?, sections })
}

/// Name and value of an entry of a table.
type Entry<'a> = (&'a Spanned<toml::de::DeString<'a>>, &'a Spanned<DeValue<'a>>);

/// Entries of a table in the order of the file.
fn entries<'a>(table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

struct Parser<'a> {
    text: &'a str,
    bases: Bases<'a>,
    check: &'a dyn Fn(&[std::ffi::OsString]) -> Result<(), String>,
}

impl Parser<'_> {
    fn sections(&self, table: &Spanned<DeValue<'_>>) -> Result<Vec<Section>, Mistake> {
        let form =
            format!("{SECTION} is a table of root file systems: write [{SECTION}.\"./debian\"]");
        let Some(sections) = table.get_ref().as_table() else { return Err(self.at(table, form)) };
        let section = |(name, value): Entry<'_>| {
            let Some(settings) = value.get_ref().as_table() else {
                return Err(self.at(name, form.clone()));
            };
            let text = name.get_ref();
            // An OCI image is named by a word, not by a path.
            let rootfs = match Location::parse(text.as_ref().as_ref()) {
                Ok(None) => self.bases.resolve(text).map_err(|text| self.at(name, text))?,
                _ => text.as_ref().into(),
            };
            Ok(Section {
                rootfs: rootfs.into(),
                settings: self.settings(entries(settings), || KEYS.iter().map(|key| key.name))?,
                position: self.position(name.span()),
            })
        };
        entries(sections).into_iter().map(section).collect()
    }

    /// The settings of a table in which the `known` names may occur.
    fn settings<I: Iterator<Item = &'static str>>(
        &self,
        entries: Vec<Entry<'_>>,
        known: impl Fn() -> I,
    ) -> Result<Vec<Setting>, Mistake> {
        let setting = |(name, value): Entry<'_>| {
            let row = KEYS.iter().find(|key| key.name == name.get_ref().as_ref());
            let key = row.ok_or_else(|| self.at(name, unknown(name.get_ref(), known())))?;
            let words = key.words(value.get_ref(), self.bases);
            let words = words.and_then(|words| (self.check)(&words.words).map(|()| words));
            let words = words.map_err(|message| self.at(value, message))?;
            Ok(Setting { key, value: words, position: self.position(value.span()) })
        };
        entries.into_iter().map(setting).collect()
    }

    fn at<T>(&self, place: &Spanned<T>, message: String) -> Mistake {
        Mistake { position: self.position(place.span()), message }
    }

    fn position(&self, span: Range<usize>) -> Position {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Position { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 }
    }
}

/// Message about a key that is none of the `known` ones.
fn unknown(name: &str, known: impl Iterator<Item = &'static str>) -> String {
    /// Most letters that a mistyped key has wrong, inserted, left out or swapped.
    const NEAR: usize = 2;
    /// Most letters of a short name, which is another word if two letters differ.
    const SHORT: usize = 4;
    let near = if name.chars().count() <= SHORT { 1 } else { NEAR };
    let known: Vec<_> = known.collect();
    let distance = |key: &&str| strsim::damerau_levenshtein(name, key);
    let shown = name.escape_debug();
    match known.iter().copied().min_by_key(distance).filter(|key| distance(key) <= near) {
        Some(key) => format!("unknown key {shown}: did you mean {key}?"),
        None => format!(
            "unknown key {shown}: the keys are {}; other options belong on the command line",
            known.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn parsed(text: &str) -> Result<Config, Mistake> {
        let bases = Bases { directory: Path::new("/p"), home: None };
        parse(text, bases, &|words| match words.iter().any(|word| word == "--memory=bad") {
            true => Err("bad memory".into()),
            false => Ok(()),
        })
    }

    #[test]
    fn settings_and_sections_keep_the_order_of_the_file() {
        let config = parsed(
            "memory = '4G'\ncpus = 2\n[root.'./b']\nnet = 'user'\n[root.'/a']\n[root.'oci:c:1']",
        );
        let config = config.unwrap();
        let names: Vec<_> = config.settings.iter().map(|setting| setting.key.name).collect();
        assert_eq!(names, ["memory", "cpus"]);
        assert_eq!(config.settings[1].position, Position { line: 2, column: 8 });
        let roots: Vec<_> = config.sections.iter().map(|section| &*section.rootfs).collect();
        assert_eq!(roots, [Path::new("/p/b"), Path::new("/a"), Path::new("oci:c:1")]);
        assert_eq!(config.sections[0].settings[0].value.words, ["--net=user"]);
        assert!(parsed("# nothing\n").unwrap().settings.is_empty());
    }

    #[test]
    fn mistakes_have_a_position_and_a_remedy() {
        for (text, line, column, part) in [
            ("memry = '4G'", 1, 1, "unknown key memry: did you mean memory?"),
            ("env = ['A=1']", 1, 1, "unknown key env: the keys are"),
            ("\n\n  colour = 1", 3, 3, "unknown key colour: the keys are kernel, modules,"),
            ("cpus = 1\nmemory = 4", 2, 10, "memory has the wrong type (integer)"),
            ("memory = 'bad'", 1, 10, "bad memory"),
            ("root = 3", 1, 8, "root is a table"),
            ("[root]\ncpus = 1", 2, 1, "root is a table"),
            ("[roots.'./x']", 1, 2, "unknown key roots: did you mean root?"),
            ("[root.'./x']\nmodule = 'x'", 2, 1, "unknown key module: did you mean modules?"),
            ("[root.'./x'.root.'./y']", 1, 13, "unknown key root"),
            ("[root.'~/x']", 1, 7, "~/x: HOME is not set"),
            ("cpus = ", 1, 8, ""),
            ("cpus = 1\ncpus = 2", 2, 1, "duplicate key"),
            ("'é' = 'x' 1", 1, 11, ""),
        ] {
            let mistake = parsed(text).unwrap_err();
            assert_eq!(mistake.position, Position { line, column }, "{text}: {mistake:?}");
            assert!(mistake.message.contains(part), "{text}: {mistake:?}");
        }
    }
}
