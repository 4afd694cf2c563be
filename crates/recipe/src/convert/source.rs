//! TOML files of other tools, read key by key.
//!
//! Interface: TOML 1.1. A [`Table`] gives each key once; what nobody has asked for in the end
//! becomes a note, so that no key is passed over in silence.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::{Mistake, Position};
use crate::table::{Fault, Lines, quote};

/// Most bytes of a file that is converted; real ones have a few kilobytes.
const SIZE_MAX: usize = 1 << 20;

/// Most items of a list: what the lists say becomes steps, of which a recipe has as many.
const ITEMS_MAX: usize = 1000;

/// Most notes about a file. They are comments of a recipe, whose size is limited.
const NOTES_MAX: usize = 1000;

/// Longest key in bytes that notes show without quotes and as a whole.
const KEY_MAX: usize = 60;

/// A file, and what has been noted about it.
pub(super) struct Document<'a> {
    /// Name to show before lines and messages; empty for the only file.
    name: &'static str,
    text: &'a str,
    lines: Lines<'a>,
    /// Notes, each with its line.
    notes: RefCell<Vec<(usize, String)>>,
}

impl<'a> Document<'a> {
    pub(super) fn new(name: &'static str, text: &'a str) -> Self {
        Self { name, text, lines: Lines::new(text), notes: RefCell::default() }
    }

    /// Reads the text as TOML.
    ///
    /// # Errors
    /// The text is too long or is no TOML.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'a>>, Mistake> {
        if self.text.len() > SIZE_MAX {
            let message = format!("the file has more than {SIZE_MAX} bytes");
            return Err(self.mistake(0..0, &message));
        }
        DeTable::parse(self.text).map_err(|error| {
            let message = error.message().replace('\n', "; ");
            self.mistake(error.span().unwrap_or_default(), &message)
        })
    }

    /// The notes in the order of their lines.
    pub(super) fn into_notes(self) -> Vec<String> {
        let prefix = self.prefix();
        let mut notes = self.notes.into_inner();
        notes.sort_by_key(|(line, _)| *line);
        let more = notes.len().saturating_sub(NOTES_MAX);
        let notes = notes.into_iter().take(NOTES_MAX).map(|(_, note)| note);
        let last = (more > 0).then(|| format!("{prefix}{more} more notes are left out"));
        notes.chain(last).collect()
    }

    /// Notes something about the file as a whole.
    pub(super) fn note(&self, note: &str) {
        self.push(0, note);
    }

    /// Notes something about a line, as one line.
    fn push(&self, line: usize, note: &str) {
        let note = note.replace(|c: char| c.is_control(), " ");
        self.notes.borrow_mut().push((line, format!("{}{note}", self.prefix())));
    }

    fn mistake(&self, span: Range<usize>, message: &str) -> Mistake {
        let message = format!("{}{message}", self.prefix());
        self.lines.mistake(Fault::new(span.start, message))
    }

    fn position(&self, span: Range<usize>) -> Position {
        self.lines.position(span.start)
    }

    fn prefix(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!("{}: ", self.name) }
    }
}

/// Name and value of an entry of a table.
type Entry<'d> = (&'d Spanned<toml::de::DeString<'d>>, &'d Spanned<DeValue<'d>>);

/// Keys of a table that nobody has asked for yet.
pub(super) struct Table<'d> {
    document: &'d Document<'d>,
    /// Keys that lead to it, with dots; empty for the file as a whole.
    path: String,
    /// In the order of the file.
    entries: Vec<Entry<'d>>,
    span: Range<usize>,
}

impl<'d> Table<'d> {
    /// The table that is the whole file.
    pub(super) fn root(document: &'d Document<'d>, table: &'d Spanned<DeTable<'d>>) -> Self {
        Self::new(document, String::new(), table.get_ref(), 0..0)
    }

