//! The config of an image that is written.
//!
//! Format: OCI image specification, `config.md`. What the config of the base has and this program
//! does not know is kept.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::ArchiveOptions;
use crate::document::config::{Healthcheck, Process};
use crate::name::digest::Digest;

/// The config: that of the base, or a new one. `diff_id` is that of the new layer, if there is
/// one.
pub(super) fn config(options: &ArchiveOptions<'_>, diff_id: Option<&Digest>) -> Result<Vec<u8>> {
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
    if let Some(process) = options.process {
        set_process(config_map.entry("config").or_insert_with(|| json!({})), process);
    }
    let Some(diff_id) = diff_id else { return Ok(config.to_string().into_bytes()) };
    let rootfs = config_map.entry("rootfs").or_insert_with(|| json!({ "type": "layers" }));
    let diff_ids = array(rootfs, "diff_ids")?;
    diff_ids.push(json!(diff_id));
    let count = diff_ids.len();
    // A history that does not agree with the layers says nothing about the new one.
    let history = array(&mut config, "history")?;
    let is_layer = |step: &&Value| step.get("empty_layer") != Some(&Value::Bool(true));
    if history.iter().filter(is_layer).count() + 1 == count {
        history.push(json!({ "created": created, "created_by": options.created_by }));
    }
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
/// as `Shell` and `OnBuild`, stay.
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

/// A time as RFC 3339 has it, in UTC. A time outside of the years 0 to 9999 becomes the nearest
/// one inside.
#[must_use]
pub fn timestamp(seconds: i64) -> String {
    const DAY: i64 = 86_400;
    const FIRST: i64 = -62_167_219_200;
    const LAST: i64 = 253_402_300_799;
    let seconds = seconds.clamp(FIRST, LAST);
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    // Days since 0000-03-01, so that the leap day is the last day of a year (Howard Hinnant,
    // "chrono-Compatible Low-Level Date Algorithms").
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + carry;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_members_of_the_base_stay() {
        let process = Process { cmd: vec!["new".into()], ..Process::default() };
        let known = json!({ "Cmd": ["new"] });
        let mut base = json!({
            "Shell": ["/bin/bash"], "OnBuild": null, "Cmd": ["old"], "Env": ["A=1"], "User": "ada"
        });
        set_process(&mut base, &process);
        let expected = json!({ "Shell": ["/bin/bash"], "OnBuild": null, "Cmd": ["new"] });
        assert_eq!(base, expected);
        for mut base in [Value::Null, json!({}), json!("text")] {
            set_process(&mut base, &process);
            assert_eq!(base, known);
        }
    }
}
