//! What an image could not keep: told once a sort, with an example.

use std::borrow::Cow;

use crate::tell::show;

/// Warnings, by what is wrong.
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
    /// Notes that `what` is so of `path`.
    pub fn add(&mut self, what: impl Into<Cow<'static, str>>, path: &[u8]) {
        let what = what.into();
        match self.rows.iter_mut().find(|row| row.what == what) {
            Some(row) => row.count += 1,
            None => self.rows.push(Row { what, count: 1, example: show(path) }),
        }
    }

    /// A line each, in the order of their first examples.
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
    fn one_line_a_sort() {
        let mut notes = Notes::default();
        notes.add("lost", b"a\x1b");
        notes.add("gone", b"b");
        notes.add("lost", b"c");
        let lines: Vec<_> = notes.lines().collect();
        assert_eq!(lines, ["lost: a\\u{1b} and 1 more", "gone: b"]);
    }
}
