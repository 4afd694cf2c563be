//! Options that say how PID 1 supervises what the machine runs, and the records for them.
//!
//! What runs is a workload if ROOTFS configures it (its run file, or the config of an OCI image), or
//! if one of these options is given. Names of options: podman-run(1).

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use machine::root::kinds::Root;
use proto::settings::health::{Schedule, Unhealthy};
use proto::settings::restart::{Backoff, Restart, RestartPolicy};
use proto::settings::{self, Command, IMAGE_FILE, Record};
use recipe::values::parse_backoff;

use crate::image_config::SHELL;
use crate::line::values::{parse_duration, parse_restart, parse_signal, parse_unhealthy};

/// How /init supervises what runs
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Workload")]
pub(super) struct WorkloadOptions {
    /// Start it again after its end: no, on-failure or always; MAX is the most restarts
    #[arg(long, value_name = "WHEN[:MAX]", value_parser = parse_restart)]
    restart: Option<RestartPolicy>,
    /// First and longest pause before a restart [default: 100ms..1m]
    ///
    /// Pauses double, until a run has lasted ten seconds.
    #[arg(long, value_name = "FIRST..LONGEST", value_parser = parse_backoff)]
    restart_backoff: Option<Backoff>,
    /// Line of the guest's /bin/sh to run before it, once; repeatable
    #[arg(long, value_name = "LINE")]
    before: Vec<OsString>,
    /// Signal that asks it to end, instead of TERM: QUIT, SIGRTMIN+3, 15
    #[arg(long, value_name = "SIGNAL", value_parser = parse_signal)]
    stop_signal: Option<u8>,
    /// Time for it to end after that signal [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    stop_timeout: Option<Duration>,
    /// Line of the guest's /bin/sh that checks its health: status 0 means healthy
    #[arg(long, value_name = "LINE", conflicts_with = "no_healthcheck")]
    health_cmd: Option<OsString>,
    /// Pause between two checks [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = parse_positive)]
    health_interval: Option<Duration>,
    /// Time after which a check has failed [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = parse_positive)]
    health_timeout: Option<Duration>,
    /// Time after its start in which failures do not count [default: 0]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    health_start_period: Option<Duration>,
    /// Pause between two checks in that time [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = parse_positive)]
    health_start_interval: Option<Duration>,
    /// Failures in a row after which it is unhealthy [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    health_retries: Option<u32>,
    /// What happens if it is unhealthy: none, restart or poweroff [default: none]
    #[arg(long, value_name = "ACTION", value_parser = parse_unhealthy)]
    health_on_failure: Option<Unhealthy>,
    /// Do not check its health, whatever ROOTFS says
    #[arg(long)]
    no_healthcheck: bool,
    /// Show the console of the machine instead of the streams of its workload
    #[arg(long)]
    pub(super) console: bool,
}

impl WorkloadOptions {
    /// Name of the first option that was given, if any was. `--console` says nothing about how
    /// something runs.
    pub(super) fn any_given(&self) -> Option<&'static str> {
        let options = [
            (self.restart.is_some(), "--restart"),
            (self.restart_backoff.is_some(), "--restart-backoff"),
            (!self.before.is_empty(), "--before"),
            (self.stop_signal.is_some(), "--stop-signal"),
            (self.stop_timeout.is_some(), "--stop-timeout"),
            (self.health_cmd.is_some(), "--health-cmd"),
            (self.health_interval.is_some(), "--health-interval"),
            (self.health_timeout.is_some(), "--health-timeout"),
            (self.health_start_period.is_some(), "--health-start-period"),
            (self.health_start_interval.is_some(), "--health-start-interval"),
            (self.health_retries.is_some(), "--health-retries"),
            (self.health_on_failure.is_some(), "--health-on-failure"),
            (self.no_healthcheck, "--no-healthcheck"),
        ];
        options.into_iter().find_map(|(given, name)| given.then_some(name))
    }

    /// When it starts again: as the option says, or as ROOTFS does.
    pub(super) fn restart(&self, of_root: Restart) -> Restart {
        self.restart.map_or(of_root, |policy| policy.when)
    }

    /// The records for these options. They follow those of the image, whose checks have the
    /// times `of_image`.
    pub(super) fn records(&self, of_image: Schedule) -> Vec<Vec<u8>> {
        let mut records = vec![Record::Workload.to_bytes()];
        for line in &self.before {
            let [shell, option] = SHELL;
            let words = [Record::Before(shell.as_bytes()), Record::BeforeArg(option.as_bytes())];
            records.extend(words.iter().map(Record::to_bytes));
            records.push(Record::BeforeArg(line.as_bytes()).to_bytes());
        }
        if let Some(RestartPolicy { when, max, .. }) = self.restart {
            records.push(Record::Restart(when).to_bytes());
            records.extend(max.map(|max| Record::RestartMax(max).to_bytes()));
        }
        records.extend(self.restart_backoff.map(|pause| Record::RestartBackoff(pause).to_bytes()));
        records.extend(self.stop_signal.map(|number| Record::StopSignal(number).to_bytes()));
        records.extend(self.stop_timeout.map(|time| Record::StopTimeout(time).to_bytes()));
        if self.no_healthcheck || self.health_cmd.is_some() {
            records.push(Record::NoHealth.to_bytes());
        }
        if let Some(line) = &self.health_cmd {
            let words = SHELL.map(|word| Record::HealthArg(word.as_bytes()).to_bytes());
            records.extend(words);
            records.push(Record::HealthArg(line.as_bytes()).to_bytes());
        }
        let schedule = Schedule {
            interval: self.health_interval.unwrap_or(of_image.interval),
            timeout: self.health_timeout.unwrap_or(of_image.timeout),
            start_period: self.health_start_period.unwrap_or(of_image.start_period),
            start_interval: self.health_start_interval.unwrap_or(of_image.start_interval),
            retries: self.health_retries.unwrap_or(of_image.retries),
        };
        if schedule != of_image {
            records.push(Record::Health(schedule).to_bytes());
        }
        records.extend(self.health_on_failure.map(|action| Record::Unhealthy(action).to_bytes()));
        records
    }
}

