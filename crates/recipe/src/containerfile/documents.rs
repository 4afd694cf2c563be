//! Here-documents: `<<EOF` in RUN, COPY and ADD, and the lines up to `EOF`.
//!
//! COPY and ADD have a here-document where they have a source. RUN has it where a shell has it:
//! at the start of a word, perhaps behind the number of a file (`3<<EOF`), outside of quotes and
//! of arithmetic (`$((1 << 2))`, `((1 << 2))`); `<<<` is something else.

use super::words::Split;

/// Here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Document {
    /// Delimiter, without quotes.
    pub(super) name: String,
    /// What the quotes of the delimiter ask for.
    pub(super) variables: Variables,
    /// What `<<` or `<<-` asks for.
    pub(super) tabs: Tabs,
    /// The lines as they are, tabs included.
    pub(super) text: String,
}

/// Whether COPY and ADD expand variables in a here-document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variables {
    /// They do.
    Expand,
    /// The delimiter is in quotes: they do not.
    Keep,
}

/// What happens to tabs at the start of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tabs {
    /// They stay.
    Keep,
    /// They are removed (`<<-`).
    Remove,
}

impl Document {
    /// Whether `line`, which has no line break, ends the document.
    pub(super) fn ends_at(&self, line: &str) -> bool {
        let line = match self.tabs {
            Tabs::Keep => line,
            Tabs::Remove => line.trim_start_matches('\t'),
        };
        line == self.name
    }

    /// The text, without tabs if they are to be removed.
    pub(super) fn contents(&self) -> String {
        match self.tabs {
            Tabs::Keep => self.text.clone(),
            Tabs::Remove => {
                self.text.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
            }
        }
    }
}

/// Finds the here-documents that `split` asks for; their texts are empty yet.
///
/// # Errors
/// COPY or ADD has a `<<` without a delimiter.
pub(super) fn find(split: &Split) -> Result<Vec<Document>, String> {
    let rest = &split.rest;
    if !rest.contains("<<") || super::words::json(rest)?.is_some() {
        return Ok(Vec::new());
    }
    match &*split.keyword.to_ascii_uppercase() {
        "RUN" => Ok(in_shell_text(rest)),
        "COPY" | "ADD" => {
            if rest.split_ascii_whitespace().any(|word| word == "<<" || word == "<<-") {
                let hint = "write <<EOF without a blank";
                return Err(format!("<<: the delimiter of the here-document is missing: {hint}"));
            }
            Ok(rest.split_ascii_whitespace().filter_map(of_word).collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// Here-document that a whole word asks for.
pub(super) fn of_word(word: &str) -> Option<Document> {
    let (document, rest) = operator(word.trim_start_matches(|c: char| c.is_ascii_digit()))?;
    rest.is_empty().then_some(document)
}

/// Here-documents of a text for the shell. Quotes that do not end make it a text without any.
fn in_shell_text(text: &str) -> Vec<Document> {
    let mut found = Vec::new();
    let mut rest = text;
    // Parentheses of arithmetic that are open.
    let mut arithmetic = 0_usize;
    let mut at_start = true;
    while let Some(first) = rest.chars().next() {
        let after = rest.get(first.len_utf8()..).unwrap_or_default();
        match first {
            '\'' | '"' => {
                let Some(end) = behind_quote(after, first) else { return Vec::new() };
                rest = end;
                at_start = false;
                continue;
            }
            '\\' => {
                let mut chars = after.chars();
                chars.next();
                rest = chars.as_str();
                at_start = false;
                continue;
            }
            '$' if arithmetic == 0 && after.starts_with("((") => {
                arithmetic = 2;
                rest = after.get(2..).unwrap_or_default();
                continue;
            }
            '(' if arithmetic == 0 && at_start && after.starts_with('(') => {
                arithmetic = 2;
                rest = after.get(1..).unwrap_or_default();
                continue;
            }
            '(' if arithmetic > 0 => arithmetic += 1,
            ')' if arithmetic > 0 => arithmetic -= 1,
            '<' if arithmetic == 0 => {
                let end = rest.trim_start_matches('<');
                if at_start && let Some((document, behind)) = operator(rest) {
                    found.push(document);
                    rest = behind;
                } else {
                    rest = end;
                }
                at_start = false;
                continue;
            }
            _ => {}
        }
        // The number of a file belongs to the operator behind it.
        at_start = is_separator(first) || (at_start && first.is_ascii_digit());
        rest = after;
    }
    found
}

/// Characters before which a word of the shell ends.
fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')' | '<' | '>')
}

/// The text behind the end of a quote that has begun.
fn behind_quote(text: &str, quote: char) -> Option<&str> {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == quote {
            return Some(chars.as_str());
        }
        if c == '\\' && quote == '"' {
            chars.next();
        }
    }
    None
}

/// Here-document at the start of `text`, and the text behind its delimiter.
fn operator(text: &str) -> Option<(Document, &str)> {
    let rest = text.strip_prefix("<<")?;
    let (tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (Tabs::Remove, rest),
        None => (Tabs::Keep, rest),
    };
    let rest = rest.trim_start_matches([' ', '\t']);
    let mut name = String::new();
    let mut variables = Variables::Expand;
    let mut chars = rest.chars();
    let mut behind = rest;
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => {
                variables = Variables::Keep;
                let end = behind_quote(chars.as_str(), c)?;
                let inside = chars.as_str().len() - end.len() - 1;
                name.push_str(chars.as_str().get(..inside)?);
                chars = end.chars();
            }
            '\\' => name.extend(chars.next()),
            c if is_separator(c) => break,
            c => name.push(c),
        }
        behind = chars.as_str();
    }
    let document = Document { name, variables, tabs, text: String::new() };
    (!document.name.is_empty() && !text.starts_with("<<<")).then_some((document, behind))
}
