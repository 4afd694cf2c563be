//! Which keys of a table go together.

use super::fields::{Field, Fields};
use super::forms::{Need, Table};
use super::lines::Fault;
use super::quote::list;

/// Checks that the table has exactly one verb if it has verbs, everything that it must have, and
/// nothing that does not go with its verb.
pub(super) fn check(table: &Table, fields: &Fields) -> Result<(), Fault> {
    let verb = verb(table, fields)?;
    if let Some(verb) = verb {
        fields.fields.iter().try_for_each(|field| check_with(verb, field))?;
    }
    let (name, at) = verb.map_or(("", fields.at), |verb| (verb.key.name, verb.name_at));
    let is_given = |name| fields.fields.iter().any(|field| field.key.name == name);
    let missing = table.keys.iter().find(|key| key.need.is_must(name) && !is_given(key.name));
    missing.map_or(Ok(()), |key| {
        let who = if name.is_empty() { table.name } else { name };
        Err(Fault::new(at, format!("{who} needs {}: write {}", key.name, key.example())))
    })
}

/// The only verb; `None` if the table has no verbs.
fn verb<'f>(table: &Table, fields: &'f Fields) -> Result<Option<&'f Field>, Fault> {
    let given: Vec<_> =
        fields.fields.iter().filter(|field| matches!(field.key.need, Need::Verb)).collect();
    let verbs = || list(table.verbs(), "or");
    match given[..] {
        [] if table.verbs().next().is_none() => Ok(None),
        [] => Err(Fault::new(fields.at, format!("{} needs one of {}", table.name, verbs()))),
        [verb] => Ok(Some(verb)),
        [first, second, ..] => Err(Fault::new(
            second.name_at,
            format!(
                "{} has both {} and {}: give only one of {}",
                table.name,
                first.key.name,
                second.key.name,
                verbs()
            ),
        )),
    }
}

/// Checks that a key goes with the verb.
fn check_with(verb: &Field, field: &Field) -> Result<(), Fault> {
    let verb = verb.key.name;
    match field.key.need.verbs() {
        Some(verbs) if !verbs.contains(&verb) => Err(Fault::new(
            field.name_at,
            format!(
                "{} does not go with {verb}, only with {}",
                field.key.name,
                list(verbs.iter().copied(), "and")
            ),
        )),
        _ => Ok(()),
    }
}
