//! Warnings about many files, grouped by kind: each kind is reported once, with an
//! example and a count. Attributes that an image format cannot store are such a kind.

use std::borrow::Cow;

use crate::tell::show;

/// Warnings, grouped by their text. Each group keeps its first path as an example.
#[derive(Debug, Default)]
pub struct Notes {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: Cow<'static, str>,
    count: u64,
    example: String,
}

impl Notes {
    /// Adds a warning with the text `what` about `path`.
    pub fn add(&mut self, what: impl Into<Cow<'static, str>>, path: &[u8]) {
        let what = what.into();
        match self.rows.iter_mut().find(|row| row.what == what) {
            Some(row) => row.count += 1,
            None => self.rows.push(Row { what, count: 1, example: show(path) }),
        }
    }

    /// One line for each group, in the order of the first examples.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.rows.iter().map(|Row { what, count, example }| match count {
            1 => format!("{what}: {example}"),
            _ => format!("{what}: {example} and {} more", count - 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_warnings_are_one_line() {
        let mut notes = Notes::default();
        notes.add("lost", b"a\x1b");
        notes.add("gone", b"b");
        notes.add("lost", b"c");
        let lines: Vec<_> = notes.lines().collect();
        assert_eq!(lines, ["lost: a\\u{1b} and 1 more", "gone: b"]);
    }
}