    fn new(
        document: &'d Document<'d>,
        path: String,
        table: &'d DeTable<'d>,
        span: Range<usize>,
    ) -> Self {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        Self { document, path, entries, span }
    }

    /// Takes the value of a key out of the table.
    pub(super) fn take(&mut self, name: &str) -> Option<Value<'d>> {
        let at = self.entries.iter().position(|(key, _)| key.get_ref() == name)?;
        let entry = self.entries.remove(at);
        Some(self.value(entry))
    }

    /// Takes the value of a key that must be there.
    ///
    /// # Errors
    /// The key is missing.
    pub(super) fn require(&mut self, name: &str) -> Result<Value<'d>, Mistake> {
        let path = self.key_path(name);
        self.take(name).ok_or_else(|| self.mistake(&format!("{path} is missing")))
    }

    /// Takes a table, if its key is there.
    ///
    /// # Errors
    /// The value is no table.
    pub(super) fn take_table(&mut self, name: &str) -> Result<Option<Table<'d>>, Mistake> {
        self.take(name).map(|value| value.table()).transpose()
    }

    /// Takes text, if its key is there.
    ///
    /// # Errors
    /// The value is no text.
    pub(super) fn take_text(&mut self, name: &str) -> Result<Option<&'d str>, Mistake> {
        self.take(name).map(|value| value.text()).transpose()
    }

    /// Takes a list, which is empty if the key is missing.
    ///
    /// # Errors
    /// The value is no list.
    pub(super) fn take_list(&mut self, name: &str) -> Result<Vec<Value<'d>>, Mistake> {
        self.take(name).map_or(Ok(Vec::new()), |value| value.list())
    }

    /// Takes a list of texts, which is empty if the key is missing.
    ///
    /// # Errors
    /// The value is no list, or an item is no text.
    pub(super) fn take_texts(&mut self, name: &str) -> Result<Vec<String>, Mistake> {
        self.take_list(name)?.iter().map(|item| item.text().map(str::to_owned)).collect()
    }

    /// Takes a switch, off if the key is missing.
    ///
    /// # Errors
    /// The value is neither true nor false.
    pub(super) fn take_flag(&mut self, name: &str) -> Result<bool, Mistake> {
        self.take(name).map_or(Ok(false), |value| value.flag())
    }

    /// Takes a table of variables, which is empty if the key is missing. A variable whose name
    /// no recipe takes becomes a note.
    ///
    /// # Errors
    /// The value is no table, or a value in it is no text.
    pub(super) fn take_variables(
        &mut self,
        name: &str,
    ) -> Result<BTreeMap<String, String>, Mistake> {
        let Some(table) = self.take_table(name)? else { return Ok(BTreeMap::new()) };
        let mut variables = BTreeMap::new();
        for (name, value) in table.pairs() {
            let text = value.text()?.to_owned();
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.chars().all(is_word) && !name.starts_with(|c: char| c.is_ascii_digit()) {
                variables.insert(name.to_owned(), text);
            } else {
                value.note("left out: names of variables have letters, digits and _ only");
            }
        }
        Ok(variables)
    }

    /// All entries, for a table whose keys are the user's.
    pub(super) fn pairs(self) -> Vec<(&'d str, Value<'d>)> {
        let pair = |entry: &Entry<'d>| (entry.0.get_ref().as_ref(), self.value(*entry));
        self.entries.iter().map(pair).collect()
    }

    /// Notes the keys of `rows` that occur, each with the row's reason.
    pub(super) fn note_all(&mut self, rows: &[(&str, &str)]) {
        for (name, why) in rows {
            if let Some(value) = self.take(name) {
                value.note(why);
            }
        }
    }

    /// Notes the keys that nobody has taken.
    pub(super) fn finish(self) {
        for (_, value) in self.pairs() {
            value.note("unknown key, left out");
        }
    }

    /// A mistake of the table as a whole.
    pub(super) fn mistake(&self, message: &str) -> Mistake {
        self.document.mistake(self.span.clone(), message)
    }

    /// The place of the table.
    pub(super) fn position(&self) -> Position {
        self.document.position(self.span.clone())
    }

    fn value(&self, (key, value): Entry<'d>) -> Value<'d> {
        let path = self.key_path(key.get_ref());
        Value { document: self.document, path, item: value, key: key.span() }
    }

    fn key_path(&self, name: &str) -> String {
        let is_bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        let name = match (1..=KEY_MAX).contains(&name.len()) && name.chars().all(is_bare) {
            true => name.to_owned(),
            false => quote(name),
        };
        if self.path.is_empty() { name } else { format!("{}.{name}", self.path) }
    }
}

