//! Paths of other tools' files as paths of a recipe.
//!
//! A guest path of a recipe is absolute and has no `..`; a path of the package is relative and
//! stays in the package.

use super::source::Value;
use crate::model::Mistake;

/// Guest path of a value. A missing first `/` is added, as buildfs does; a last `/` stays.
///
/// # Errors
/// The value is no text, is empty, or has `..`.
pub(super) fn guest(value: &Value<'_>) -> Result<String, Mistake> {
    guest_text(value.text()?).map_err(|message| value.mistake(message))
}

/// As [`guest`], of a text.
pub(super) fn guest_text(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        return Err("must be a path of the image");
    }
    let names: Vec<_> = text.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    if names.contains(&"..") {
        return Err("must be a path of the image without \"..\"");
    }
    let mut path = String::new();
    for name in &names {
        path.push('/');
        path.push_str(name);
    }
    if names.is_empty() || text.ends_with('/') {
        path.push('/');
    }
    Ok(path)
}

/// As [`guest`], for a directory: without a last `/`.
///
/// # Errors
/// As [`guest`].
pub(super) fn guest_directory(value: &Value<'_>) -> Result<String, Mistake> {
    let path = guest(value)?;
    Ok(if path.len() > 1 { path.trim_end_matches('/').to_owned() } else { path })
}

/// Where absolute paths of a tool begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absolute {
    /// At the package.
    Package,
    /// At the root of the host.
    Host,
}

/// Path in the package of the file `text`. If the file is outside of the package, the path is
/// where to copy it, and a note of `value` says so.
///
/// # Errors
/// The path is empty.
pub(super) fn package(
    value: &Value<'_>,
    text: &str,
    absolute: Absolute,
) -> Result<String, Mistake> {
    if text.is_empty() {
        return Err(value.mistake("must be the path of a file"));
    }
    let mut is_outside = text.starts_with('/') && absolute == Absolute::Host;
    let mut names = Vec::new();
    for name in text.split('/') {
        match name {
            "" | "." => {}
            ".." => is_outside |= names.pop().is_none(),
            name => names.push(name),
        }
    }
    let path = if names.is_empty() { ".".to_owned() } else { names.join("/") };
    if is_outside {
        let why = "is outside of the recipe's directory: copy it there, to";
        value.note(&format!("{text} {why} {path}"));
    }
    if path.contains(['*', '?', '[', '\\']) {
        value.note("a recipe reads * ? [ and \\ in the name of a file as a pattern");
    }
    Ok(path)
}

/// Whether `path` is `above` or below it. Both are guest paths without a last `/`.
pub(super) fn is_covered(path: &str, above: &str) -> bool {
    let above = above.trim_end_matches('/');
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
