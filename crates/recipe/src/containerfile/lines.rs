//! Text → logical lines: continuation lines are joined, comments left out, and here-documents
//! taken off.

use super::directives;
use super::documents::{self, Document};
use super::words::{Split, split};
use crate::table::quote;
use crate::{Mistake, Position};

/// Most bytes of a text (as for recipes).
pub(super) const TEXT_MAX: usize = 1 << 20;

/// Most instructions of a Containerfile. Engines stop at 127 layers; this leaves room for what
/// makes no layer.
const INSTRUCTIONS_MAX: usize = 1000;

/// Mark of an order of bytes, which editors write at the start of a text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Logical line: an instruction.
#[derive(Debug)]
pub(super) struct Line {
    /// Position of its first character.
    pub(super) position: Position,
    /// Text without leading and trailing blanks.
    pub(super) text: String,
    /// Keyword, flags and the rest of `text`.
    pub(super) split: Split,
    /// Here-documents of the instruction.
    pub(super) documents: Vec<Document>,
}

/// Whole text as lines.
#[derive(Debug)]
pub(super) struct Lines {
    /// Logical lines, at least one.
    pub(super) instructions: Vec<Line>,
    /// Character that escapes another one.
    pub(super) escape: char,
    /// Remarks.
    pub(super) notes: Vec<Mistake>,
}

/// Reads the logical lines of `text`.
///
/// # Errors
/// The text is too long or has a NUL, a directive is wrong, a here-document does not end, or there is no
/// instruction.
pub(super) fn read(text: &str) -> Result<Lines, Mistake> {
    if text.len() > TEXT_MAX {
        let message = format!("the text has {} bytes; at most {TEXT_MAX} are read", text.len());
        return Err(Mistake { position: Position::default(), message });
    }
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if let Some((before, _)) = text.split_once('\0') {
        let line = before.rsplit('\n').next().unwrap_or_default();
        let position =
            Position { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 };
        let message = "a character is NUL, which no command or path can have: remove it".to_owned();
        return Err(Mistake { position, message });
    }
    let (escape, mut notes) = directives::read(text)?;
    let mut reader = Reader { lines: text.split_inclusive('\n'), number: 0, escape };
    let mut lines = Vec::new();
    while let Some(raw) = reader.next() {
        let start = raw.trim_start();
        if start.is_empty() || start.starts_with('#') {
            continue;
        }
        let position = Position { line: reader.number, column: column(raw, start) };
        if lines.len() == INSTRUCTIONS_MAX {
            let message = format!("more than {INSTRUCTIONS_MAX} instructions: split the file");
            return Err(Mistake { position, message });
        }
        let mistake = |message| Mistake { position, message };
        let (text, empty) = reader.joined(start);
        if let Some(line) = empty {
            let message = "an empty line inside an instruction is deprecated: remove it".to_owned();
            notes.push(Mistake { position: Position { line, column: 1 }, message });
        }
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let split = split(text, reader.escape).map_err(mistake)?;
        let mut documents = documents::find(&split).map_err(mistake)?;
        for document in &mut documents {
            reader.fill(document).map_err(mistake)?;
        }
        lines.push(Line { position, text: text.to_owned(), split, documents });
    }
    if lines.is_empty() {
        let message = "the file has no instruction: begin with FROM IMAGE".to_owned();
        return Err(Mistake { position: Position::default(), message });
    }
    Ok(Lines { instructions: lines, escape: reader.escape, notes })
}

/// Column of `rest`, the end of `line`, in characters from 1.
fn column(line: &str, rest: &str) -> usize {
    let before = line.len().saturating_sub(rest.len());
    line.get(..before).map_or(1, |before| before.chars().count() + 1)
}

/// Reader of physical lines.
struct Reader<'t> {
    lines: std::str::SplitInclusive<'t, char>,
    /// Number of the line that was read last, from 1.
    number: usize,
    escape: char,
}

impl<'t> Reader<'t> {
    /// The next physical line with its line break.
    fn next(&mut self) -> Option<&'t str> {
        let line = self.lines.next()?;
        self.number += 1;
        Some(line)
    }

    /// `first` and the lines that continue it, joined; and the number of the first empty line
    /// among them.
    fn joined(&mut self, first: &str) -> (String, Option<usize>) {
        let mut text = String::new();
        let mut empty = None;
        let mut line = without_break(first);
        loop {
            let Some(start) = continued(line, self.escape) else {
                text.push_str(line);
                return (text, empty);
            };
            text.push_str(start);
            // Comments and empty lines do not end the instruction.
            line = loop {
                let Some(next) = self.next() else { return (text, empty) };
                match next.trim_start() {
                    "" => empty = empty.or(Some(self.number)),
                    comment if comment.starts_with('#') => {}
                    _ => break without_break(next),
                }
            };
        }
    }

    /// Reads the text of `document`, up to its delimiter.
    fn fill(&mut self, document: &mut Document) -> Result<(), String> {
        while let Some(line) = self.next() {
            if document.ends_at(without_break(line)) {
                return Ok(());
            }
            document.text.push_str(line);
        }
        let name = &document.name;
        Err(format!("a here-document does not end: the line {} is missing", quote(name)))
    }
}

/// `line` without its line break.
fn without_break(line: &str) -> &str {
    line.trim_end_matches(['\n', '\r'])
}

/// `line` without its last character, if this is an escape that continues the line: it may have
/// blanks behind it, but no other escape before it.
fn continued(line: &str, escape: char) -> Option<&str> {
    let start = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!start.ends_with(escape)).then_some(start)
}
