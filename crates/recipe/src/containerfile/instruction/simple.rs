//! Instructions that only change the config, and WORKDIR.

use super::Parts;
use crate::containerfile::form::{Argument, Command, Pair};
use crate::containerfile::model::Kind;
use crate::containerfile::words::{first_word, json, quoted_words};
use crate::table::quote;

/// ARG: `NAME` or `NAME=DEFAULT`, several.
pub(super) fn arg(parts: &Parts<'_>) -> Result<Kind, String> {
    let words = quoted_words(parts.needed("ARG NAME=DEFAULT")?, parts.escape);
    let argument = |word: String| {
        let (name, default) = match word.split_once('=') {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (&*word, None),
        };
        named(parts.keyword, name)?;
        Ok(Argument { name: name.to_owned(), default })
    };
    words.into_iter().map(argument).collect::<Result<_, String>>().map(Kind::Arg)
}

/// CMD.
pub(super) fn cmd(parts: &Parts<'_>) -> Result<Kind, String> {
    let rest = parts.needed(r#"CMD ["PROGRAM", "ARGUMENT"]"#)?;
    command(parts.keyword, rest).map(Kind::Cmd)
}

/// ENTRYPOINT.
pub(super) fn entrypoint(parts: &Parts<'_>) -> Result<Kind, String> {
    let rest = parts.needed(r#"ENTRYPOINT ["PROGRAM", "ARGUMENT"]"#)?;
    command(parts.keyword, rest).map(Kind::Entrypoint)
}

/// Command in JSON form or shell form.
pub(super) fn command(keyword: &str, text: &str) -> Result<Command, String> {
    let words = json(text).map_err(|error| format!("{keyword}: {error}"))?;
    Ok(words.map_or_else(|| Command::Shell(text.to_owned()), Command::Words))
}

/// ENV.
pub(super) fn env(parts: &Parts<'_>) -> Result<Kind, String> {
    pairs(parts, "ENV NAME=VALUE").map(Kind::Env)
}

/// LABEL.
pub(super) fn label(parts: &Parts<'_>) -> Result<Kind, String> {
    pairs(parts, "LABEL NAME=VALUE").map(Kind::Label)
}

/// `NAME=VALUE`, several; or the old form `NAME VALUE`, whose value has the whole rest.
fn pairs(parts: &Parts<'_>, example: &str) -> Result<Vec<Pair>, String> {
    let rest = parts.needed(example)?;
    let words = quoted_words(rest, parts.escape);
    if words.first().is_some_and(|word| !word.contains('=')) {
        let (name, value) = first_word(rest);
        let value = value.trim_start();
        if value.is_empty() {
            let (keyword, name) = (parts.keyword, quote(name));
            return Err(format!("{keyword} {name} has no value: write {example}"));
        }
        return Ok(vec![Pair { name: name.to_owned(), value: value.to_owned() }]);
    }
    let pair = |word: &String| {
        let (name, value) = word.split_once('=').ok_or_else(|| {
            let (keyword, word) = (parts.keyword, quote(word));
            format!("{keyword}: {word} has no =: write {example}, with quotes around a value that has blanks")
        })?;
        named(parts.keyword, name)?;
        Ok(Pair { name: name.to_owned(), value: value.to_owned() })
    };
    words.iter().map(pair).collect()
}

/// Checks that a name is not empty.
fn named(keyword: &str, name: &str) -> Result<(), String> {
    match name {
        "" => Err(format!("{keyword}: a name is empty: write {keyword} NAME=VALUE")),
        _ => Ok(()),
    }
}

/// EXPOSE.
pub(super) fn expose(parts: &Parts<'_>) -> Result<Kind, String> {
    let rest = parts.needed("EXPOSE 80 or EXPOSE 80/udp")?;
    Ok(Kind::Expose(rest.split_whitespace().map(ToOwned::to_owned).collect()))
}

/// MAINTAINER.
pub(super) fn maintainer(parts: &Parts<'_>) -> Result<Kind, String> {
    Ok(Kind::Maintainer(parts.needed("LABEL org.opencontainers.image.authors=NAME")?.to_owned()))
}

/// SHELL.
pub(super) fn shell(parts: &Parts<'_>) -> Result<Kind, String> {
    const EXAMPLE: &str = r#"SHELL ["/bin/bash", "-c"]"#;
    let words = json(parts.needed(EXAMPLE)?).map_err(|error| format!("SHELL: {error}"))?;
    match words {
        Some(words) if !words.is_empty() => Ok(Kind::Shell(words)),
        Some(_) => Err(format!("SHELL has no words: write {EXAMPLE}")),
        None => Err(format!("SHELL has the JSON form only: write {EXAMPLE}")),
    }
}

/// STOPSIGNAL.
pub(super) fn stop_signal(parts: &Parts<'_>) -> Result<Kind, String> {
    Ok(Kind::StopSignal(parts.needed("STOPSIGNAL SIGTERM")?.to_owned()))
}

/// USER.
pub(super) fn user(parts: &Parts<'_>) -> Result<Kind, String> {
    Ok(Kind::User(parts.needed("USER NAME or USER NAME:GROUP")?.to_owned()))
}

/// VOLUME: JSON form or words.
pub(super) fn volume(parts: &Parts<'_>) -> Result<Kind, String> {
    let rest = parts.needed("VOLUME /data")?;
    let words = json(rest).map_err(|error| format!("VOLUME: {error}"))?;
    let words = words.unwrap_or_else(|| rest.split_whitespace().map(ToOwned::to_owned).collect());
    if words.is_empty() || words.iter().any(|word| word.trim().is_empty()) {
        return Err("VOLUME: a path is empty: write VOLUME /data".to_owned());
    }
    Ok(Kind::Volume(words.iter().map(|word| word.trim().to_owned()).collect()))
}

/// WORKDIR.
pub(super) fn workdir(parts: &Parts<'_>) -> Result<Kind, String> {
    Ok(Kind::Workdir(parts.needed("WORKDIR /app")?.to_owned()))
}
