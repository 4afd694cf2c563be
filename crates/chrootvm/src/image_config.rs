//! The config of an OCI image as settings of a workload or of a command.
//!
//! Source: OCI image specification, `config.md`; Docker's `Healthcheck`. The config is not trusted:
//! what makes no sense in it is left out with a note, except where something else would then run
//! than the image says.

use std::ffi::{CString, OsStr, OsString};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use oci::document::config::{Healthcheck, Process};
use proto::settings::health::Schedule;
use proto::signal;

/// Programs that boot a system, and that must be PID 1.
#[rustfmt::skip]
pub(crate) const SYSTEMS: &[&str] = &[
    "/sbin/init", "/usr/sbin/init",
    "/bin/systemd", "/usr/bin/systemd", "/lib/systemd/systemd", "/usr/lib/systemd/systemd",
];

/// Shell of a health check that is a line of text.
pub(crate) const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// First word of a health check that is none (Docker, `HealthConfig.Test`).
pub(crate) const NO_HEALTH: &str = "NONE";
/// First word of a health check whose second word is a line for a shell.
pub(crate) const HEALTH_SHELL: &str = "CMD-SHELL";
/// First word of a health check whose other words are a command.
pub(crate) const HEALTH_WORDS: &str = "CMD";

/// Shortest time of a health check, the unit of its records.
const SHORTEST: Duration = Duration::from_millis(1);

/// The words of the command of an image. `words` replace Cmd, and `entrypoint` replaces Entrypoint
/// and Cmd; an empty one removes them.
pub(crate) fn words<'a>(
    process: &'a Process,
    entrypoint: Option<&'a OsStr>,
    words: &'a [OsString],
) -> Vec<&'a OsStr> {
    let own = |words: &'a [String]| words.iter().map(OsStr::new).collect::<Vec<_>>();
    let (first, rest) = match entrypoint {
        Some(program) if program.is_empty() => (Vec::new(), Vec::new()),
        Some(program) => (vec![program], Vec::new()),
        None => (own(&process.entrypoint), own(&process.cmd)),
    };
    let given: Vec<_> = words.iter().map(OsString::as_os_str).collect();
    [first, if given.is_empty() { rest } else { given }].concat()
}

/// What the config of an image says about its command, besides words, variables and user.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageSettings {
    /// Absolute path of the working directory, if it is not `/`.
    pub(crate) cwd: Option<String>,
    /// Number of the signal that asks the command to end.
    pub(crate) stop_signal: Option<u8>,
    /// Absolute paths of the volumes.
    pub(crate) volumes: Vec<String>,
    /// Words of the health check; empty if there is none.
    pub(crate) health_args: Vec<CString>,
    /// Times of the health check.
    pub(crate) schedule: Schedule,
}

impl ImageSettings {
    /// Reads the settings of `process`. Adds what is left out to `notes`.
    ///
    /// # Errors
    /// A text with NUL, which would end a record of the run file.
    pub(crate) fn of(process: &Process, notes: &mut Vec<String>) -> Result<Self> {
        check_text(process)?;
        let stop_signal = process.stop_signal.as_deref().and_then(|name| {
            let number = signal::parse(name.as_bytes());
            if number.is_none() {
                notes.push(format!("stop signal {}: there is no such signal", name.escape_debug()));
            }
            number
        });
        let (health_args, schedule) = match &process.health {
            Some(check) => health(check, notes)?,
            None => Default::default(),
        };
        let is_own = |path: &&String| {
            let is_own = path.split('/').any(|name| !matches!(name, "" | "." | ".."));
            if !is_own {
                notes.push(format!("volume {}: it is no directory", path.escape_debug()));
            }
            is_own
        };
        let volumes = process.volumes.iter().filter(is_own).map(|path| absolute(path));
        let volumes = volumes.collect();
        let cwd = Some(&process.working_dir).filter(|dir| !dir.is_empty());
        let cwd = cwd.map(|dir| clean(dir)).filter(|dir| dir != "/");
        Ok(Self { cwd, stop_signal, volumes, health_args, schedule })
    }
}

