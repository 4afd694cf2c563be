//! Patterns in `${name#pattern}` and its kin: `*`, `?` and escapes; brackets are ordinary
//! (BuildKit `convertShellPatternToRegex`).
//!
//! A pattern is a line of places; a set of places is kept for all characters, so the time is
//! their product, whatever the pattern is.

use super::budget::Budget;
use crate::table::quote;

/// Pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    places: Vec<Place>,
}

/// Place in a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Any text (`*`).
    Any,
    /// One character (`?`).
    One,
    /// This character.
    Char(char),
}

/// Which of several matches counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// The shortest one.
    Shortest,
    /// The longest one.
    Longest,
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// An escape stands before an ordinary character.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut places = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            places.push(match c {
                '*' => Place::Any,
                '?' => Place::One,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Place::Char(c),
                    _ => {
                        let text = quote(text);
                        return Err(format!("the pattern {text} escapes an ordinary character"));
                    }
                },
                c => Place::Char(c),
            });
        }
        Ok(Self { places })
    }

    /// `value` without the start that matches.
    pub(super) fn trim_start<'v>(
        &self,
        value: &'v str,
        length: Length,
        budget: &mut Budget,
    ) -> Result<&'v str, String> {
        let end = find(self.places.iter().copied(), value.chars(), length, budget)?;
        Ok(end.and_then(|end| value.get(end..)).unwrap_or(value))
    }

    /// `value` without the end that matches.
    pub(super) fn trim_end<'v>(
        &self,
        value: &'v str,
        length: Length,
        budget: &mut Budget,
    ) -> Result<&'v str, String> {
        let end = find(self.places.iter().copied().rev(), value.chars().rev(), length, budget)?;
        let start = end.and_then(|end| value.len().checked_sub(end));
        Ok(start.and_then(|start| value.get(..start)).unwrap_or(value))
    }

    /// `value` with `replacement` in place of the first `most` longest matches. Empty matches do
    /// not count, but for a pattern of `*` only, which matches any value once.
    pub(super) fn replace(
        &self,
        value: &str,
        replacement: &str,
        most: usize,
        budget: &mut Budget,
    ) -> Result<String, String> {
        if value.is_empty() && self.places.contains(&Place::Any) {
            let is_any = self.places.iter().all(|place| *place == Place::Any);
            return Ok(if is_any { replacement.to_owned() } else { String::new() });
        }
        let mut result = String::new();
        let mut left = most;
        let mut rest = value;
        while let Some(first) = rest.chars().next() {
            let places = self.places.iter().copied();
            let found = match left {
                0 => None,
                _ => find(places, rest.chars(), Length::Longest, budget)?,
            };
            match found.filter(|end| *end > 0) {
                Some(end) => {
                    left -= 1;
                    budget.bytes(replacement.len())?;
                    result.push_str(replacement);
                    rest = rest.get(end..).unwrap_or_default();
                }
                None => {
                    result.push(first);
                    rest = rest.get(first.len_utf8()..).unwrap_or_default();
                }
            }
        }
        Ok(result)
    }
}

/// Bytes of the characters at the start of `text` that `places` match.
fn find(
    places: impl Iterator<Item = Place>,
    text: impl Iterator<Item = char>,
    length: Length,
    budget: &mut Budget,
) -> Result<Option<usize>, String> {
    let places: Vec<Place> = places.collect();
    let end = places.len();
    // Numbers of places that may come next, in order; `end` is a match.
    let mut next = Vec::new();
    reach(&places, 0, &mut next);
    let mut found = next.last().filter(|place| **place == end).map(|_| 0);
    let mut bytes = 0;
    for c in text {
        if next.is_empty() || (found.is_some() && length == Length::Shortest) {
            break;
        }
        bytes += c.len_utf8();
        let mut reached = Vec::new();
        for at in next {
            budget.step()?;
            match places.get(at) {
                Some(Place::Any) => reach(&places, at, &mut reached),
                Some(Place::One) => reach(&places, at + 1, &mut reached),
                Some(Place::Char(expected)) if *expected == c => {
                    reach(&places, at + 1, &mut reached);
                }
                _ => {}
            }
        }
        if reached.last() == Some(&end) {
            found = Some(bytes);
        }
        next = reached;
    }
    Ok(found)
}

