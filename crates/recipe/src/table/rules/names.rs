//! Checks of names.

use super::super::quote::{list, nearest, quote};

/// Longest name of a recipe or a secret in bytes; with an ending it stays a file name.
const NAME_MAX: usize = 63;

/// Longest host name in bytes (`__NEW_UTS_LEN`).
const HOST_MAX: usize = 64;

/// Fails with `form` if `is_fine` is false.
fn ensure(is_fine: bool, text: &str, form: &str) -> Result<(), String> {
    match is_fine {
        true => Ok(()),
        false => Err(format!("{}: {form}", quote(text))),
    }
}

pub(super) fn script(text: &str) -> Result<(), String> {
    match text.trim().is_empty() {
        true => Err("the command is empty".to_owned()),
        false => Ok(()),
    }
}

pub(super) fn line(text: &str) -> Result<(), String> {
    match text.is_empty() {
        true => Err("the text is empty".to_owned()),
        false => ensure(!text.contains(char::is_control), text, "give one line of text"),
    }
}

/// Whether `text` is a name of ASCII letters, digits, `-`, `_` and `.`, a letter or digit first.
fn is_name(text: &str, longest: usize) -> bool {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    starts && text.len() <= longest && text.chars().all(is_fine)
}

pub(super) fn recipe(text: &str) -> Result<(), String> {
    let is_fine = is_name(text, NAME_MAX) && !text.contains(|c: char| c.is_ascii_uppercase());
    ensure(
        is_fine,
        text,
        "small letters, digits, - _ and . only, a letter or digit first, at most 63",
    )
}

pub(super) fn secret(text: &str) -> Result<(), String> {
    let form = "letters, digits, - _ and . only, a letter or digit first, at most 63";
    ensure(is_name(text, NAME_MAX), text, form)
}

pub(super) fn host(text: &str) -> Result<(), String> {
    let form = "letters, digits, - _ and . only, a letter or digit first, at most 64";
    ensure(is_name(text, HOST_MAX), text, form)
}

pub(super) fn variable(text: &str) -> Result<(), String> {
    let is_fine = |c: char| c != '=' && !c.is_control() && !c.is_whitespace();
    let form = "the name of a variable is not empty and has neither = nor white space";
    ensure(!text.is_empty() && text.chars().all(is_fine), text, form)
}

pub(super) fn owner(text: &str) -> Result<(), String> {
    let is_bad = |c: char| c == '/' || c.is_control() || c.is_whitespace();
    let is_word = |word: &str| !word.is_empty() && !word.contains(is_bad);
    let (user, group) = text.split_once(':').unwrap_or((text, "0"));
    let is_fine = is_word(user) && is_word(group) && !group.contains(':');
    ensure(is_fine, text, "give USER or USER:GROUP, names or numbers, such as app or 0:0")
}

pub(super) fn applet(text: &str) -> Result<(), String> {
    let is_bad = |c: char| c == '/' || c.is_control() || c.is_whitespace();
    let is_fine = !matches!(text, "" | "." | "..") && !text.contains(is_bad);
    ensure(is_fine, text, "give the name of an applet without a directory, such as sh")
}

pub(super) fn signal(text: &str) -> Result<(), String> {
    let form = "give the name or the number of a signal, such as TERM, SIGQUIT, 3 or RTMIN+3";
    ensure(proto::signal::parse(text.as_bytes()).is_some(), text, form)
}

pub(super) fn platform(text: &str) -> Result<(), String> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_word = |word: &str| !word.is_empty() && word.chars().all(is_fine);
    let words = text.split('/');
    let is_platform = words.clone().count() <= 3 && words.clone().all(is_word);
    ensure(
        is_platform,
        text,
        "give OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm64",
    )
}

pub(super) fn one_of(text: &str, names: &[&str]) -> Result<(), String> {
    match (names.contains(&text), nearest(text, names.iter().copied())) {
        (true, _) => Ok(()),
        (false, Some(name)) => Err(format!("{}: did you mean {name}?", quote(text))),
        (false, None) => {
            Err(format!("{}: give {}", quote(text), list(names.iter().copied(), "or")))
        }
    }
}

pub(super) fn url(text: &str) -> Result<(), String> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let has_host = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    let is_bad = |c: char| c.is_control() || c.is_whitespace();
    ensure(
        has_host && !text.contains(is_bad),
        text,
        "give an address that begins with https:// or http://; files of the package are for put",
    )
}
