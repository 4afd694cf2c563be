//! COPY and ADD.

use super::Parts;
use crate::containerfile::action::Unpack;
use crate::containerfile::documents::of_word;
use crate::containerfile::flags::{Flag, Takes};
use crate::containerfile::form::{CopyForm, CopyKeyword, SourceForm};
use crate::containerfile::model::Kind;
use crate::containerfile::words::json;

/// Flags of COPY.
#[rustfmt::skip]
pub(super) const COPY_FLAGS: &[Flag] = &[
    Flag { name: "from",    takes: Takes::Value },
    Flag { name: "chown",   takes: Takes::Value },
    Flag { name: "chmod",   takes: Takes::Value },
    Flag { name: "exclude", takes: Takes::Values },
    // Accepted without an effect. BuildKit makes the layer without looking at the image, so that
    // a link at the destination is replaced there; here it is followed, as without the flag.
    Flag { name: "link",    takes: Takes::Truth },
    Flag { name: "parents", takes: Takes::Refused("copy each directory to its own target") },
];

/// Flags of ADD.
#[rustfmt::skip]
pub(super) const ADD_FLAGS: &[Flag] = &[
    Flag { name: "chown",        takes: Takes::Value },
    Flag { name: "chmod",        takes: Takes::Value },
    Flag { name: "checksum",     takes: Takes::Value },
    Flag { name: "exclude",      takes: Takes::Values },
    Flag { name: "unpack",       takes: Takes::Truth },
    Flag { name: "link",         takes: Takes::Truth },
    Flag { name: "keep-git-dir", takes: Takes::Refused("clone the repository into the context and COPY it") },
];

/// Reads COPY or ADD.
pub(super) fn copy(parts: &Parts<'_>) -> Result<Kind, String> {
    let keyword = match parts.keyword {
        "ADD" => CopyKeyword::Add,
        _ => CopyKeyword::Copy,
    };
    let name = keyword.name();
    let rest = parts.needed(&format!("{name} SOURCE TARGET"))?;
    let words = json(rest).map_err(|error| format!("{name}: {error}"))?;
    let is_json = words.is_some();
    let words: Vec<String> =
        words.unwrap_or_else(|| rest.split_whitespace().map(ToOwned::to_owned).collect());
    let (to, sources) = match words.split_last() {
        Some((to, sources)) if !sources.is_empty() => (to, sources),
        _ => return Err(format!("{name} has no target: write {name} SOURCE TARGET")),
    };
    if !is_json && of_word(to).is_some() {
        return Err(format!(
            "{name}: a here-document cannot be the target: put it before the target"
        ));
    }
    let mut documents = parts.line.documents.iter();
    let source = |word: &String| match of_word(word) {
        // `lines` has found one document for each such word, in the same order.
        Some(empty) if !is_json => SourceForm::Document(documents.next().cloned().unwrap_or(empty)),
        _ => SourceForm::Path(word.clone()),
    };
    let sources = sources.iter().map(source).collect();
    let flag = |name: &'static str| parts.flags.value(name).map(ToOwned::to_owned);
    let unpack = |value| match value {
        "true" => Unpack::Yes,
        _ => Unpack::No,
    };
    Ok(Kind::Copy(Box::new(CopyForm {
        keyword,
        sources,
        to: to.clone(),
        from: flag("from"),
        owner: flag("chown"),
        mode: flag("chmod"),
        exclude: parts.flags.values("exclude").map(ToOwned::to_owned).collect(),
        checksum: flag("checksum"),
        unpack: parts.flags.value("unpack").map(unpack),
    })))
}
