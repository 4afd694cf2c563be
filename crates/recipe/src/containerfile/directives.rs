//! Parser directives: comments such as `# escape=\`` before everything else.

use crate::table::quote;
use crate::{Mistake, Position};

/// Names of directives.
const NAMES: &[&str] = &["syntax", "escape", "check"];

/// Characters that can escape another one.
const ESCAPES: &[(&str, char)] = &[("\\", '\\'), ("`", '`')];

/// Reads the directives at the start of `text`. Returns the character that escapes another one,
/// and remarks. Directives end at the first line that is none; later ones are comments.
///
/// # Errors
/// A directive is given twice, or the escape is no known character.
pub(super) fn read(text: &str) -> Result<(char, Vec<Mistake>), Mistake> {
    let mut escape = '\\';
    let mut seen: Vec<&str> = Vec::new();
    let mut notes = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some((name, value)) = directive(line) else { break };
        let position = Position { line: index + 1, column: 1 };
        let mistake = |message| Mistake { position, message };
        if seen.contains(&name) {
            return Err(mistake(format!("the directive {name} is given twice: keep one")));
        }
        seen.push(name);
        match name {
            "escape" => {
                let found = ESCAPES.iter().find(|(text, _)| *text == value);
                let unknown = || {
                    let value = quote(value);
                    mistake(format!("escape={value} is not known: give \\ or `"))
                };
                escape = found.ok_or_else(unknown)?.1;
            }
            "syntax" => {
                let value = quote(value);
                let message = format!("syntax={value} is ignored: chrootvm reads the file itself");
                notes.push(mistake(message));
            }
            _ => {}
        }
    }
    Ok((escape, notes))
}

/// Name and value of the directive in `line`.
fn directive(line: &str) -> Option<(&'static str, &str)> {
    let (name, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let found = NAMES.iter().find(|known| known.eq_ignore_ascii_case(name))?;
    (!value.is_empty()).then_some((*found, value))
}
