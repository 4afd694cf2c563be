//! Options of a command: `chrootvm … -- COMMAND` and `chrootvm exec` share them. They
//! become records for `/init` ([`proto::settings`]).

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, anyhow, ensure};
use machine::session::terminal;
use nix::unistd::dup2_stdin;
use proto::settings::health::Schedule;
use proto::settings::{self, Record, Size};

use crate::line::foreign::habit;
use crate::line::values::parse_variable;

/// Environment of the command
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Command", arg(habit("interactive").short('i')))]
pub struct CommandOptions {
    /// Set a variable, or pass on this host's; repeatable
    ///
    /// COMMAND always has PATH, HOME and TERM.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// Directory in which COMMAND starts [default: /]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<OsString>,
    /// User of COMMAND in the guest [default: root]
    ///
    /// USER and GROUP are names of the guest's /etc/passwd and /etc/group, or numbers.
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<OsString>,
    /// Give COMMAND a terminal [default: if standard input and output are terminals]
    #[arg(short, long, overrides_with = "no_tty")]
    tty: bool,
    /// Give COMMAND no terminal
    #[arg(short = 'T', long, hide_short_help = true)]
    no_tty: bool,
    /// Give COMMAND an empty standard input
    ///
    /// chrootvm leaves its own standard input alone: a loop may read its lines from there.
    #[arg(short, long, conflicts_with = "tty")]
    no_stdin: bool,
    /// Settings of the image that is ROOTFS.
    #[arg(skip)]
    pub of_image: ImageCommand,
}

/// Settings that the config of an image has for its command. Options of the user win.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageCommand {
    /// Variables `NAME=VALUE`.
    pub env: Vec<String>,
    /// Working directory, which is made if it is missing; empty for `/`.
    pub workdir: String,
    /// User and group; empty for root.
    pub user: String,
    /// Number of the signal that asks the command to end.
    pub stop_signal: Option<u8>,
    /// Paths of directories that the command may write to.
    pub volumes: Vec<String>,
    /// Words of the health check, if the image's own command runs.
    pub health_args: Vec<CString>,
    /// Times of the health check.
    pub schedule: Schedule,
}

/// Looks up a variable of the host's environment.
pub type Variables<'a> = &'a dyn Fn(&OsStr) -> Option<OsString>;

/// Size that a terminal gets if the host's has none: that of the VT100.
pub const DEFAULT_SIZE: Size = Size { rows: 24, columns: 80 };

impl CommandOptions {
    /// Name of the first option that was given, if any was.
    #[must_use]
    pub fn any_given(&self) -> Option<&'static str> {
        let options = [
            (!self.env.is_empty(), "--env"),
            (self.workdir.is_some(), "--workdir"),
            (self.user.is_some(), "--user"),
            (self.tty, "--tty"),
            (self.no_tty, "--no-tty"),
            (self.no_stdin, "--no-stdin"),
        ];
        options.into_iter().find_map(|(given, name)| given.then_some(name))
    }

    /// Replaces standard input by /dev/null if `--no-stdin` is given. Call it before anything
    /// looks at standard input.
    pub fn prepare_stdin(&self) -> Result<()> {
        if self.no_stdin {
            empty_stdin()?;
        }
        Ok(())
    }

    /// Whether the user asks for a terminal.
    #[must_use]
    pub fn wants_terminal(&self) -> bool {
        self.tty
    }

    /// Size of the terminal that the command gets, if it gets one. What starts again has none.
    #[must_use]
    pub fn terminal(&self, starts_again: bool) -> Option<Size> {
        let are_terminals = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let is_default = !self.no_tty && !starts_again && are_terminals;
        let is_wanted = self.tty || (is_default && terminal::is_foreground());
        is_wanted.then(|| terminal::size().unwrap_or(DEFAULT_SIZE))
    }

    /// The records for `command`. `terminal` is the result of [`Self::terminal`], and
    /// `variables` are those of the host's environment.
    ///
    /// # Errors
    /// An option has a bad value, or the records have more bytes than fit into the settings.
    pub fn records(
        &self,
        command: &[OsString],
        terminal: Option<Size>,
        variables: Variables<'_>,
    ) -> Result<Vec<Vec<u8>>> {
        let mut given: Vec<Vec<u8>> = Vec::new();
        // If a name occurs twice, the last one wins; TERM is only a default.
        let of_image = self.of_image.env.iter().map(OsStr::new);
        let of_user = self.env.iter().map(OsString::as_os_str);
        for text in [OsStr::new("TERM")].into_iter().chain(of_image).chain(of_user) {
            let parsed = parse_variable(text, variables);
            let Some(variable) =
                parsed.map_err(|why| anyhow!("--env {}: {why}", text.display()))?
            else {
                continue;
            };
            given.retain(|other| name_of(other) != name_of(&variable));
            given.push(variable);
        }
        let mut records: Vec<_> = given.iter().map(|text| Record::Env(text).to_bytes()).collect();
        if let Some(dir) = &self.workdir {
            ensure!(dir.as_bytes().starts_with(b"/"), "--workdir is an absolute path in the guest");
            records.push(Record::Cwd(dir.as_bytes()).to_bytes());
        } else if !self.of_image.workdir.is_empty() {
            records.push(Record::MakeCwd(self.of_image.workdir.as_bytes()).to_bytes());
        }
        let of_image = Some(OsStr::new(&self.of_image.user)).filter(|user| !user.is_empty());
        if let Some(user) = self.user.as_deref().or(of_image) {
            records.push(Record::User(user.as_bytes()).to_bytes());
        }
        let ImageCommand { stop_signal, volumes, .. } = &self.of_image;
        records.extend(stop_signal.map(|number| Record::StopSignal(number).to_bytes()));
        let volumes = volumes.iter().map(|path| Record::ImageVolume(path.as_bytes()).to_bytes());
        records.extend(volumes);
        let ImageCommand { health_args, schedule, .. } = &self.of_image;
        records
            .extend(health_args.iter().map(|word| Record::HealthArg(word.to_bytes()).to_bytes()));
        if !health_args.is_empty() {
            records.push(Record::Health(*schedule).to_bytes());
        }
        records.extend(terminal.map(|size| Record::Terminal(size).to_bytes()));
        records.extend(command.iter().map(|word| Record::Arg(word.as_bytes()).to_bytes()));
        let length: usize = records.iter().map(|record| record.len() + 1).sum();
        ensure!(
            length <= settings::MAX,
            "COMMAND and its variables have {length} bytes; {} is the most",
            settings::MAX
        );
        Ok(records)
    }
}

