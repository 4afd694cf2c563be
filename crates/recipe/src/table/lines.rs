//! Byte offsets of a text → lines and columns.
//!
//! Offsets become positions only where somebody needs one: counting the columns of every value
//! of a long line would take time quadratic in its length.

use crate::model::{Mistake, Position};

/// Mistake at a byte offset.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Offset in the text.
    pub(crate) at: usize,
    /// Explanation.
    pub(crate) message: String,
}

impl Fault {
    /// A mistake at byte `at`.
    pub(crate) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// Lines of a text.
pub(crate) struct Lines<'a> {
    text: &'a str,
    /// Offset of the first byte of each line.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    /// Finds the lines of `text`.
    pub(crate) fn new(text: &'a str) -> Self {
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { text, starts: [0].into_iter().chain(breaks).collect() }
    }

    /// Position of byte `at`.
    pub(crate) fn position(&self, at: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or_default();
        let before = self.text.get(start..at).unwrap_or_default();
        Position { line, column: before.chars().count() + 1 }
    }

    /// The mistake of a fault.
    pub(crate) fn mistake(&self, fault: Fault) -> Mistake {
        Mistake { position: self.position(fault.at), message: fault.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_characters() {
        let lines = Lines::new("a\nébc\n\nd");
        for (at, line, column) in
            [(0, 1, 1), (1, 1, 2), (2, 2, 1), (4, 2, 2), (5, 2, 3), (7, 3, 1), (8, 4, 1), (9, 4, 2)]
        {
            assert_eq!(lines.position(at), Position { line, column }, "{at}");
        }
        // Within a character, and past the end.
        assert_eq!(lines.position(3), Position { line: 2, column: 1 });
        assert_eq!(lines.position(99), Position { line: 4, column: 1 });
        assert_eq!(Lines::new("").position(0), Position { line: 1, column: 1 });
    }
}