/// A value with its place and the keys that lead to it.
#[derive(Clone)]
pub(super) struct Value<'d> {
    document: &'d Document<'d>,
    path: String,
    item: &'d Spanned<DeValue<'d>>,
    key: Range<usize>,
}

impl<'d> Value<'d> {
    /// The value as text.
    ///
    /// # Errors
    /// The value is no text, or has a NUL character, which no recipe takes.
    pub(super) fn text(&self) -> Result<&'d str, Mistake> {
        match self.item.get_ref().as_str() {
            Some(text) if text.contains('\0') => Err(self.mistake("has a NUL character")),
            Some(text) => Ok(text),
            None => Err(self.mistake("must be a text in quotes")),
        }
    }

    /// The value as a number of `range`.
    ///
    /// # Errors
    /// The value is no integer of `range`.
    pub(super) fn number(&self, range: RangeInclusive<u32>) -> Result<u32, Mistake> {
        let number = match self.item.get_ref() {
            DeValue::Integer(digits) => u32::from_str_radix(digits.as_str(), digits.radix()).ok(),
            _ => None,
        };
        number.filter(|number| range.contains(number)).ok_or_else(|| {
            let (first, last) = range.into_inner();
            self.mistake(&format!("must be a number from {first} to {last}"))
        })
    }

    /// The value as a switch.
    ///
    /// # Errors
    /// The value is neither true nor false.
    pub(super) fn flag(&self) -> Result<bool, Mistake> {
        self.item.get_ref().as_bool().ok_or_else(|| self.mistake("must be true or false"))
    }

    /// The items of the value, each with its number in its path.
    ///
    /// # Errors
    /// The value is no list, or a very long one.
    pub(super) fn list(&self) -> Result<Vec<Value<'d>>, Mistake> {
        let items = self.item.get_ref().as_array();
        let items = items.ok_or_else(|| self.mistake("must be a list in [ ]"))?;
        if items.len() > ITEMS_MAX {
            return Err(self.mistake(&format!("must have at most {ITEMS_MAX} items")));
        }
        let value = |(number, item): (usize, &'d Spanned<DeValue<'d>>)| Value {
            document: self.document,
            path: format!("{}[{number}]", self.path),
            item,
            key: item.span(),
        };
        Ok(items.iter().enumerate().map(value).collect())
    }

    /// The value as a table.
    ///
    /// # Errors
    /// The value is no table.
    pub(super) fn table(&self) -> Result<Table<'d>, Mistake> {
        let table = self.item.get_ref().as_table();
        let table = table.ok_or_else(|| self.mistake("must be a table"))?;
        Ok(Table::new(self.document, self.path.clone(), table, self.key.clone()))
    }

    /// Notes why this key is not in the recipe, or what changes.
    pub(super) fn note(&self, why: &str) {
        let line = self.document.position(self.key.clone()).line;
        self.document.push(line, &format!("{} (line {line}): {why}", self.path));
    }

    /// A mistake of this value.
    pub(super) fn mistake(&self, message: &str) -> Mistake {
        self.document.mistake(self.item.span(), &format!("{} {message}", self.path))
    }

    /// The place of the key.
    pub(super) fn position(&self) -> Position {
        self.document.position(self.key.clone())
    }
}
