//! The config of an image that is written.
//!
//! Format: OCI image specification, `config.md`. What the config of the base has and this program
//! does not know is kept.

use anyhow::{Context, Result, ensure};
use files::notes::Notes;
use files::time::timestamp;
use serde_json::{Map, Value, json};

use super::blob::NewLayer;
use super::history::Base;
use super::{ArchiveOptions, Made, history};
use crate::document::config::{Healthcheck, Process};

/// The config: that of the base, or a new one. `made` are the steps with their layers, and the last
/// layer with what the history says about it.
///
/// # Errors
/// A member of the base's config that has the wrong type.
pub(super) fn config(
    options: &ArchiveOptions<'_>,
    made: &[(Made<'_>, Option<NewLayer>)],
    notes: &mut Notes,
) -> Result<Vec<u8>> {
    let mut config = match options.base {
        Some(base) => serde_json::from_slice(&base.config_bytes).context("config of the base")?,
        None => json!({}),
    };
    // Directories that no layer contains have this time. They must not become older.
    let of_base = options.base.map(|base| base.config.created);
    let created = timestamp(options.time.max(of_base.unwrap_or(i64::MIN)));
    let config_map = config.as_object_mut().context("the config of the base is no object")?;
    if options.base.is_none() {
        let platform = &options.platform;
        config_map.insert("architecture".into(), platform.architecture.clone().into());
        config_map.insert("os".into(), platform.os.clone().into());
        if let Some(variant) = &platform.variant {
            config_map.insert("variant".into(), variant.clone().into());
        }
    }
    config_map.insert("created".into(), created.clone().into());
    if let Some(author) = options.author {
        config_map.insert("author".into(), author.into());
    }
    if let Some(process) = options.process {
        set_process(config_map.entry("config").or_insert_with(|| json!({})), process);
    }
    if made.is_empty() && options.base.is_some() {
        return Ok(config.to_string().into_bytes());
    }
    let rootfs = config_map.entry("rootfs").or_insert_with(|| json!({ "type": "layers" }));
    let diff_ids = array(rootfs, "diff_ids")?;
    let base = options.base.map_or_else(Base::default, |base| Base {
        name: &base.name,
        layers: diff_ids.len(),
        created: base.config.created,
    });
    diff_ids.extend(made.iter().filter_map(|(_, layer)| Some(json!(layer.as_ref()?.diff_id))));
    history::add(array(&mut config, "history")?, &base, made, &created, notes);
    Ok(config.to_string().into_bytes())
}

/// The array `name` of an object, which is made if it is missing.
fn array<'a>(object: &'a mut Value, name: &str) -> Result<&'a mut Vec<Value>> {
    let object = object.as_object_mut().with_context(|| format!("{name} is not in an object"))?;
    let found = object.entry(name).or_insert_with(|| json!([]));
    if found.is_null() {
        *found = json!([]);
    }
    ensure!(found.is_array(), "{name} is not a list");
    found.as_array_mut().with_context(|| format!("{name} is not a list"))
}

/// Sets the members of `config` that `process` has; what is empty is left out. Other members, such
/// as `ArgsEscaped`, stay.
fn set_process(config: &mut Value, process: &Process) {
    let object = |names: &[String]| -> Value {
        names.iter().map(|name| (name.clone(), json!({}))).collect::<Map<_, _>>().into()
    };
    let rows = [
        ("User", json!(process.user)),
        ("ExposedPorts", object(&process.exposed_ports)),
        ("Env", json!(process.env)),
        ("Entrypoint", json!(process.entrypoint)),
        ("Cmd", json!(process.cmd)),
        ("Volumes", object(&process.volumes)),
        ("WorkingDir", json!(process.working_dir)),
        ("Labels", json!(process.labels)),
        ("StopSignal", json!(process.stop_signal.as_deref().unwrap_or_default())),
        ("Shell", json!(process.shell)),
        ("OnBuild", json!(process.on_build)),
        ("Healthcheck", process.health.as_ref().map_or(Value::Null, health_value)),
    ];
    let is_empty = |value: &Value| match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        value => value.is_null(),
    };
    if !config.is_object() {
        *config = json!({});
    }
    let Some(members) = config.as_object_mut() else { return };
    for (name, value) in rows {
        match is_empty(&value) {
            true => drop(members.remove(name)),
            false => drop(members.insert(name.to_owned(), value)),
        }
    }
}

fn health_value(health: &Healthcheck) -> Value {
    let mut value = Map::from_iter([("Test".to_owned(), json!(health.test))]);
    for (name, number) in [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
        ("Retries", health.retries.into()),
    ] {
        if number != 0 {
            value.insert(name.to_owned(), number.into());
        }
    }
    value.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_members_of_the_base_stay() {
        let process = Process { cmd: vec!["new".into()], ..Process::default() };
        let known = json!({ "Cmd": ["new"] });
        let mut base = json!({
            "Shell": ["/bin/bash"], "OnBuild": ["RUN a"], "Cmd": ["old"], "Env": ["A=1"],
            "User": "ada", "ArgsEscaped": true, "StopTimeout": 5, "Hostname": null,
        });
        set_process(&mut base, &process);
        let unknown =
            json!({ "ArgsEscaped": true, "StopTimeout": 5, "Hostname": null, "Cmd": ["new"] });
        assert_eq!(base, unknown);
        for mut base in [Value::Null, json!({}), json!("text")] {
            set_process(&mut base, &process);
            assert_eq!(base, known);
        }
    }
}
