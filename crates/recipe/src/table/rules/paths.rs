//! Checks of paths. They look at the text only: whoever opens a path must not follow links out
//! of the package or the image either.

use super::super::quote::quote;

/// Fails if a path of the image is relative or has `..`.
pub(super) fn guest(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        let message = "a path of the image begins with /";
        return Err(format!("{} is relative: {message}", quote(text)));
    }
    match text.split('/').any(|name| name == "..") {
        true => Err(format!("{} has ..: write the path without it", quote(text))),
        false => Ok(()),
    }
}

/// Fails if a path of the package is absolute or leaves the package by `..`.
pub(super) fn package(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("the path is empty".to_owned());
    }
    if text.starts_with('/') {
        return Err(format!(
            "{} is absolute: name a file of the package by its path from the recipe's directory",
            quote(text)
        ));
    }
    let mut depth = 0_usize;
    for name in text.split('/') {
        let deeper = match name {
            "" | "." => Some(depth),
            ".." => depth.checked_sub(1),
            _ => depth.checked_add(1),
        };
        depth = deeper.ok_or_else(|| {
            format!(
                "{} is outside the package: keep the file below the recipe's directory",
                quote(text)
            )
        })?;
    }
    Ok(())
}

/// Fails if a path of the host is empty.
pub(super) fn host(text: &str) -> Result<(), String> {
    match text.is_empty() {
        true => Err("the path is empty".to_owned()),
        false => Ok(()),
    }
}

/// Fails if a pattern is not anchored at the root of the image.
pub(super) fn removal(text: &str) -> Result<(), String> {
    guest(text.strip_prefix('!').unwrap_or(text))
}
