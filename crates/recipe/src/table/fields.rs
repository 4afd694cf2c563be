//! Values of a table that was read. A key that is missing is `None` or empty.
//!
//! The reader has checked every form: an accessor of another form than the key's own finds
//! nothing.

use std::collections::BTreeMap;

use super::forms::{Key, Need};
use super::lines::Fault;

/// Values of a table.
#[derive(Debug)]
pub(crate) struct Fields {
    /// Byte offset of the table.
    pub(super) at: usize,
    /// The keys that are given, in the order of the text.
    pub(super) fields: Vec<Field>,
}

/// A key with its value.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) key: &'static Key,
    /// Byte offset of the key.
    pub(super) name_at: usize,
    /// Byte offset of the value.
    pub(super) at: usize,
    pub(super) value: Value,
}

/// A value.
#[derive(Debug)]
pub(super) enum Value {
    Truth(bool),
    Number(u32),
    Text(String),
    Texts(Vec<Item>),
    Map(BTreeMap<String, String>),
    Table(Fields),
    Tables(Vec<Fields>),
    Named(BTreeMap<String, Fields>),
}

/// A text of a list.
#[derive(Debug)]
pub(crate) struct Item {
    /// Byte offset.
    pub(crate) at: usize,
    /// The text.
    pub(crate) text: String,
}

impl Fields {
    /// Byte offset of the table.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The verb of a table that has verbs.
    pub(crate) fn verb(&self) -> &'static str {
        let verb = self.fields.iter().find(|field| matches!(field.key.need, Need::Verb));
        verb.map_or("", |field| field.key.name)
    }

    /// Byte offset of the value of `key`; that of the table if the key is missing.
    pub(crate) fn at_value(&self, key: &str) -> usize {
        self.find(key).map_or(self.at, |field| field.at)
    }

    /// Byte offset of `key` itself; that of the table if the key is missing.
    pub(crate) fn at_key(&self, key: &str) -> usize {
        self.find(key).map_or(self.at, |field| field.name_at)
    }

    /// A truth.
    pub(crate) fn truth(&self, key: &str) -> Option<bool> {
        match self.value(key)? {
            Value::Truth(truth) => Some(*truth),
            _ => None,
        }
    }

    /// A number.
    pub(crate) fn number(&self, key: &str) -> Option<u32> {
        match self.value(key)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        match self.value(key)? {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// A text that `parse` understands; its error is a mistake at the value.
    pub(crate) fn parsed<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Fault> {
        let parsed = self.text(key).map(|text| parse(&text)).transpose();
        parsed.map_err(|message| Fault::new(self.at_value(key), format!("{key}: {message}")))
    }

    /// A text that is a name of `known`.
    pub(crate) fn named<T: Copy>(&self, key: &str, known: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
    }

    /// The texts of a list, with their positions.
    pub(crate) fn items(&self, key: &str) -> &[Item] {
        match self.value(key) {
            Some(Value::Texts(items)) => items,
            _ => &[],
        }
    }

    /// The texts of a list.
    pub(crate) fn texts(&self, key: &str) -> Vec<String> {
        self.items(key).iter().map(|item| item.text.clone()).collect()
    }

    /// A list; `None` if the key is missing.
    pub(crate) fn given_texts(&self, key: &str) -> Option<Vec<String>> {
        matches!(self.value(key)?, Value::Texts(_)).then(|| self.texts(key))
    }

    /// A table of texts.
    pub(crate) fn map(&self, key: &str) -> BTreeMap<String, String> {
        match self.value(key) {
            Some(Value::Map(map)) => map.clone(),
            _ => BTreeMap::new(),
        }
    }

    /// A table.
    pub(crate) fn table(&self, key: &str) -> Option<&Self> {
        match self.value(key)? {
            Value::Table(fields) => Some(fields),
            _ => None,
        }
    }

    /// The tables of a list.
    pub(crate) fn tables(&self, key: &str) -> &[Self] {
        match self.value(key) {
            Some(Value::Tables(tables)) => tables,
            _ => &[],
        }
    }

    /// The tables of a table, by their names.
    pub(crate) fn named_tables(&self, key: &str) -> impl Iterator<Item = (&String, &Self)> {
        let named = match self.value(key) {
            Some(Value::Named(named)) => Some(named),
            _ => None,
        };
        named.into_iter().flatten()
    }

    fn find(&self, key: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.key.name == key)
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.find(key).map(|field| &field.value)
    }
}
