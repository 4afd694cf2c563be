//! Writes TOML that a person likes to read.
//!
//! Interface: TOML 1.0, sections "String", "Array" and "Inline Table". A text of several lines
//! keeps them.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The text so far.
#[derive(Default)]
pub(crate) struct Writer(String);

impl Writer {
    /// The text.
    pub(crate) fn finish(self) -> String {
        self.0
    }

    /// Begins a table, such as `[build]` or `[[step]]`.
    pub(crate) fn table(&mut self, header: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(header);
        self.0.push('\n');
    }

    /// Writes a key whose value is TOML.
    pub(crate) fn raw(&mut self, key: &str, value: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{key} = {value}");
    }

    /// Writes a text.
    pub(crate) fn text(&mut self, key: &str, value: impl AsRef<str>) {
        let value = value.as_ref();
        match value.contains('\n') {
            true => self.raw(key, lines(value)),
            false => self.raw(key, quoted(value)),
        }
    }

    /// Writes a text, if there is one.
    pub(crate) fn maybe(&mut self, key: &str, value: Option<impl AsRef<str>>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// Writes a list, even if it is empty.
    pub(crate) fn list(&mut self, key: &str, values: impl IntoIterator<Item: AsRef<str>>) {
        let values: Vec<_> = values.into_iter().map(|value| quoted(value.as_ref())).collect();
        self.raw(key, format_args!("[{}]", values.join(", ")));
    }

    /// Writes a list that is not empty.
    pub(crate) fn texts(&mut self, key: &str, values: &[String]) {
        if !values.is_empty() {
            self.list(key, values);
        }
    }

    /// Writes a map that is not empty, as an inline table.
    pub(crate) fn map(&mut self, key: &str, values: &BTreeMap<String, String>) {
        if !values.is_empty() {
            let pairs = values.iter().map(|(name, value)| (key_of(name), quoted(value)));
            self.raw(key, inline(pairs));
        }
    }
}

/// An inline table.
pub(crate) fn inline<K: AsRef<str>>(pairs: impl IntoIterator<Item = (K, String)>) -> String {
    let pairs = pairs.into_iter().map(|(name, value)| format!("{} = {value}", name.as_ref()));
    format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
}

/// A key, in quotes where it needs them.
pub(crate) fn key_of(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    match !name.is_empty() && name.chars().all(is_bare) {
        true => name.to_owned(),
        false => quoted(name),
    }
}

/// A basic string.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    text.chars().for_each(|c| escape(c, &mut quoted));
    quoted.push('"');
    quoted
}

/// Appends a character of a basic string.
fn escape(c: char, to: &mut String) {
    match c {
        '"' | '\\' => to.extend(['\\', c]),
        '\n' => to.push_str("\\n"),
        '\t' => to.push_str("\\t"),
        '\r' => to.push_str("\\r"),
        c if c.is_control() => {
            // Writing to a String cannot fail.
            let _ = write!(to, "\\u{:04X}", u32::from(c));
        }
        c => to.push(c),
    }
}

/// A multi-line string: a literal one if it can be, so that scripts look as they are.
fn lines(text: &str) -> String {
    let is_plain = |c: char| matches!(c, '\n' | '\t') || !c.is_control();
    if text.chars().all(is_plain) && !text.contains("'''") && !text.ends_with('\'') {
        // The first newline does not count.
        return format!("'''\n{text}'''");
    }
    let mut lines = String::from("\"\"\"\n");
    for c in text.chars() {
        match c {
            '\n' => lines.push('\n'),
            c => escape(c, &mut lines),
        }
    }
    lines.push_str("\"\"\"");
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(value: &str) -> String {
        let mut writer = Writer::default();
        writer.text("a", value);
        writer.finish()
    }

    #[test]
    fn texts_are_written_as_people_do() {
        for (value, text) in [
            ("x", "a = \"x\"\n"),
            ("\"\\\t\r\u{1}é", "a = \"\\\"\\\\\\t\\r\\u0001é\"\n"),
            ("x\ny\n", "a = '''\nx\ny\n'''\n"),
            ("\nx", "a = '''\n\nx'''\n"),
            ("it's\n\\", "a = '''\nit's\n\\'''\n"),
            ("x\n'", "a = \"\"\"\nx\n'\"\"\"\n"),
            ("'''\n\"\"\"\\", "a = \"\"\"\n'''\n\\\"\\\"\\\"\\\\\"\"\"\n"),
            ("x\r\ny", "a = \"\"\"\nx\\r\ny\"\"\"\n"),
        ] {
            assert_eq!(written(value), text);
        }
    }

    #[test]
    fn tables_are_apart() {
        let mut writer = Writer::default();
        writer.raw("a", 1);
        writer.table("[t]");
        writer.map(
            "e",
            &[("B".to_owned(), "1".to_owned()), ("c d".to_owned(), "2".to_owned())].into(),
        );
        writer.texts("l", &["x".to_owned(), "y".to_owned()]);
        writer.texts("none", &[]);
        writer.map("none", &BTreeMap::new());
        let expected = "a = 1\n\n[t]\ne = { B = \"1\", \"c d\" = \"2\" }\nl = [\"x\", \"y\"]\n";
        assert_eq!(writer.finish(), expected);
    }

    proptest! {
        #[test]
        fn every_text_is_read_again(value in "[\\PC\n\r\t\"'\\\\\u{0}-\u{20}\u{7f}-\u{a0}]{0,40}") {
            let table: toml::Table = written(&value).parse().unwrap();
            prop_assert_eq!(table["a"].as_str(), Some(&*value));
            let table: toml::Table = format!("{} = 1", key_of(&value)).parse().unwrap();
            prop_assert!(table.contains_key(&value));
        }
    }
}