/// Replaces standard input by /dev/null.
///
/// # Errors
/// The file cannot be opened.
pub fn empty_stdin() -> Result<()> {
    let null = File::open("/dev/null").context("open /dev/null")?;
    dup2_stdin(null).context("replace standard input by /dev/null")
}

/// The name in a variable `NAME=VALUE`.
fn name_of(variable: &[u8]) -> &[u8] {
    variable.split(|&byte| byte == b'=').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        how: CommandOptions,
        #[arg(last = true)]
        command: Vec<OsString>,
    }

    fn records(words: &[&str]) -> Result<Vec<String>> {
        let options = Options::parse_from([&["x"], words, &["--", "ls", "a b"]].concat());
        let variables = |name: &OsStr| (name == "TERM").then(|| "dumb".into());
        let terminal = options.how.terminal(false);
        let records = options.how.records(&options.command, terminal, &variables)?;
        Ok(records.into_iter().map(|record| String::from_utf8(record).unwrap()).collect())
    }

    #[test]
    fn options_become_records() {
        let words = ["-T", "-e", "A=1", "-e", "TERM=vt100", "-eA=2", "-w", "/tmp", "-u", "nobody"];
        assert_eq!(
            records(&words).unwrap(),
            ["env=TERM=vt100", "env=A=2", "cwd=/tmp", "user=nobody", "arg=ls", "arg=a b"]
        );
        let with_terminal = records(&["-T", "-t"]).unwrap();
        assert!(with_terminal.iter().any(|record| record.starts_with("terminal=")));
        let unset = records(&["-T", "-e", "UNSET"]).unwrap();
        assert!(!unset.iter().any(|record| record.contains("UNSET")));
    }

    #[test]
    fn options_win_over_the_image() {
        let of_image = ImageCommand {
            env: ["PATH=/opt", "TERM=x", "A=image"].map(str::to_owned).into(),
            workdir: "/srv".into(),
            user: "www".into(),
            stop_signal: Some(3),
            volumes: vec!["/data".into()],
            ..ImageCommand::default()
        };
        for (words, expected) in [
            (
                &["-T"][..],
                "env=PATH=/opt env=TERM=x env=A=image make-cwd=/srv user=www stop-signal=3 \
                 image-volume=/data",
            ),
            (
                &["-T", "-eA=1", "-w/", "-u0"],
                "env=PATH=/opt env=TERM=x env=A=1 cwd=/ user=0 stop-signal=3 image-volume=/data",
            ),
        ] {
            let mut options = Options::parse_from([&["x"], words].concat());
            options.how.of_image = of_image.clone();
            let terminal = Some(OsString::from("dumb"));
            let records = options.how.records(&[], None, &|_| terminal.clone()).unwrap();
            let records: Vec<_> =
                records.iter().map(|record| String::from_utf8_lossy(record)).collect();
            assert_eq!(records.join(" "), expected, "{words:?}");
        }
    }

    #[test]
    fn a_given_option_is_named() {
        for (words, name) in [
            (&["-e", "A=1"][..], "--env"),
            (&["-w", "/"], "--workdir"),
            (&["-u", "0"], "--user"),
            (&["-t"], "--tty"),
            (&["-T"], "--no-tty"),
            (&["-n"], "--no-stdin"),
        ] {
            let options = Options::parse_from([&["x"], words].concat());
            assert_eq!(options.how.any_given(), Some(name));
        }
        assert_eq!(Options::parse_from(["x"]).how.any_given(), None);
    }

    #[test]
    fn bad_options_are_refused() {
        for words in [["-e", "=x"], ["-w", "tmp"]] {
            assert!(records(&words).is_err(), "{words:?}");
        }
        let long = "x".repeat(settings::MAX);
        assert!(records(&["-e", &format!("A={long}")]).is_err());
    }
}
