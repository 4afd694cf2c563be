//! Options whose values are names from a table.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use files::named::Named;

/// Parser for an option whose values are the names in `T::NAMES`; `--help` lists the names
/// and their descriptions.
pub(crate) fn named<T: Named + Send + Sync>() -> impl TypedValueParser<Value = T> {
    let value = |&(name, _, help): &(&'static str, T, &'static str)| {
        let value = PossibleValue::new(name);
        if help.is_empty() { value } else { value.help(help) }
    };
    let values: Vec<_> = T::NAMES.iter().map(value).collect();
    PossibleValuesParser::new(values).try_map(|word| {
        let found = T::NAMES.iter().find(|row| row.0 == word);
        found.map(|row| row.1).ok_or("no such value")
    })
}
