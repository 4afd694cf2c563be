//! The JSON schema of recipe.toml, for editors.
//!
//! Interface: JSON Schema, draft 2020-12 (json-schema.org). It follows the tables of
//! [`crate::keys`], as the parser does. The parser refuses more: a schema cannot say that a path
//! stays in the package, or that a secret is known.

use serde_json::{Map, Value, json};

use crate::keys::RECIPE;
use crate::table::{Form, Key, Need, Pattern, Rule, Table};

/// The schema. `docs/recipe.schema.json` is this value as text.
#[must_use]
pub fn schema() -> Value {
    let mut schema = table(&RECIPE);
    schema.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".into(), json!("recipe.toml"));
    schema.insert("description".into(), json!("How an image is made: its base, steps and outputs"));
    Value::Object(schema)
}

/// Schema of a table.
fn table(table: &Table) -> Map<String, Value> {
    let properties = table.keys.iter().map(|key| (key.name.to_owned(), property(key)));
    let mut schema = Map::new();
    schema.insert("type".into(), json!("object"));
    schema.insert("properties".into(), Value::Object(properties.collect()));
    schema.insert("additionalProperties".into(), json!(false));
    let required = required(table, "");
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    let verbs: Vec<_> = table.verbs().map(|verb| with_verb(table, verb)).collect();
    if !verbs.is_empty() {
        schema.insert("oneOf".into(), Value::Array(verbs));
    }
    schema
}

/// The keys that a table with `verb` must have.
fn required(table: &Table, verb: &str) -> Vec<&'static str> {
    table.keys.iter().filter(|key| key.need.is_must(verb)).map(|key| key.name).collect()
}

/// What is special about a table with `verb`: the keys that it must have, and those that it
/// cannot have.
fn with_verb(table: &Table, verb: &'static str) -> Value {
    let mut required = required(table, verb);
    required.insert(0, verb);
    let is_wrong = |key: &&Key| match key.need {
        Need::Verb => key.name != verb,
        need => need.verbs().is_some_and(|verbs| !verbs.contains(&verb)),
    };
    let wrong = table.keys.iter().filter(is_wrong).map(|key| (key.name.to_owned(), json!(false)));
    json!({ "required": required, "properties": wrong.collect::<Map<_, _>>() })
}

/// Schema of the value of a key.
fn property(key: &Key) -> Value {
    let words = || json!({ "type": "string" });
    let mut schema = match key.form {
        Form::Truth => object(json!({ "type": "boolean" })),
        Form::True => object(json!({ "const": true })),
        Form::Number(least, most) => {
            object(json!({ "type": "integer", "minimum": least, "maximum": most }))
        }
        Form::Text(rule) => text(rule),
        Form::Texts(rule) => object(json!({ "type": "array", "items": text(rule) })),
        Form::SomeTexts(rule) => {
            object(json!({ "type": "array", "items": text(rule), "minItems": 1 }))
        }
        Form::Words => object(json!({ "type": "array", "items": words(), "minItems": 1 })),
        Form::TruthOrTexts(rule) => object(
            json!({ "anyOf": [{ "type": "boolean" }, { "type": "array", "items": text(rule) }] }),
        ),
        Form::Map(names, values) => object(json!({
            "type": "object", "propertyNames": text(names), "additionalProperties": text(values),
        })),
        Form::Table(form) => table(form),
        Form::Tables(form) => object(json!({ "type": "array", "items": table(form) })),
        Form::Named(names, form) => object(json!({
            "type": "object", "propertyNames": text(names), "additionalProperties": table(form),
        })),
    };
    schema.insert("description".into(), json!(key.about));
    Value::Object(schema)
}

/// Schema of a text.
fn text(rule: Rule) -> Map<String, Value> {
    object(match rule.pattern() {
        Pattern::Any => json!({ "type": "string" }),
        Pattern::Regex(regex) => json!({ "type": "string", "pattern": regex }),
        Pattern::Names(names) => json!({ "type": "string", "enum": names() }),
    })
}

/// The members of an object.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
