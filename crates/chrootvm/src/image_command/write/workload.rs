//! The workload of an image that `chrootvm image build` makes: the command of an OCI image with
//! `--init` or `--run`, or COMMAND with `--run`.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use files::tell::show;
use image::edit::inject::{self, Workload};
use image::tree::Tree;
use oci::document::config::Process;
use proto::settings::MissingCwd;
use proto::settings::health::{Health, Unhealthy};
use proto::settings::restart::RestartPolicy;

use super::super::options::{parse_absolute, parse_pair};
use super::super::sources::SourceKind;
use super::user;
use crate::image_config::{self, ImageSettings, SYSTEMS};
use crate::line::values::parse_restart;

/// The command that an image runs, and its surroundings
#[derive(Debug, Default, clap::Args)]
pub(in crate::image_command) struct WorkloadOptions {
    /// Make COMMAND the workload of the image
    ///
    /// It is written to /etc/virtinit/run. /init runs it if neither chrootvm nor the kernel command
    /// line names another command. For an OCI image, --init does the same, and COMMAND takes the
    /// place of the image's Cmd.
    #[arg(long)]
    run: bool,
    /// Program to run in place of an OCI image's Entrypoint and Cmd
    #[arg(long, hide_short_help = true, value_name = "PROGRAM")]
    entrypoint: Option<OsString>,
    /// Set a variable for the workload; repeatable
    #[arg(short, long, hide_short_help = true, value_name = "NAME=VALUE", value_parser = parse_pair)]
    env: Vec<OsString>,
    /// Directory in which the workload starts [default: / or that of the OCI image]
    #[arg(short, long, hide_short_help = true, value_name = "DIR", value_parser = parse_absolute)]
    workdir: Option<OsString>,
    /// User of the workload in the guest, a name or a number [default: root or that of the OCI
    /// image]
    #[arg(short, long, hide_short_help = true, value_name = "USER[:GROUP]")]
    user: Option<OsString>,
    /// Whether the workload starts again after its end, and how often at most: no, on-failure or
    /// always [default: no, any number]
    #[arg(long, hide_short_help = true, value_name = "WHEN[:MAX]", value_parser = parse_restart)]
    restart: Option<RestartPolicy>,
    /// Command of the workload, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Parts of an image that use its workload, besides the run file of `--run`.
#[derive(Clone, Copy, Debug)]
pub(in crate::image_command) struct Uses {
    /// Whether the image gets `/init`, which runs the workload.
    pub(in crate::image_command) init: bool,
    /// Whether an OCI image is written, whose config has the workload.
    pub(in crate::image_command) config: bool,
}

/// What becomes of the options and a config.
#[derive(Debug, PartialEq, Eq)]
enum Decision<'a> {
    /// The tree stays as it is.
    Nothing,
    /// The image boots this system itself; the tree stays as it is.
    System(&'a OsStr),
    /// The image names no command; the tree stays as it is.
    NoCommand,
    /// A workload with these words.
    Words(Vec<&'a OsStr>),
}

impl WorkloadOptions {
    /// Adds the run file to `tree` if the options ask for it.
    ///
    /// # Errors
    /// Options that do not go together, or do not fit the source; a config with NUL in it; a user
    /// that the tree does not have; a file
    /// in place of one of the directories that the workload needs.
    pub(in crate::image_command) fn apply(
        &self,
        tree: &mut Tree,
        source: &SourceKind,
        wanted: Uses,
        mtime: i64,
    ) -> Result<()> {
        let process = source.process();
        let words = match self.decide(process, wanted)? {
            Decision::Nothing => return Ok(()),
            Decision::System(program) => {
                log::info!("no workload is configured: the image boots {}", program.display());
                return Ok(());
            }
            Decision::NoCommand => {
                log::warn!(
                    "no workload is configured: the image names no command; give one after --"
                );
                return Ok(());
            }
            Decision::Words(words) => words,
        };
        let usual = Process::default();
        let given = Given {
            env: &self.env,
            workdir: self.workdir.as_deref(),
            user: self.user.as_deref(),
            restart: self.restart.unwrap_or_default(),
            ..Given::default()
        };
        add_run_file(tree, &words, process.unwrap_or(&usual), &given, mtime)
    }

    /// Decides what runs: `process` is that of an OCI image.
    fn decide<'a>(&'a self, process: Option<&'a Process>, uses: Uses) -> Result<Decision<'a>> {
        let Some(process) = process else {
            ensure!(
                self.entrypoint.is_none() || (uses.config && !self.run),
                "--entrypoint is for OCI images, and SOURCE is none: give the command after --"
            );
            match (self.run, self.command.is_empty()) {
                (true, true) => bail!("--run: SOURCE names no command; give one after --"),
                (true, false) => {
                    let words = self.command.iter().map(OsString::as_os_str);
                    return Ok(Decision::Words(words.collect()));
                }
                (false, _) => {}
            }
            if let Some(option) = self.first_given().filter(|_| !uses.config) {
                bail!("{option} is for a workload: give --run, too");
            }
            return Ok(Decision::Nothing);
        };
        if !self.run && !uses.init {
            if let Some(option) = self.first_given().filter(|_| !uses.config) {
                bail!("{option} is for a workload: give --init or --run, too");
            }
            return Ok(Decision::Nothing);
        }
        let words = image_config::words(process, self.entrypoint.as_deref(), &self.command);
        let is_own = self.entrypoint.is_none() && self.command.is_empty();
        Ok(match words.as_slice() {
            [] if self.run => bail!("--run: the image names no command; give one after --"),
            [] => Decision::NoCommand,
            [program] if is_own && SYSTEMS.iter().any(|system| program == system) => {
                Decision::System(program)
            }
            _ => Decision::Words(words),
        })
    }

    /// The command and its surroundings for the config of an OCI image; `None` if they are those
    /// of the base, whose are `base`.
    ///
    /// # Errors
    /// Text that is not UTF-8; a restart, which a config cannot have.
    pub(in crate::image_command) fn process(
        &self,
        base: Option<&Process>,
    ) -> Result<Option<Process>> {
        if self.first_given().is_none() {
            return Ok(None);
        }
        ensure!(
            self.restart.is_none() || self.run,
            "--restart: the config of an OCI image has no such thing; give --init and --run, too"
        );
        let text = |word: &OsStr| {
            let text = word.to_str().map(str::to_owned);
            text.with_context(|| format!("{}: not UTF-8", show(word.as_bytes())))
        };
        let mut process = base.cloned().unwrap_or_default();
        let words: Vec<String> =
            self.command.iter().map(|word| text(word)).collect::<Result<_>>()?;
        if let Some(program) = &self.entrypoint {
            let is_given = !program.is_empty();
            process.entrypoint =
                is_given.then(|| text(program)).into_iter().collect::<Result<_>>()?;
            process.cmd = words;
        } else if !words.is_empty() {
            process.cmd = words;
        }
        let env = merged(&process.env, &self.env).into_iter();
        process.env = env.map(|pair| text(OsStr::from_bytes(pair))).collect::<Result<_>>()?;
        if let Some(dir) = &self.workdir {
            process.working_dir = text(dir)?;
        }
        if let Some(user) = &self.user {
            process.user = text(user)?;
        }
        Ok(Some(process))
    }

    /// Whether an option of a workload is given.
    pub(in crate::image_command) fn is_given(&self) -> bool {
        self.run || self.first_given().is_some()
    }

    /// The first option that only a workload has.
    fn first_given(&self) -> Option<String> {
        let rows = [
            (self.entrypoint.is_some(), "--entrypoint"),
            (!self.env.is_empty(), "--env"),
            (self.workdir.is_some(), "--workdir"),
            (self.user.is_some(), "--user"),
            (self.restart.is_some(), "--restart"),
        ];
        let option = rows.iter().find(|(is_given, _)| *is_given).map(|row| row.1.to_owned());
        option.or_else(|| self.command.first().map(|word| show(word.as_bytes())))
    }
}

/// What a user sets of a workload in place of the config of an image.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::image_command) struct Given<'a> {
    /// Variables, each as `NAME=VALUE`.
    pub(in crate::image_command) env: &'a [OsString],
    /// Working directory.
    pub(in crate::image_command) workdir: Option<&'a OsStr>,
    /// User and group.
    pub(in crate::image_command) user: Option<&'a OsStr>,
    /// Commands that run before the workload.
    pub(in crate::image_command) before: &'a [Vec<String>],
    /// Whether and when the workload starts again after its end.
    pub(in crate::image_command) restart: RestartPolicy,
    /// Time for the workload to end after its stop signal.
    pub(in crate::image_command) stop_timeout: Option<Duration>,
    /// What happens to an unhealthy workload.
    pub(in crate::image_command) unhealthy: Unhealthy,
}

/// Adds the run file of a workload to `tree`: the command `words` with the surroundings of
/// `process`, unless they are `given`.
///
/// # Errors
/// A config with NUL in it; a user that the tree does not have; a file in place of one of the
/// directories that the workload needs.
pub(in crate::image_command) fn add_run_file(
    tree: &mut Tree,
    words: &[&OsStr],
    process: &Process,
    given: &Given<'_>,
    mtime: i64,
) -> Result<()> {
    let mut notes = Vec::new();
    let settings = ImageSettings::of(process, &mut notes)?;
    for note in notes {
        log::warn!("left out of the image's config: {note}");
    }
    let health = settings.health_args.iter().map(|word| &**word).collect();
    let (cwd, missing_cwd) = match (given.workdir, &settings.cwd) {
        (Some(dir), _) => (Some(dir.as_bytes()), MissingCwd::Refuse),
        (None, Some(dir)) => (Some(dir.as_bytes()), MissingCwd::Make),
        (None, None) => (None, MissingCwd::Refuse),
    };
    let before = given.before.iter().map(|words| words.iter().map(String::as_bytes).collect());
    let workload = Workload {
        args: words.iter().map(|word| word.as_bytes()).collect(),
        env: merged(&process.env, given.env),
        cwd,
        missing_cwd,
        user: user::choose(tree, given.user, &process.user)?,
        before: before.collect(),
        restart: given.restart,
        stop_signal: settings.stop_signal,
        stop_timeout: given.stop_timeout,
        volumes: settings.volumes.iter().map(String::as_bytes).collect(),
        health: Health { args: health, schedule: settings.schedule, unhealthy: given.unhealthy },
    };
    inject::workload(tree, &workload, mtime)
}

/// Variables of an image, and those of the user, who wins.
fn merged<'a>(of_image: &'a [String], given: &'a [OsString]) -> Vec<&'a [u8]> {
    let name = |pair: &'a [u8]| pair.split(|&byte| byte == b'=').next();
    let mut variables: Vec<&[u8]> = of_image.iter().map(String::as_bytes).collect();
    // An image may have a hundred thousand. The config has each name once.
    let places = variables.iter().enumerate();
    let mut places: HashMap<_, _> = places.map(|(place, pair)| (name(pair), place)).collect();
    for pair in given.iter().map(|pair| pair.as_bytes()) {
        match places.get(&name(pair)) {
            Some(&place) => variables[place] = pair,
            None => {
                places.insert(name(pair), variables.len());
                variables.push(pair);
            }
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Uses = Uses { init: false, config: false };
    const INIT: Uses = Uses { init: true, config: false };

    fn strings<T: From<String>>(words: &[&str]) -> Vec<T> {
        words.iter().map(|&word| word.to_owned().into()).collect()
    }

    fn process(entrypoint: &[&str], cmd: &[&str]) -> Process {
        Process { entrypoint: strings(entrypoint), cmd: strings(cmd), ..Process::default() }
    }

    #[test]
    fn words_of_the_user_take_the_place_of_cmd() {
        let both = process(&["/run", "*"], &["a b", ""]);
        for (name, entrypoint, command, expected) in [
            ("the image's", None, &[][..], &["/run", "*", "a b", ""][..]),
            ("words", None, &["c", "$x"], &["/run", "*", "c", "$x"]),
            ("entrypoint", Some("/x"), &[], &["/x"]),
            ("both", Some("/x"), &["c"], &["/x", "c"]),
            ("no entrypoint", Some(""), &["c"], &["c"]),
        ] {
            let options = WorkloadOptions {
                run: true,
                entrypoint: entrypoint.map(Into::into),
                command: strings(command),
                ..WorkloadOptions::default()
            };
            let expected = expected.iter().map(OsStr::new).collect();
            assert_eq!(
                options.decide(Some(&both), NONE).unwrap(),
                Decision::Words(expected),
                "{name}"
            );
        }
    }

    #[test]
    fn systems_and_images_without_a_command_have_no_workload() {
        let run = WorkloadOptions { run: true, ..WorkloadOptions::default() };
        let none = WorkloadOptions::default();
        let system = process(&[], &["/sbin/init"]);
        assert_eq!(
            none.decide(Some(&system), INIT).unwrap(),
            Decision::System(OsStr::new("/sbin/init"))
        );
        let empty = process(&[], &[]);
        assert_eq!(none.decide(Some(&empty), INIT).unwrap(), Decision::NoCommand);
        assert_eq!(none.decide(Some(&system), NONE).unwrap(), Decision::Nothing);
        assert_eq!(none.decide(None, INIT).unwrap(), Decision::Nothing);
        assert!(run.decide(Some(&empty), INIT).is_err() && run.decide(None, INIT).is_err());
        let with_words = process(&["/sbin/init"], &["--version"]);
        assert!(matches!(none.decide(Some(&with_words), INIT).unwrap(), Decision::Words(_)));
    }

    #[test]
    fn options_of_a_workload_need_one() {
        let usual = WorkloadOptions::default;
        let image = process(&["/app"], &[]);
        for (options, expected) in [
            (WorkloadOptions { env: strings(&["A=1"]), ..usual() }, "--env"),
            (WorkloadOptions { user: Some("ada".into()), ..usual() }, "--user"),
            (WorkloadOptions { workdir: Some("/x".into()), ..usual() }, "--workdir"),
            (WorkloadOptions { restart: Some(RestartPolicy::default()), ..usual() }, "--restart"),
            (WorkloadOptions { entrypoint: Some("/x".into()), ..usual() }, "--entrypoint"),
            (WorkloadOptions { command: strings(&["ls"]), ..usual() }, "ls"),
        ] {
            for process in [None, Some(&image)] {
                let error = options.decide(process, NONE).unwrap_err().to_string();
                assert!(error.starts_with(expected), "{error}");
            }
        }
    }

    #[test]
    fn variables_of_the_user_win() {
        let of_image = strings(&["PATH=/bin", "A=1=2", "B="]);
        let found = merged(&of_image, &[]);
        assert_eq!(found, [&b"PATH=/bin"[..], b"A=1=2", b"B="]);
        let given = strings(&["A=", "C=2", "C=3"]);
        assert_eq!(merged(&of_image, &given), [&b"PATH=/bin"[..], b"A=", b"B=", b"C=3"]);
    }
}
