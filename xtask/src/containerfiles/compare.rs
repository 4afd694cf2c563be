//! Compares the images of two builders: their trees with `chrootvm image diff`, and their configs
//! as `chrootvm image inspect` prints them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use super::explained::{
    EXPLAINED, EXPLAINED_FIELDS, Explained, ExplainedField, ONLY_OURS, ONLY_THEIRS,
};
use crate::programs;

/// Name of the field with the variables.
const ENV: &str = "env";

/// Exit status of `chrootvm image diff` if the images differ.
const DIFFERENT: i32 = 1;

/// Compares our archive with that of buildah. Returns a line for each difference that is not
/// explained.
///
/// # Errors
/// An archive cannot be read.
pub(super) fn compare(fixture: &str, ours: &Path, theirs: &Path) -> Result<Vec<String>> {
    let ours = format!("oci-archive:{}", ours.display());
    let theirs = format!("docker-archive:{}", theirs.display());
    let output = chrootvm(&["diff", "--quiet", "--ignore", "time", &ours, &theirs], DIFFERENT)?;
    let mut faults = of_trees(fixture, &output, EXPLAINED);
    faults.extend(of_configs(fixture, &config(&ours)?, &config(&theirs)?, EXPLAINED_FIELDS));
    Ok(faults)
}

/// The config of an image.
fn config(image: &str) -> Result<Map<String, Value>> {
    let output = chrootvm(&["inspect", "--quiet", "--json", image], 0)?;
    let facts: Value = serde_json::from_str(&output).context("read the facts of an image")?;
    let config = facts.get("config").and_then(Value::as_object);
    config.cloned().with_context(|| format!("{image}: the facts have no config"))
}

/// Output of `chrootvm image`, which may also exit with `status`.
fn chrootvm(arguments: &[&str], status: i32) -> Result<String> {
    let mut command = Command::new(programs::chrootvm()?);
    let output = command.arg("image").args(arguments).output().context("run chrootvm image")?;
    let messages = String::from_utf8_lossy(&output.stderr);
    let is_expected = output.status.success()
        || output.status.code() == Some(status) && !output.stdout.is_empty();
    ensure!(is_expected, "{command:?}: {}: {messages}", output.status);
    String::from_utf8(output.stdout).context("read the output of chrootvm image")
}

/// The lines of `chrootvm image diff` that no row of `explained` covers.
fn of_trees(fixture: &str, lines: &str, explained: &[Explained]) -> Vec<String> {
    let is_explained = |line: &&str| {
        let (path, what) = difference(line);
        let rows = explained
            .iter()
            .filter(|row| row.path == path && row.fixture.is_none_or(|name| name == fixture));
        let rows: Vec<_> = rows.collect();
        let is_allowed = |what| rows.iter().any(|row| row.what.contains(what));
        let is_explained = what.iter().all(is_allowed);
        if is_explained {
            let why: Vec<_> = rows.iter().map(|row| row.why).collect();
            log::debug!("{fixture}: {line}: {}", why.join(", "));
        }
        is_explained
    };
    lines.lines().filter(|line| !is_explained(line)).map(str::to_owned).collect()
}

/// Path and kinds of difference of a line such as `! etc/shadow: owner, content`.
fn difference(line: &str) -> (&str, Vec<&str>) {
    let (sign, path) = line.split_once(' ').unwrap_or((line, ""));
    match sign {
        "-" => (path, vec![ONLY_OURS]),
        "+" => (path, vec![ONLY_THEIRS]),
        _ => {
            let (path, aspects) = path.rsplit_once(": ").unwrap_or((path, ""));
            (path, aspects.split(", ").collect())
        }
    }
}

/// A line for each field that differs and that no row of `explained` covers.
fn of_configs(
    fixture: &str,
    ours: &Map<String, Value>,
    theirs: &Map<String, Value>,
    explained: &[ExplainedField],
) -> Vec<String> {
    let fields: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let is_explained = |field: &str| {
        let row = explained
            .iter()
            .find(|row| row.field == field && row.fixture.is_none_or(|name| name == fixture));
        row.inspect(|row| log::debug!("{fixture}: {field}: {}", row.why)).is_some()
    };
    let comparable =
        |of: &Map<String, Value>, field: &str| of.get(field).map(|value| in_order(field, value));
    let differ = fields.into_iter().filter(|field| {
        let (ours, theirs) = (comparable(ours, field), comparable(theirs, field));
        ours != theirs
    });
    let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".into(), Value::to_string);
    differ
        .filter(|field| !is_explained(field))
        .map(|field| {
            let (ours, theirs) = (shown(ours.get(field)), shown(theirs.get(field)));
            format!("config: {field}: {ours}, buildah: {theirs}")
        })
        .collect()
}

/// A field for a comparison. The order of variables has no meaning: a new value stays in its place
/// here, and goes to the end in an image of buildah.
fn in_order(field: &str, value: &Value) -> Value {
    let mut value = value.clone();
    if let (ENV, Some(variables)) = (field, value.as_array_mut()) {
        variables.sort_by_key(Value::to_string);
    }
    value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ROWS: &[Explained] = &[
        Explained { fixture: None, path: "var/log/a: b", what: &["content", "size"], why: "" },
        Explained { fixture: Some("c"), path: "etc/hosts", what: &[ONLY_THEIRS], why: "" },
    ];

    #[test]
    fn lines_are_faults_unless_a_row_explains_all_of_them() {
        for (name, line, is_fault) in [
            ("explained", "! var/log/a: b: content", false),
            ("two aspects of one row", "! var/log/a: b: size, content", false),
            ("one aspect too many", "! var/log/a: b: owner, content", true),
            ("another path", "! var/log/a: content", true),
            ("only in the second image", "+ etc/hosts", false),
            ("only in the first image", "- etc/hosts", true),
            ("changed instead of added", "! etc/hosts: content", true),
            ("no path", "!", true),
        ] {
            let faults = of_trees("c", line, ROWS);
            assert_eq!(faults, if is_fault { vec![line] } else { vec![] }, "{name}");
        }
        assert_eq!(of_trees("go", "+ etc/hosts\n", ROWS), ["+ etc/hosts"]);
    }

    #[test]
    fn fields_are_compared_by_value() {
        let object = |value: Value| value.as_object().unwrap().clone();
        let ours = object(json!({"cmd": ["a"], "user": "", "env": ["A=1", "B=2"]}));
        let theirs = object(json!({"cmd": ["a"], "user": "b", "env": ["B=3", "A=1"], "x": null}));
        let row = ExplainedField { fixture: Some("c"), field: "env", why: "" };
        let user = "config: user: \"\", buildah: \"b\"";
        let env = "config: env: [\"A=1\",\"B=2\"], buildah: [\"B=3\",\"A=1\"]";
        let missing = "config: x: nothing, buildah: null";
        assert_eq!(of_configs("c", &ours, &theirs, &[row]), [user, missing]);
        assert_eq!(of_configs("go", &ours, &theirs, &[row]), [env, user, missing]);
        assert_eq!(of_configs("go", &ours, &ours, &[]), [""; 0]);
        let (one, other) = (json!({"env": ["A=1", "B=2"]}), json!({"env": ["B=2", "A=1"]}));
        assert_eq!(of_configs("go", &object(one), &object(other), &[]), [""; 0]);
    }
}