/// A path of the config as an absolute one. Docker takes a relative path from `/`.
fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// A path of the config as an absolute one without `.` and `..`. As for Docker, `..` takes away the
/// name before it, even if that is a link.
fn clean(path: &str) -> String {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            _ => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

/// Refuses NUL in all texts that become records.
fn check_text(process: &Process) -> Result<()> {
    let Process { entrypoint, cmd, env, user, working_dir, volumes, health, .. } = process;
    let test = health.as_ref().map_or(&[][..], |check| &check.test);
    let members = [
        ("Entrypoint", &entrypoint[..]),
        ("Cmd", cmd),
        ("Env", env),
        ("Volumes", volumes),
        ("Healthcheck", test),
        ("User", std::slice::from_ref(user)),
        ("WorkingDir", std::slice::from_ref(working_dir)),
    ];
    for (member, texts) in members {
        if let Some(text) = texts.iter().find(|text| text.contains('\0')) {
            bail!("{member} of the image: \"{}\" has NUL", text.escape_debug());
        }
    }
    Ok(())
}

/// A time of a health check as a config has it, in nanoseconds; 0 without one.
pub(crate) fn nanoseconds(time: Option<Duration>) -> u64 {
    time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// The words and times of a health check. A time of 0 stands for the default.
fn health(check: &Healthcheck, notes: &mut Vec<String>) -> Result<(Vec<CString>, Schedule)> {
    let (kind, rest) =
        check.test.split_first().map_or((NO_HEALTH, &[][..]), |(kind, rest)| (kind, rest));
    let words: Vec<&str> = match (kind, rest) {
        (NO_HEALTH, _) => Vec::new(),
        (HEALTH_WORDS, [_, ..]) => rest.iter().map(String::as_str).collect(),
        (HEALTH_SHELL, [line]) => SHELL.into_iter().chain([line.as_str()]).collect(),
        _ => {
            notes.push(format!("health check of the unknown kind {}", kind.escape_debug()));
            Vec::new()
        }
    };
    if words.is_empty() {
        return Ok(Default::default());
    }
    let usual = Schedule::default();
    let time = |nanoseconds: u64, usual: Duration| match nanoseconds {
        0 => usual,
        _ => Duration::from_nanos(nanoseconds).max(SHORTEST),
    };
    let schedule = Schedule {
        interval: time(check.interval, usual.interval),
        timeout: time(check.timeout, usual.timeout),
        start_period: time(check.start_period, usual.start_period),
        start_interval: time(check.start_interval, usual.start_interval),
        retries: if check.retries == 0 { usual.retries } else { check.retries },
    };
    let words = words.into_iter().map(CString::new).collect::<Result<_, _>>();
    Ok((words.context("health check")?, schedule))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(process: &Process) -> (ImageSettings, Vec<String>) {
        let mut notes = Vec::new();
        (ImageSettings::of(process, &mut notes).unwrap(), notes)
    }

    #[test]
    fn settings_are_those_of_the_config() {
        let process = Process {
            working_dir: "srv".into(),
            stop_signal: Some("SIGRTMIN+3".into()),
            volumes: vec!["/data".into(), "cache/x".into()],
            health: Some(Healthcheck {
                test: vec!["CMD-SHELL".into(), "a && b".into()],
                interval: 1,
                timeout: 5_000_000_000,
                retries: 7,
                ..Healthcheck::default()
            }),
            ..Process::default()
        };
        let usual = Schedule::default();
        let expected = ImageSettings {
            cwd: Some("/srv".into()),
            stop_signal: Some(37),
            volumes: vec!["/data".into(), "/cache/x".into()],
            health_args: vec![c"/bin/sh".into(), c"-c".into(), c"a && b".into()],
            schedule: Schedule {
                interval: SHORTEST,
                timeout: Duration::from_secs(5),
                retries: 7,
                ..usual
            },
        };
        assert_eq!(settings(&process), (expected, Vec::new()));
        assert_eq!(settings(&Process::default()).0, ImageSettings::default());
    }

    #[test]
    fn a_working_directory_is_cleaned_as_text() {
        for (dir, expected) in [
            ("/a/../../etc", Some("/etc")),
            ("/a/./b//c/", Some("/a/b/c")),
            ("a/..", None),
            ("/", None),
            ("../x", Some("/x")),
        ] {
            let process = Process { working_dir: dir.into(), ..Process::default() };
            assert_eq!(settings(&process).0.cwd.as_deref(), expected, "{dir}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_left_out_with_a_note() {
        let check = |test: &[&str]| {
            let test = test.iter().map(|&word| word.to_owned()).collect();
            Process {
                health: Some(Healthcheck { test, ..Healthcheck::default() }),
                ..Process::default()
            }
        };
        let volume = |path: &str| Process { volumes: vec![path.into()], ..Process::default() };
        let signal = |name: &str| Process { stop_signal: Some(name.into()), ..Process::default() };
        for (process, expected) in [
            (signal("SIGNONE"), 1),
            (signal("65"), 1),
            (volume("/"), 1),
            (volume("../.."), 1),
            (check(&["SHELL", "x"]), 1),
            (check(&["CMD"]), 1),
            (check(&["CMD-SHELL", "a", "b"]), 1),
            (check(&["NONE"]), 0),
            (check(&[]), 0),
        ] {
            let (found, notes) = settings(&process);
            assert_eq!((found, notes.len()), (ImageSettings::default(), expected), "{process:?}");
        }
    }

    #[test]
    fn a_config_cannot_add_records() {
        let nul = "A=\0network=user".to_owned();
        let usual = Process::default;
        for (member, process) in [
            ("Entrypoint", Process { entrypoint: vec![nul.clone()], ..usual() }),
            ("Cmd", Process { cmd: vec![nul.clone()], ..usual() }),
            ("Env", Process { env: vec![nul.clone()], ..usual() }),
            ("User", Process { user: nul.clone(), ..usual() }),
            ("WorkingDir", Process { working_dir: nul.clone(), ..usual() }),
            ("Volumes", Process { volumes: vec![nul.clone()], ..usual() }),
        ] {
            let error = ImageSettings::of(&process, &mut Vec::new()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{member} of the image: ")), "{error}");
        }
    }
}
