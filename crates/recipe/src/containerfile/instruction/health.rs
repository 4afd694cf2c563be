//! HEALTHCHECK.

use std::time::Duration;

use super::{Parts, simple};
use crate::containerfile::config::{Health, HealthTest};
use crate::containerfile::durations::duration;
use crate::containerfile::flags::{Flag, Takes};
use crate::containerfile::form::Command;
use crate::containerfile::model::Kind;
use crate::containerfile::words::first_word;
use crate::table::quote;

/// Flags of HEALTHCHECK.
#[rustfmt::skip]
pub(super) const FLAGS: &[Flag] = &[
    Flag { name: "interval",       takes: Takes::Value },
    Flag { name: "timeout",        takes: Takes::Value },
    Flag { name: "start-period",   takes: Takes::Value },
    Flag { name: "start-interval", takes: Takes::Value },
    Flag { name: "retries",        takes: Takes::Value },
];

/// Reads HEALTHCHECK.
pub(super) fn health(parts: &Parts<'_>) -> Result<Kind, String> {
    let (kind, rest) = first_word(parts.needed("HEALTHCHECK CMD COMMAND")?);
    let rest = rest.trim_start();
    let test = match &*kind.to_ascii_uppercase() {
        "NONE" if rest.is_empty() => HealthTest::None,
        "NONE" => return Err("HEALTHCHECK NONE has arguments: remove them".to_owned()),
        "CMD" => match simple::command(parts.keyword, rest)? {
            Command::Shell(text) if !text.is_empty() => HealthTest::Shell(text),
            Command::Words(words) if !words.is_empty() => HealthTest::Words(words),
            _ => return Err("HEALTHCHECK CMD has no command: write HEALTHCHECK CMD COMMAND".into()),
        },
        _ => {
            let kind = quote(kind);
            return Err(format!("HEALTHCHECK {kind} is not known: write CMD COMMAND or NONE"));
        }
    };
    let retries = parts.flags.value("retries").map(|value| {
        value.parse::<u32>().map_err(|_| {
            let value = quote(value);
            format!("HEALTHCHECK --retries={value} is wrong: give a whole number")
        })
    });
    Ok(Kind::Health(Health {
        test,
        interval: time(parts, "interval")?,
        timeout: time(parts, "timeout")?,
        start_period: time(parts, "start-period")?,
        start_interval: time(parts, "start-interval")?,
        // As in Docker, 0 is the same as no value.
        retries: retries.transpose()?.filter(|number| *number != 0),
    }))
}

/// Value of the flag `name`; 0 is the same as no value.
fn time(parts: &Parts<'_>, name: &'static str) -> Result<Option<Duration>, String> {
    /// Shortest time of a health check.
    const LEAST: Duration = Duration::from_millis(1);
    let Some(text) = parts.flags.value(name) else { return Ok(None) };
    let time = duration(text).ok_or_else(|| {
        let text = quote(text);
        format!("HEALTHCHECK --{name}={text} is wrong: give a time such as 30s or 1m30s")
    })?;
    if !time.is_zero() && time < LEAST {
        return Err(format!("HEALTHCHECK --{name} is below 1ms: give a longer time"));
    }
    Ok((!time.is_zero()).then_some(time))
}
