//! The entries of a config that say how the layers were made.
//!
//! Format: OCI image specification, `config.md`, `history`: the entries without `empty_layer` are as
//! many as the layers, in their order. Not every base keeps to it:
//!
//! | The base has | Result |
//! |---|---|
//! | as many entries as layers | the new entries follow |
//! | fewer entries, such as none | an entry with a remark and the time of the base stands for each missing one, then the new ones follow. `BuildKit` does the same |
//! | more entries | the history stays as it is, and there is a note: no entry could be said to be one of a new layer |

use std::iter::repeat_n;

use files::notes::Notes;
use files::time::timestamp;
use serde_json::{Map, Value, json};

use super::Made;
use super::blob::NewLayer;

/// Remark of the entry that stands for a missing one.
const MISSING: &str = "the base has no history of this layer";
/// Note about a base with more entries than layers.
const TOO_MANY: &str = "the history says nothing about the new layers, because the config of the \
                        base has more steps with a layer than layers";

/// The image below the new layers.
#[derive(Debug, Default)]
pub(super) struct Base<'a> {
    pub(super) name: &'a str,
    /// Number of its layers.
    pub(super) layers: usize,
    /// Time of the base in seconds since 1970.
    pub(super) created: i64,
}

/// Adds an entry for each of the steps `made` to the `history` of `base`. `created` is the time of
/// the image.
pub(super) fn add(
    history: &mut Vec<Value>,
    base: &Base<'_>,
    made: &[(Made<'_>, Option<NewLayer>)],
    created: &str,
    notes: &mut Notes,
) {
    let has_layer = |step: &&Value| step.get("empty_layer") != Some(&Value::Bool(true));
    let entries = history.iter().filter(has_layer).count();
    let Some(missing) = base.layers.checked_sub(entries) else {
        notes.add(TOO_MANY, base.name.as_bytes());
        return;
    };
    // The time is optional, but umoci-stat(1) 0.4 needs it.
    let missing_entry = json!({ "created": timestamp(base.created), "comment": MISSING });
    history.extend(repeat_n(missing_entry, missing));
    history.extend(made.iter().map(|(step, layer)| {
        let rows = [
            ("created", Some(json!(created))),
            ("created_by", Some(json!(step.created_by))),
            ("comment", step.comment.map(|comment| json!(comment))),
            ("empty_layer", layer.is_none().then_some(json!(true))),
        ];
        let known = rows.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(known.collect::<Map<_, _>>())
    }));
}