/// Adds place `at`, and those behind it that need no character. Numbers come in rising order.
fn reach(places: &[Place], at: usize, reached: &mut Vec<usize>) {
    let mut at = at;
    loop {
        if reached.last().is_none_or(|last| *last < at) {
            reached.push(at);
        }
        if places.get(at) != Some(&Place::Any) {
            return;
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_are_shortest_or_longest() {
        #[rustfmt::skip]
        const ROWS: &[(&str, &str, &str, &str, &str, &str)] = &[
            // value, pattern, #, ##, %, %%
            ("foobarbaz", "f*b",  "arbaz",     "az",        "foobarbaz", "foobarbaz"),
            ("foobarbaz", "b*",   "foobarbaz", "foobarbaz", "foobar",    "foo"),
            ("a.b.c",     "*.",   "b.c",       "c",         "a.b.c",     "a.b.c"),
            ("a.b.c",     ".*",   "a.b.c",     "a.b.c",     "a.b",       "a"),
            ("abc",       "?",    "bc",        "bc",        "ab",        "ab"),
            ("abc",       "*",    "abc",       "",          "abc",       ""),
            ("a*c",       "a\\*", "c",         "c",         "a*c",       "a*c"),
            ("éa",        "é",    "a",         "a",         "éa",        "éa"),
            ("abc",       "",     "abc",       "abc",       "abc",       "abc"),
            ("[a]b",      "[a]",  "b",         "b",         "[a]b",      "[a]b"),
            ("aab",       "**b",  "",          "",          "aa",        ""),
        ];
        for (value, text, start, starts, end, ends) in ROWS {
            let pattern = Pattern::parse(text).unwrap();
            let mut budget = Budget::one_of(1);
            let mut start_of = |length| pattern.trim_start(value, length, &mut budget).unwrap();
            assert_eq!(start_of(Length::Shortest), *start, "{value}#{text}");
            assert_eq!(start_of(Length::Longest), *starts, "{value}##{text}");
            let mut end_of = |length| pattern.trim_end(value, length, &mut budget).unwrap();
            assert_eq!(end_of(Length::Shortest), *end, "{value}%{text}");
            assert_eq!(end_of(Length::Longest), *ends, "{value}%%{text}");
        }
    }

    #[test]
    fn matches_are_replaced() {
        #[rustfmt::skip]
        const ROWS: &[(&str, &str, &str, usize, &str)] = &[
            ("aaba", "a",   "x",  1,          "xaba"),
            ("aaba", "a",   "x",  usize::MAX, "xxbx"),
            ("aaba", "a*b", "x",  usize::MAX, "xa"),
            ("aaba", "*",   "x",  usize::MAX, "x"),
            ("",     "*",   "x",  1,          "x"),
            ("",     "*a",  "x",  1,          ""),
            ("abc",  "",    "x",  usize::MAX, "abc"),
            ("a/b",  "\\/", "::", 1,          "a::b"),
            ("abc",  "z",   "x",  usize::MAX, "abc"),
        ];
        for (value, text, replacement, most, expected) in ROWS {
            let pattern = Pattern::parse(text).unwrap();
            let found = pattern.replace(value, replacement, *most, &mut Budget::one_of(1));
            assert_eq!(found.as_deref(), Ok(*expected), "{value}/{text}/{replacement}");
        }
        assert!(Pattern::parse("\\a").is_err());
        assert!(Pattern::parse("a\\").is_err());
    }

    /// Patterns that need exponential time in a matcher that tries one way after the other.
    #[test]
    fn hostile_patterns_stop() {
        let pattern = Pattern::parse(&"*a".repeat(2000)).unwrap();
        let value = "a".repeat(100_000);
        let found = pattern.trim_start(&value, Length::Longest, &mut Budget::one_of(1));
        assert!(found.unwrap_err().contains("take too long"));
    }
}
