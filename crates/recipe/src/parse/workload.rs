//! `[run]` and `[machine]`.

use super::build::memory;
use proto::settings::health::UNHEALTHY;
use proto::settings::restart::{RESTARTS, RestartPolicy};

use crate::model::{Health, Machine, Network, Run, RunCommand};
use crate::table::{Fault, Fields};
use crate::values::{parse_backoff, parse_duration};

/// `[run]`.
pub(super) fn run(fields: &Fields) -> Result<Run, Fault> {
    Ok(Run {
        command: fields.texts("command"),
        args: fields.texts("args"),
        env: fields.map("env"),
        user: fields.text("user"),
        workdir: fields.text("workdir"),
        stop_signal: fields.text("stop-signal"),
        stop_timeout: fields.parsed("stop-timeout", parse_duration)?,
        volumes: fields.texts("volumes"),
        before: fields.tables("before").iter().map(command).collect(),
        restart: fields.table("restart").map(restart).transpose()?,
        health: fields.table("health").map(health).transpose()?,
        expose: fields.texts("expose"),
        labels: fields.map("labels"),
    })
}

fn restart(fields: &Fields) -> Result<RestartPolicy, Fault> {
    Ok(RestartPolicy {
        when: fields.named("policy", &RESTARTS).unwrap_or_default(),
        max: fields.number("max"),
        backoff: fields.parsed("backoff", parse_backoff)?.unwrap_or_default(),
    })
}

fn command(fields: &Fields) -> RunCommand {
    match fields.verb() {
        "argv" => RunCommand::Words(fields.texts("argv")),
        verb => RunCommand::Shell(fields.text(verb).unwrap_or_default()),
    }
}

fn health(fields: &Fields) -> Result<Health, Fault> {
    let duration = |key| fields.parsed(key, parse_duration);
    Ok(Health {
        args: command(fields),
        interval: duration("interval")?,
        timeout: duration("timeout")?,
        start_period: duration("start-period")?,
        start_interval: duration("start-interval")?,
        retries: fields.number("retries"),
        on_failure: fields.named("on-failure", &UNHEALTHY).unwrap_or_default(),
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
