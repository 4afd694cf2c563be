//! Variables, quotes and escapes in the words of instructions.
//!
//! | Text | Value |
//! |---|---|
//! | `$name`, `${name}` | the value, or nothing |
//! | `${name:-word}`, `${name-word}` | `word` if the value is missing (`:`: or empty) |
//! | `${name:+word}`, `${name+word}` | `word` if there is a value (`:`: that is not empty) |
//! | `${name:?text}`, `${name?text}` | a mistake with this text if the value is missing |
//! | `${name#pattern}`, `##`, `%`, `%%` | the value without a matching start or end |
//! | `${name/pattern/text}`, `//` | the value with the first match, or all, replaced |
//!
//! The rules are those of BuildKit, `frontend/dockerfile/shell`: double quotes keep an escape
//! that stands before an ordinary character, other text loses it; the text that replaces a match
//! keeps all escapes, so that `${x/a/\}}` has `\}`; a special parameter of the shell, such as `$1`
//! or `$@`, is empty.

use std::iter::Peekable;
use std::str::Chars;

use super::budget::Budget;
use super::pattern::{Length, Pattern};
use crate::table::quote;

/// Most `${…}` inside each other.
const DEPTH_MAX: usize = 16;

/// Values of variables.
pub(super) trait Lookup {
    /// Value of the variable `name`.
    fn get(&self, name: &str) -> Option<&str>;
}

/// What happens to quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotes {
    /// They are removed, and protect what is inside.
    Remove,
    /// They are ordinary characters.
    Keep,
}

/// What happens to escapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escapes {
    /// They are removed.
    Remove,
    /// They stay: a pattern gives them a meaning, and a replacement has them as they are.
    Keep,
}

/// Expands `text`.
///
/// # Errors
/// A quote or a brace does not end, a substitution is unknown, a variable that must have a value
/// has none, or the budget is used up.
pub(super) fn expand(
    text: &str,
    escape: char,
    quotes: Quotes,
    variables: &dyn Lookup,
    budget: &mut Budget,
) -> Result<String, String> {
    let chars = text.chars().peekable();
    let mut lexer = Lexer { chars, escape, quotes, variables, budget, depth: 0 };
    lexer.until(None, Escapes::Remove).map_err(|error| format!("expand {}: {error}", quote(text)))
}

/// Reader of a text with variables.
struct Lexer<'e, 't> {
    chars: Peekable<Chars<'t>>,
    escape: char,
    quotes: Quotes,
    variables: &'e dyn Lookup,
    budget: &'e mut Budget,
    /// `${…}` that are open.
    depth: usize,
}

impl Lexer<'_, '_> {
    /// Reads up to `stop`, which is read, too; `None`: up to the end of the text.
    fn until(&mut self, stop: Option<char>, escapes: Escapes) -> Result<String, String> {
        let mut result = String::new();
        while let Some(c) = self.chars.next() {
            if Some(c) == stop {
                return Ok(result);
            }
            match c {
                '$' => self.add(&mut result, Self::dollar)?,
                '\'' if self.quotes == Quotes::Remove => {
                    self.add(&mut result, Self::single_quotes)?;
                }
                '"' if self.quotes == Quotes::Remove => {
                    self.add(&mut result, |lexer| lexer.double_quotes(escapes))?;
                }
                c if c == self.escape => {
                    if escapes == Escapes::Keep {
                        result.push(c);
                    }
                    // An escape at the end escapes nothing.
                    result.extend(self.chars.next());
                }
                c => result.push(c),
            }
        }
        match stop {
            None => Ok(result),
            Some(stop) => Err(format!("{stop} is missing")),
        }
    }

    /// Adds what `read` returns to `result`, within the budget.
    fn add(
        &mut self,
        result: &mut String,
        read: impl FnOnce(&mut Self) -> Result<String, String>,
    ) -> Result<(), String> {
        let found = read(self)?;
        self.budget.bytes(found.len())?;
        result.push_str(&found);
        Ok(())
    }

    /// Text behind a single quote: nothing has a meaning in it.
    fn single_quotes(&mut self) -> Result<String, String> {
        let mut result = String::new();
        for c in self.chars.by_ref() {
            if c == '\'' {
                return Ok(result);
            }
            result.push(c);
        }
        Err("a single quote is missing; a quote as such is written \\'".to_owned())
    }

