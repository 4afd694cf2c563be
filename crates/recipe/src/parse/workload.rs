//! `[run]` and `[machine]`.

use super::build::memory;
use crate::model::{Health, HealthCommand, Machine, Network, Restart, Run};
use crate::table::{Fault, Fields};
use crate::values::parse_duration;

/// `[run]`.
pub(super) fn run(fields: &Fields) -> Result<Run, Fault> {
    Ok(Run {
        command: fields.texts("command"),
        args: fields.texts("args"),
        env: fields.map("env"),
        user: fields.text("user"),
        workdir: fields.text("workdir"),
        stop_signal: fields.text("stop-signal"),
        volumes: fields.texts("volumes"),
        restart: fields.table("restart").and_then(|table| table.named("policy", Restart::ALL)),
        health: fields.table("health").map(health).transpose()?,
        expose: fields.texts("expose"),
        labels: fields.map("labels"),
    })
}

fn health(fields: &Fields) -> Result<Health, Fault> {
    let duration = |key| fields.parsed(key, parse_duration);
    Ok(Health {
        args: match fields.verb() {
            "argv" => HealthCommand::Words(fields.texts("argv")),
            verb => HealthCommand::Shell(fields.text(verb).unwrap_or_default()),
        },
        interval: duration("interval")?,
        timeout: duration("timeout")?,
        start_period: duration("start-period")?,
        start_interval: duration("start-interval")?,
        retries: fields.number("retries"),
    })
}

/// `[machine]`.
pub(super) fn machine(fields: &Fields) -> Result<Machine, Fault> {
    Ok(Machine {
        cpus: fields.number("cpus"),
        memory: memory(fields)?,
        network: fields.named("network", Network::ALL),
        publish: fields.texts("publish"),
    })
}