/// What the host must know of the workload that a root configures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Configured {
    /// When it starts again.
    pub(super) restart: Restart,
    /// Times of its health check.
    pub(super) schedule: Schedule,
}

impl Configured {
    /// Looks for the run file in `root`; `None` if it has none.
    ///
    /// # Errors
    /// Only the guest can read the root.
    pub(super) fn find(root: &Root) -> Result<Option<Self>> {
        let files = root.files()?;
        let Ok(text) = files.read(Path::new(IMAGE_FILE), settings::MAX as u64) else {
            return Ok(None);
        };
        // `/init` reports what cannot be parsed.
        let found = Command::parse(&text).map(|command| Self {
            restart: command.restart.when,
            schedule: command.health.schedule,
        });
        Ok(Some(found.unwrap_or_default()))
    }
}

fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("a time greater than 0".into()),
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: WorkloadOptions,
    }

    fn records(words: &[&str], of_image: Schedule) -> Result<Vec<String>, clap::Error> {
        let line = Line::try_parse_from([&["x"], words].concat())?;
        let records = line.options.records(of_image);
        Ok(records.into_iter().map(|record| String::from_utf8(record).unwrap()).collect())
    }

    #[test]
    fn options_become_records() {
        let of_image = Schedule { retries: 7, ..Schedule::default() };
        for (words, expected) in [
            (&[][..], &[][..]),
            (&["--restart=always:3"], &["restart=always", "restart-max=3"]),
            (&["--restart=no"], &["restart=no"]),
            (&["--restart-backoff=1s..2s"], &["restart-backoff=1000 2000"]),
            (&["--before=a b"], &["before=/bin/sh", "before-arg=-c", "before-arg=a b"]),
            (&["--stop-signal=SIGQUIT"], &["stop-signal=3"]),
            (&["--stop-timeout=1500ms"], &["stop-timeout=1500"]),
            (
                &["--health-cmd=true"],
                &["no-health=1", "health-arg=/bin/sh", "health-arg=-c", "health-arg=true"],
            ),
            (&["--no-healthcheck"], &["no-health=1"]),
            (&["--health-interval=1s"], &["health=1000 30000 0 5000 7"]),
            (
                &[
                    "--health-timeout=1s",
                    "--health-start-period=2s",
                    "--health-start-interval=3s",
                    "--health-retries=4",
                ],
                &["health=30000 1000 2000 3000 4"],
            ),
            (&["--health-on-failure=restart"], &["health-on-failure=restart"]),
        ] {
            let found = records(words, of_image).unwrap();
            assert_eq!(found[0], "workload=1");
            assert_eq!(found[1..], *expected, "{words:?}");
        }
    }

    #[test]
    fn bad_values_are_refused() {
        for words in [
            "--restart=often",
            "--restart=always:x",
            "--restart-backoff=0..1s",
            "--stop-signal=NO",
            "--health-interval=0",
            "--health-retries=0",
            "--health-on-failure=kill",
        ] {
            assert!(records(&[words], Schedule::default()).is_err(), "{words}");
        }
    }

    #[test]
    fn the_run_file_of_a_root_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = || Root::open(dir.path()).unwrap();
        assert_eq!(Configured::find(&root()).unwrap(), None);
        std::fs::create_dir_all(dir.path().join("etc/virtinit")).unwrap();
        for (text, restart) in [
            ("arg=a\0", Restart::No),
            ("arg=a\0restart=always\0", Restart::Always),
            ("bad", Restart::No),
        ] {
            std::fs::write(dir.path().join("etc/virtinit/run"), text).unwrap();
            let found = Configured::find(&root()).unwrap().unwrap();
            assert_eq!(found.restart, restart, "{text:?}");
        }
    }
}
