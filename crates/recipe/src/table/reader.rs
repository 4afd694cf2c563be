//! Text → values of a table of known keys.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeString, DeTable, DeValue};

use super::fields::{Field, Fields, Item, Value};
use super::forms::{Form, Key, Table};
use super::lines::{Fault, Lines};
use super::quote::{list, nearest, quote};
use super::rules::{Rule, rule};
use super::together;
use crate::model::Mistake;

/// Most bytes of a text. Long scripts belong in files of the package.
const TEXT_MAX: usize = 1 << 20;

/// Key of the version.
const VERSION: &str = "version";

/// Reads `text`, which has the keys of `table`, and hands the values to `build`.
///
/// # Errors
/// The text is too long or no TOML, its version is not `version`, it has a key that is not in the
/// table, a value does not have the form of its key, or `build` has an objection.
pub(crate) fn read<T>(
    text: &str,
    table: &'static Table,
    version: u32,
    build: impl FnOnce(&Fields, &Lines<'_>) -> Result<T, Fault>,
) -> Result<T, Mistake> {
    if text.len() > TEXT_MAX {
        let message = format!("the text has {} bytes; at most {TEXT_MAX} are read", text.len());
        return Err(Lines::new("").mistake(Fault::new(0, message)));
    }
    let lines = Lines::new(text);
    let parsed = DeTable::parse(text).map_err(|error| {
        let at = error.span().unwrap_or_default().start;
        lines.mistake(Fault::new(at, error.message()))
    })?;
    let result = check_version(parsed.get_ref(), version)
        .and_then(|()| fields(table, 0, parsed.get_ref()))
        .and_then(|fields| build(&fields, &lines));
    result.map_err(|fault| lines.mistake(fault))
}

/// Checks the version before the keys: a later version may have others.
fn check_version(table: &DeTable<'_>, version: u32) -> Result<(), Fault> {
    let Some(value) = table.get(VERSION) else {
        return Err(Fault::new(0, format!("the version is missing: write {VERSION} = {version}")));
    };
    match value.get_ref() {
        DeValue::Integer(number) if integer(number) == Some(version.into()) => Ok(()),
        DeValue::Integer(number) => Err(Fault::new(
            value.span().start,
            format!(
                "version {} is not known: this program reads {VERSION} = {version}",
                number.as_str()
            ),
        )),
        other => {
            let message = format!(
                "{VERSION} has the wrong type ({}): write {VERSION} = {version}",
                other.type_str()
            );
            Err(Fault::new(value.span().start, message))
        }
    }
}

fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// Name and value of an entry of a table.
type Entry<'a> = (&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>);

/// Entries of a table in the order of the text.
fn entries<'a>(table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

/// Values of the `found` table, which is at byte `at`.
fn fields(table: &'static Table, at: usize, found: &DeTable<'_>) -> Result<Fields, Fault> {
    let field = |(name, value): Entry<'_>| {
        let key = table.keys.iter().find(|key| key.name == name.get_ref().as_ref());
        let key = key.ok_or_else(|| Fault::new(name.span().start, unknown(name, table)))?;
        let (name_at, at) = (name.span().start, value.span().start);
        Ok(Field { key, name_at, at, value: read_value(key, name_at, value)? })
    };
    let fields = entries(found).into_iter().map(field).collect::<Result<Vec<_>, _>>()?;
    let fields = Fields { at, fields };
    together::check(table, &fields)?;
    Ok(fields)
}

/// Message about a key that the table does not have.
fn unknown(name: &Spanned<DeString<'_>>, table: &Table) -> String {
    let known = || table.keys.iter().map(|key| key.name);
    let shown = quote(name.get_ref());
    match nearest(name.get_ref(), known()) {
        Some(key) => format!("unknown key {shown}: did you mean {key}?"),
        None => format!("unknown key {shown}: {} has {}", table.name, list(known(), "and")),
    }
}

