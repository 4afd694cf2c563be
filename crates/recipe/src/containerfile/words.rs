//! Keyword, flags and words of an instruction. Nothing is expanded here.

use crate::table::quote;

/// Parts of a logical line.
#[derive(Debug)]
pub(super) struct Split {
    /// First word.
    pub(super) keyword: String,
    /// Flags between the keyword and the rest, without their `--` and without quotes.
    pub(super) flags: Vec<String>,
    /// The rest, without blanks around it.
    pub(super) rest: String,
}

/// Splits a logical line that is not empty.
///
/// # Errors
/// A quote in a flag does not end.
pub(super) fn split(text: &str, escape: char) -> Result<Split, String> {
    let (keyword, rest) = first_word(text);
    let mut rest = rest.trim_start();
    let mut flags = Vec::new();
    while let Some(start) = rest.strip_prefix("--") {
        let (flag, behind) = flag(start, escape)?;
        rest = behind.trim_start();
        // `--` alone ends the flags.
        if flag.is_empty() {
            break;
        }
        flags.push(flag);
    }
    Ok(Split { keyword: keyword.to_owned(), flags, rest: rest.trim_end().to_owned() })
}

/// The first word of `text`, and what is behind it, blanks included.
pub(super) fn first_word(text: &str) -> (&str, &str) {
    text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()))
}

/// Flag at the start of `text` without its quotes, and the text behind it.
fn flag(text: &str, escape: char) -> Result<(String, &str), String> {
    let mut flag = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    loop {
        let here = chars.as_str();
        let Some(c) = chars.next() else { break };
        match quote {
            None if c.is_whitespace() => return Ok((flag, here)),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == escape => flag.extend(chars.next()),
            _ => flag.push(c),
        }
    }
    match quote {
        Some(open) => Err(format!("a quote in a flag does not end: a {open} is missing")),
        None => Ok((flag, "")),
    }
}

/// Words between blanks, with their quotes: blanks in quotes and behind an escape belong to a
/// word.
pub(super) fn quoted_words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        if c == escape && quote != Some('\'') {
            // An escape at the end escapes nothing.
            if let Some(next) = chars.next() {
                word.extend([c, next]);
            }
            continue;
        }
        match quote {
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Words of the JSON form; `None` if `text` is no JSON array, such as `[ -f x ]`.
///
/// # Errors
/// The array has something that is no string, or a string with a NUL.
pub(super) fn json(text: &str) -> Result<Option<Vec<String>>, String> {
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Ok(None) };
    let word = |value| match value {
        serde_json::Value::String(word) if word.contains('\0') => {
            Err("the JSON form has \\u0000, which no command or path can have: remove it"
                .to_owned())
        }
        serde_json::Value::String(word) => Ok(word),
        other => {
            let other = quote(&other.to_string());
            Err(format!("the JSON form has {other}: all words are strings in double quotes"))
        }
    };
    values.into_iter().map(word).collect::<Result<_, _>>().map(Some)
}
