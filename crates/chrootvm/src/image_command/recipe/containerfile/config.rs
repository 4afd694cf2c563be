//! Config of an image as a Containerfile sees it, and as OCI documents have it.

use std::time::Duration;

use oci::document::config::{Healthcheck, Process};
use recipe::containerfile::{Config, Health, HealthTest};

use crate::image_config::{HEALTH_SHELL, HEALTH_WORDS, NO_HEALTH, nanoseconds};

/// The config with which a stage begins whose base is an image with `process`.
pub(super) fn of_process(process: &Process) -> Config {
    let pair = |pair: &String| {
        let (name, value) = pair.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    Config {
        entrypoint: process.entrypoint.clone(),
        cmd: process.cmd.clone(),
        env: process.env.iter().filter_map(pair).collect(),
        user: process.user.clone(),
        workdir: process.working_dir.clone(),
        stop_signal: process.stop_signal.clone(),
        volumes: process.volumes.clone(),
        ports: process.exposed_ports.clone(),
        labels: process.labels.clone(),
        health: process.health.as_ref().and_then(health),
        shell: process.shell.clone(),
        ..Config::default()
    }
}

/// The config in the form of an OCI document.
pub(super) fn to_process(config: &Config) -> Process {
    Process {
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        env: config.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        user: config.user.clone(),
        working_dir: config.workdir.clone(),
        stop_signal: config.stop_signal.clone(),
        volumes: config.volumes.clone(),
        exposed_ports: config.ports.clone(),
        labels: config.labels.clone(),
        health: config.health.as_ref().map(check),
        shell: config.shell.clone(),
        ..Process::default()
    }
}

fn health(check: &Healthcheck) -> Option<Health> {
    let test = match check.test.split_first() {
        Some((kind, _)) if kind == NO_HEALTH => HealthTest::None,
        Some((kind, rest)) if kind == HEALTH_SHELL => HealthTest::Shell(rest.first()?.clone()),
        Some((kind, words)) if kind == HEALTH_WORDS => HealthTest::Words(words.to_vec()),
        _ => return None,
    };
    let time = |nanoseconds: u64| (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds));
    Some(Health {
        test,
        interval: time(check.interval),
        timeout: time(check.timeout),
        start_period: time(check.start_period),
        start_interval: time(check.start_interval),
        retries: Some(check.retries).filter(|retries| *retries > 0),
    })
}

fn check(health: &Health) -> Healthcheck {
    let test = match &health.test {
        HealthTest::None => vec![NO_HEALTH.to_owned()],
        HealthTest::Shell(text) => vec![HEALTH_SHELL.to_owned(), text.clone()],
        HealthTest::Words(words) => [&[HEALTH_WORDS.to_owned()][..], words].concat(),
    };
    Healthcheck {
        test,
        interval: nanoseconds(health.interval),
        timeout: nanoseconds(health.timeout),
        start_period: nanoseconds(health.start_period),
        start_interval: nanoseconds(health.start_interval),
        retries: health.retries.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_comes_back() {
        let texts = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let with_test = |test: &[&str]| Process {
            entrypoint: texts(&["/entry"]),
            cmd: texts(&["a", ""]),
            env: texts(&["A=1", "B=x=y", "C="]),
            user: "app:staff".into(),
            working_dir: "/srv".into(),
            stop_signal: Some("SIGQUIT".into()),
            volumes: texts(&["/data"]),
            exposed_ports: texts(&["80/tcp"]),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            health: Some(Healthcheck {
                test: texts(test),
                interval: 5_000_000_000,
                retries: 3,
                ..Healthcheck::default()
            }),
            shell: texts(&["/bin/bash", "-c"]),
            ..Process::default()
        };
        for test in [&["NONE"][..], &["CMD-SHELL", "curl x"], &["CMD", "curl", "x"]] {
            let process = with_test(test);
            assert_eq!(to_process(&of_process(&process)), process);
        }
        assert_eq!(of_process(&with_test(&["OTHER"])).health, None);
    }
}