    /// Text behind a double quote: variables and escapes of `"`, `$` and the escape itself.
    fn double_quotes(&mut self, escapes: Escapes) -> Result<String, String> {
        let mut result = String::new();
        while let Some(c) = self.chars.next() {
            match c {
                '"' => return Ok(result),
                '$' => self.add(&mut result, Self::dollar)?,
                c if c == self.escape => {
                    let escape = self.escape;
                    let is_special = |c: &char| matches!(c, '"' | '$') || *c == escape;
                    let special = self.chars.next_if(is_special);
                    if escapes == Escapes::Keep || special.is_none() {
                        result.push(c);
                    }
                    result.extend(special);
                }
                c => result.push(c),
            }
        }
        Err("a double quote is missing; a quote as such is written \\\"".to_owned())
    }

    /// Value of what stands behind `$`.
    fn dollar(&mut self) -> Result<String, String> {
        if self.chars.next_if_eq(&'{').is_none() {
            let name = self.name();
            return Ok(match &*name {
                "" => "$".to_owned(),
                name => self.variables.get(name).unwrap_or_default().to_owned(),
            });
        }
        if self.depth == DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} substitutions are inside each other"));
        }
        self.depth += 1;
        let value = self.braces();
        self.depth -= 1;
        value
    }

    /// Value of what stands behind `${`.
    fn braces(&mut self) -> Result<String, String> {
        let name = self.name();
        let Some(modifier) = self.chars.next() else { return Err("} is missing".to_owned()) };
        if name.is_empty() {
            return Err("a substitution has no name: write ${NAME}".to_owned());
        }
        // The lookup borrows the variables, which outlive `self`.
        let variables = self.variables;
        let value = variables.get(&name);
        match modifier {
            '}' => Ok(value.unwrap_or_default().to_owned()),
            ':' => match self.chars.next() {
                Some(operator @ ('-' | '+' | '?')) => {
                    self.word(&name, value.filter(|value| !value.is_empty()), operator, "empty")
                }
                other => Err(unknown(&format!(":{}", other.unwrap_or(' ')))),
            },
            '-' | '+' | '?' => self.word(&name, value, modifier, "unset"),
            '#' | '%' => self.trim(value.unwrap_or_default(), modifier),
            '/' => self.replace(value.unwrap_or_default()),
            other => Err(unknown(&other.to_string())),
        }
    }

    /// `-`, `+` and `?`. A mistake says that the variable is `lack`.
    fn word(
        &mut self,
        name: &str,
        value: Option<&str>,
        operator: char,
        lack: &str,
    ) -> Result<String, String> {
        let word = self.until(Some('}'), Escapes::Remove)?;
        match (operator, value) {
            ('+', Some(_)) | ('-', None) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value.to_owned()),
            (_, None) if word.is_empty() => Err(format!("{} must not be {lack}", quote(name))),
            (_, None) => Err(format!("{}: {}", quote(name), quote(&word))),
        }
    }

    /// `#`, `##`, `%` and `%%`.
    fn trim(&mut self, value: &str, operator: char) -> Result<String, String> {
        let word = self.until(Some('}'), Escapes::Keep)?;
        let (word, length) = match word.strip_prefix(operator) {
            Some(word) => (word, Length::Longest),
            None => (&*word, Length::Shortest),
        };
        let pattern = Pattern::parse(word)?;
        let trimmed = match operator {
            '#' => pattern.trim_start(value, length, self.budget)?,
            _ => pattern.trim_end(value, length, self.budget)?,
        };
        Ok(trimmed.to_owned())
    }

    /// `/` and `//`.
    fn replace(&mut self, value: &str) -> Result<String, String> {
        let most = if self.chars.next_if_eq(&'/').is_some() { usize::MAX } else { 1 };
        let pattern = Pattern::parse(&self.until(Some('/'), Escapes::Keep)?)?;
        let replacement = self.until(Some('}'), Escapes::Keep)?;
        pattern.replace(value, &replacement, most, self.budget)
    }

    /// Name of a variable: letters, digits and `_`; or a number or a special parameter.
    fn name(&mut self) -> String {
        let mut name = String::new();
        if let Some(special) = self.chars.next_if(|c| "@*#?-$!".contains(*c)) {
            name.push(special);
            return name;
        }
        let is_number = self.chars.peek().is_some_and(char::is_ascii_digit);
        let belongs = |c: &char| match is_number {
            true => c.is_ascii_digit(),
            false => c.is_alphanumeric() || *c == '_',
        };
        while let Some(c) = self.chars.next_if(belongs) {
            name.push(c);
        }
        name
    }
}

/// Message about a modifier in `${name…}`.
fn unknown(modifier: &str) -> String {
    let modifier = quote(modifier);
    format!(
        "{modifier} in a substitution is not known: there are :- - :+ + :? ? # ## % %% / and //"
    )
}
