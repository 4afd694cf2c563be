//! The JSON schema: the published file, and that it agrees with the parser.

use std::path::PathBuf;

use serde_json::Value;
use virtinitrd_recipe::{parse, schema};

/// The published schema.
fn published() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipe.schema.json")
}

fn text() -> String {
    format!("{:#}\n", schema())
}

/// With the environment variable `WRITE_SCHEMA`, the file is written instead.
#[test]
fn the_published_schema_is_the_schema() {
    if std::env::var_os("WRITE_SCHEMA").is_some() {
        std::fs::write(published(), text()).unwrap();
    }
    let found = std::fs::read_to_string(published()).unwrap_or_default();
    let command = "WRITE_SCHEMA=1 cargo test -p virtinitrd-recipe --test recipe";
    assert!(found == text(), "docs/recipe.schema.json is old: {command}");
}

/// Whether `value` fits `schema`, as far as our schema uses the language. Patterns are left out.
fn fits(schema: &Value, value: &Value) -> bool {
    let Some(schema) = schema.as_object() else { return schema.as_bool() == Some(true) };
    let members = value.as_object();
    schema.iter().all(|(word, rule)| match &**word {
        "type" => match rule.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64(),
            kind => panic!("type {kind}"),
        },
        "const" => value == rule,
        "enum" => rule.as_array().unwrap().contains(value),
        "minimum" => value.as_i64() >= rule.as_i64(),
        "maximum" => value.as_i64() <= rule.as_i64(),
        "minItems" => value.as_array().is_none_or(|all| all.len() as u64 >= rule.as_u64().unwrap()),
        "items" => value.as_array().is_none_or(|all| all.iter().all(|item| fits(rule, item))),
        "required" => {
            let mut names = rule.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
            members.is_none_or(|members| names.all(|name| members.contains_key(name)))
        }
        "properties" => members.is_none_or(|members| {
            let is_fine = |(name, value)| rule.get(name).is_none_or(|rule| fits(rule, value));
            members.iter().all(|(name, value): (&String, &Value)| is_fine((name, value)))
        }),
        "additionalProperties" => members.is_none_or(|members| {
            let known = schema.get("properties");
            let is_known = |name: &String| known.is_some_and(|known| known.get(name).is_some());
            members.iter().all(|(name, value)| is_known(name) || fits(rule, value))
        }),
        "oneOf" => rule.as_array().unwrap().iter().filter(|rule| fits(rule, value)).count() == 1,
        "anyOf" => rule.as_array().unwrap().iter().any(|rule| fits(rule, value)),
        "pattern" | "propertyNames" | "description" | "title" | "$schema" => true,
        word => panic!("{word} is not known here"),
    })
}

fn value(text: &str) -> Value {
    serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap()
}

#[test]
fn the_schema_takes_what_the_parser_takes() {
    let schema = schema();
    assert!(fits(&schema, &value(super::good::FULL)));
    for text in [
        "",
        "[[step]]\ntext = ''\nto = '/a'",
        "[[step]]\nremove = ['/a']\n[[step]]\nmkdir = '/a'\nmode = '0700'",
        "[init]\nnone = true",
        "[build]\nnormalise = true",
        "[run.health]\nargv = ['a']",
        "[run]\nbefore = [{ run = 'a' }, { argv = ['b'] }]",
    ] {
        let text = format!("version = 1\n{text}");
        assert!(parse(&text).is_ok(), "{text}");
        assert!(fits(&schema, &value(&text)), "{text}");
    }
}

#[test]
fn the_schema_refuses_what_has_another_form() {
    let schema = schema();
    for text in [
        "version = 2",
        "name = 'a'",
        "version = 1\nnam = 'a'",
        "version = 1\n[from]",
        "version = 1\n[from]\noci = 'a'\ntar = 'b'",
        "version = 1\n[from]\ntar = 'a'\nplatform = 'linux/arm64'",
        "version = 1\n[build]\ncpus = '2'",
        "version = 1\n[build]\ncpus = 0",
        "version = 1\n[build]\nnetwork = 'bridge'",
        "version = 1\n[build]\nsecrets.a = { env = 'A', file = 'b' }",
        "version = 1\n[build]\nvolumes = { '/a' = { writable = true } }",
        "version = 1\n[build]\nenv = { A = 1 }",
        "version = 1\n[build]\nnormalise = ['log']",
        "version = 1\n[step]\nrun = 'x'",
        "version = 1\n[[step]]\nlabel = 'x'",
        "version = 1\n[[step]]\nrun = 'x'\nargv = ['y']",
        "version = 1\n[[step]]\nrun = 'x'\nowner = '0'",
        "version = 1\n[[step]]\nput = 'x'",
        "version = 1\n[[step]]\nput = 'x'\nto = '/x'\nuser = 'a'",
        "version = 1\n[[step]]\nurl = 'https://a'\nto = '/x'",
        "version = 1\n[[step]]\nremove = []",
        "version = 1\n[[step]]\nargv = []",
        "version = 1\n[init]\nnone = false",
        "version = 1\n[busybox]\nurl = 'https://a'",
        "version = 1\n[run]\nrestart = 'always'",
        "version = 1\n[[output]]\nformat = 'erofs'",
    ] {
        assert!(parse(text).is_err(), "{text}");
        assert!(!fits(&schema, &value(text)), "{text}");
    }
}

/// Every table is closed, and every key has a description.
#[test]
fn the_schema_is_closed_and_describes_each_key() {
    fn walk(schema: &Value, name: &str) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            assert!(schema.get("additionalProperties").is_some(), "{name}");
            for (key, schema) in properties {
                let about = schema.get("description").and_then(Value::as_str).unwrap_or_default();
                assert!(!about.is_empty() && !about.ends_with('.'), "{name}.{key}: {about}");
                walk(schema, key);
            }
        }
        for inner in ["items", "additionalProperties"] {
            schema.get(inner).into_iter().for_each(|schema| walk(schema, name));
        }
    }
    walk(&schema(), "recipe");
}