fn read_value(key: &Key, name_at: usize, value: &Spanned<DeValue<'_>>) -> Result<Value, Fault> {
    let at = value.span().start;
    let fail = |message: String| Fault::new(at, format!("{}: {message}", key.name));
    Ok(match (key.form, value.get_ref()) {
        (Form::Truth | Form::TruthOrTexts(_), DeValue::Boolean(truth)) => Value::Truth(*truth),
        (Form::True, DeValue::Boolean(true)) => Value::Truth(true),
        (Form::True, DeValue::Boolean(false)) => {
            return Err(fail("write true, or leave the key out".into()));
        }
        (Form::Number(least, most), DeValue::Integer(number)) => {
            let found = integer(number).and_then(|number| u32::try_from(number).ok());
            let found = found.filter(|number| (least..=most).contains(number));
            let form = || fail(format!("give a number from {least} to {most}"));
            Value::Number(found.ok_or_else(form)?)
        }
        (Form::Text(rule), DeValue::String(text)) => Value::Text(checked(key, at, rule, text)?),
        (Form::Texts(rule) | Form::TruthOrTexts(rule), DeValue::Array(found)) => {
            Value::Texts(items(key, rule, found)?)
        }
        (Form::SomeTexts(rule), DeValue::Array(found)) => {
            let items = items(key, rule, found)?;
            if items.is_empty() {
                return Err(fail(format!("the list is empty: write {}", key.example())));
            }
            Value::Texts(items)
        }
        (Form::Words, DeValue::Array(found)) => {
            let items = items(key, rule::ANY, found)?;
            if items.first().is_none_or(|program| program.text.is_empty()) {
                return Err(fail(format!("the command is empty: write {}", key.example())));
            }
            Value::Texts(items)
        }
        (Form::Map(names, values), DeValue::Table(found)) => {
            Value::Map(map(key, names, values, found)?)
        }
        (Form::Table(form), DeValue::Table(found)) => Value::Table(fields(form, name_at, found)?),
        (Form::Tables(form), DeValue::Array(found)) => {
            let one = |value: &Spanned<DeValue<'_>>| {
                fields(form, value.span().start, inner_table(key, "an entry", value)?)
            };
            Value::Tables(found.iter().map(one).collect::<Result<_, _>>()?)
        }
        (Form::Named(rule, form), DeValue::Table(found)) => {
            let one = |(name, value): Entry<'_>| {
                let text = checked(key, name.span().start, rule, name.get_ref())?;
                let found = inner_table(key, &quote(&text), value)?;
                Ok((text, fields(form, name.span().start, found)?))
            };
            let named = entries(found).into_iter().map(one);
            Value::Named(named.collect::<Result<BTreeMap<_, _>, Fault>>()?)
        }
        (_, other) => {
            let (name, kind) = (key.name, other.type_str());
            let (types, example) = (key.types(), key.example());
            let message =
                format!("{name} has the wrong type ({kind}); it is {types}: write {example}");
            return Err(Fault::new(at, message));
        }
    })
}

/// The texts of a list.
fn items(key: &Key, rule: Rule, found: &DeArray<'_>) -> Result<Vec<Item>, Fault> {
    found.iter().map(|value| item(key, rule, "an entry", value)).collect()
}

/// Texts by their names.
fn map(
    key: &Key,
    names: Rule,
    values: Rule,
    found: &DeTable<'_>,
) -> Result<BTreeMap<String, String>, Fault> {
    let pair = |(name, value): Entry<'_>| {
        let text = checked(key, name.span().start, names, name.get_ref())?;
        let item = item(key, values, &quote(&text), value)?;
        Ok((text, item.text))
    };
    entries(found).into_iter().map(pair).collect()
}

/// A text inside the value of a key. Messages call it `name`.
fn item(key: &Key, rule: Rule, name: &str, value: &Spanned<DeValue<'_>>) -> Result<Item, Fault> {
    let at = value.span().start;
    let text = value.get_ref().as_str().ok_or_else(|| {
        let (key, kind) = (key.name, value.get_ref().type_str());
        let hint = "it is a string: put it into quotes";
        Fault::new(at, format!("{key}: {name} has the wrong type ({kind}); {hint}"))
    })?;
    Ok(Item { at, text: checked(key, at, rule, text)? })
}

/// A table inside the value of a key. Messages call it `name`.
fn inner_table<'a>(
    key: &Key,
    name: &str,
    value: &'a Spanned<DeValue<'a>>,
) -> Result<&'a DeTable<'a>, Fault> {
    value.get_ref().as_table().ok_or_else(|| {
        let (example, key, kind) = (key.example(), key.name, value.get_ref().type_str());
        let message =
            format!("{key}: {name} has the wrong type ({kind}); it is a table: write {example}");
        Fault::new(value.span().start, message)
    })
}

/// `text`, if it keeps the rule.
fn checked(key: &Key, at: usize, rule: Rule, text: &str) -> Result<String, Fault> {
    let checked = rule.check(text);
    checked.map_err(|message| Fault::new(at, format!("{}: {message}", key.name)))?;
    Ok(text.to_owned())
}
