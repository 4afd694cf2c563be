//! Arguments of `chrootvm [OPTIONS] ROOTFS …`, and which of them go together.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use machine::root::kinds::Root;
use machine::session::terminal;
use proto::settings::Size;

use super::background::BackgroundOptions;
use super::diagnostics::Diagnostics;
use super::directories::Directories;
use super::known_image::KnownImage;
use super::log_options::LogOptions;
use super::machine_options::MachineOptions;
use super::workload::{Configured, WorkloadOptions};
use crate::command::{CommandOptions, DEFAULT_SIZE};
use crate::line::foreign::habit;
use crate::line::run_help;
use crate::line::values::{parse_duration, parse_name};
use crate::pull::PullArguments;

/// Run a command in a virtual machine, or boot one
#[derive(Debug, clap::Args)]
#[command(
    arg(habit("rm")),
    override_usage = run_help::USAGE,
    before_help = run_help::EXAMPLES,
    after_help = run_help::OFTEN_USED,
    after_long_help = run_help::MORE
)]
pub struct RunArguments {
    /// Directory or image that becomes the root, read-only unless --rw or --overlay is given
    ///
    /// An image is a file system (erofs, ext4, squashfs, btrfs, xfs), a cpio archive, or a block
    /// device. ROOTFS may be /, this host's own system. An OCI image is oci:REF (docker://REF) in a
    /// registry, oci-layout:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:REF], or the path
    /// of a layout or archive. The guest may write to its memory over it.
    #[arg(required_unless_present = "doctor")]
    pub(super) rootfs: Option<PathBuf>,
    /// Command to run in the guest, and its arguments; one word without -- is INIT
    ///
    /// INIT is the program that becomes PID 1: an absolute path in the guest, or a name to look up
    /// there. Without COMMAND and INIT, the guest runs the workload that /etc/virtinit/run in ROOTFS
    /// configures, or /bin/sh on the console. After an OCI image all words are a COMMAND, as for podman run: they
    /// replace the Cmd of the image, and follow its Entrypoint.
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    words: Vec<OsString>,
    /// INIT, once [`Self::take_words`] has set it.
    #[arg(skip)]
    pub(super) payload: Option<OsString>,
    /// COMMAND, once [`Self::take_words`] has set it; empty with INIT or without any word.
    #[arg(skip)]
    pub(super) command: Vec<OsString>,
    /// The OCI image that ROOTFS is, once it is open.
    #[arg(skip)]
    pub(super) image: Option<KnownImage>,
    /// What PID 1 supervises, once [`Self::choose_workload`] has set it.
    #[arg(skip)]
    pub(super) supervised: Option<Configured>,
    #[command(flatten)]
    pub(super) directories: Directories,
    #[command(flatten)]
    pub(super) command_options: CommandOptions,
    #[command(flatten)]
    pub(super) log_options: LogOptions,
    /// Run PROGRAM with the words of COMMAND, instead of what the OCI image runs; an empty PROGRAM
    /// runs COMMAND alone
    #[arg(long, help_heading = "Command", value_name = "PROGRAM")]
    pub(super) entrypoint: Option<OsString>,
    /// End the machine this long after the start of chrootvm: 90 (seconds), 500ms, 5m, 2h
    #[arg(long, help_heading = "Command", value_name = "DURATION", value_parser = parse_duration)]
    pub(super) timeout: Option<Duration>,
    /// Name of the machine for `chrootvm exec`, `ps`, `logs`, `restart` and `stop` [default: the
    /// process id of chrootvm]
    #[arg(long, help_heading = "Machine", value_parser = parse_name)]
    pub(super) name: Option<String>,
    #[command(flatten)]
    pub(super) background: BackgroundOptions,
    #[command(flatten)]
    pub(super) machine: MachineOptions,
    #[command(flatten)]
    pub(super) workload: WorkloadOptions,
    #[command(flatten)]
    pub(super) pull: PullArguments,
    #[command(flatten)]
    pub(super) diagnostics: Diagnostics,
    /// Ignore the configuration files .chrootvm.toml and ~/.config/virtinitrd/config.toml
    #[arg(long)]
    pub(super) no_config: bool,
    /// Print the commands, ready to paste, instead of running them
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Run nothing; say what this host has and what is missing, and which command installs it
    #[arg(long)]
    pub(super) doctor: bool,
}

/// Meaning of a single word after ROOTFS that no `--` precedes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SingleWord {
    /// INIT, as for the chrootvm of osbuild/initrd.
    Init,
    /// COMMAND, as for podman: `chrootvm run`.
    Command,
}

impl RunArguments {
    /// Takes the words after ROOTFS as COMMAND or as INIT. `line` is the whole command line.
    ///
    /// # Errors
    /// No word follows `--`: most likely, a variable of a script is empty. Or the first word is
    /// the size of `--overlay`.
    pub(super) fn take_words(&mut self, line: &[OsString], single: SingleWord) -> Result<()> {
        let mut words = std::mem::take(&mut self.words);
        // clap drops the `--` before the words, and takes everything after it.
        let before = line.len().checked_sub(words.len() + 1).and_then(|at| line.get(at));
        let has_dashes = before.is_some_and(|word| word == "--");
        if let (false, Some(size)) = (has_dashes, words.first()) {
            ensure!(!self.directories.is_overlay_size(size), "{}", wrong_overlay(size));
        }
        match (words.len(), has_dashes, single) {
            (0, true, _) => bail!("no COMMAND after --"),
            (1, false, SingleWord::Init) => self.payload = words.pop(),
            _ => self.command = words,
        }
        Ok(())
    }

    /// Explanation of a ROOTFS that does not exist, if it is a value of an option.
    pub(super) fn misread_rootfs(&self) -> Option<String> {
        let rootfs = self.rootfs.as_deref()?.as_os_str();
        self.directories.is_overlay_size(rootfs).then(|| wrong_overlay(rootfs))
    }

    /// Name of the open `root` for messages.
    pub(super) fn root_name(&self, root: &Root) -> String {
        match &self.image {
            Some(image) => format!("image {}", image.name),
            None => root.path().display().to_string(),
        }
    }

    /// Size of the terminal that COMMAND gets, or from which the console gets its keys; `None`
    /// if there is no such terminal.
    pub(super) fn terminal(&self) -> Option<Size> {
        let of_console = || terminal::size().unwrap_or(DEFAULT_SIZE);
        match self.is_hosted() {
            true if self.log_options.is_given() => None,
            true => self.command_options.terminal(self.starts_again()),
            false => std::io::stdin().is_terminal().then(of_console),
        }
    }

    /// The guest's hostname without `--hostname`. Without COMMAND and name the root sets it.
    pub(super) fn default_hostname(&self) -> Option<&str> {
        self.name.as_deref().or(self.is_hosted().then_some("localhost"))
    }

    /// Refuses options that have no effect without a COMMAND. clap cannot check this: it does
    /// not know which words are a COMMAND.
    pub(super) fn check_command_options(&self) -> Result<()> {
        if self.is_hosted() {
            ensure!(
                !(self.command_options.wants_terminal() && self.starts_again()),
                "--tty: a terminal hangs up at the end of its program, so what starts again has \
                 none; add --restart no"
            );
            return Ok(());
        }
        let others = [
            (self.log_options.is_given(), "--logs"),
            (self.diagnostics.keep, "--keep"),
            (self.diagnostics.verbose, "--verbose"),
            (self.diagnostics.details.timing, "--timing"),
        ];
        let other = others.into_iter().find_map(|(given, name)| given.then_some(name));
        let of_workload = self.workload.any_given();
        match self.command_options.any_given().or(of_workload).or(other) {
            Some(option) => match &self.payload {
                Some(init) if self.image.is_some() => bail!(
                    "{option} is for a COMMAND, and the image boots {} as PID 1: chrootvm IMAGE -- \
                     COMMAND",
                    init.display()
                ),
                Some(init) => bail!(
                    "{option} is for a COMMAND, and the single word {} is INIT: put -- before it, \
                     or use `chrootvm run`",
                    init.display()
                ),
                None => bail!(
                    "{option} is for a COMMAND or the workload of ROOTFS, and ROOTFS configures none: \
                     chrootvm ROOTFS -- COMMAND"
                ),
            },
            None => Ok(()),
        }
    }
}

/// Message about a `size` that follows `--overlay` as a word of its own.
fn wrong_overlay(size: &OsStr) -> String {
    let size = size.display();
    format!("--overlay {size}: the size belongs to the option, as in --overlay={size}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct RunLine {
        #[command(flatten)]
        arguments: RunArguments,
    }

    /// The arguments of `x WORDS`.
    pub(in crate::run) fn arguments(words: &[&str], single: SingleWord) -> Result<RunArguments> {
        let line = [&["x"], words].concat();
        let mut arguments = RunLine::parse_from(&line).arguments;
        let line: Vec<_> = line.into_iter().map(OsString::from).collect();
        arguments.take_words(&line, single)?;
        Ok(arguments)
    }

    #[test]
    fn words_are_init_or_command() {
        for (words, init, command) in [
            (&["/r"][..], None, &[][..]),
            (&["/r", "sh"], Some("sh"), &[]),
            (&["/r", "uname", "-r"], None, &["uname", "-r"]),
            (&["/r", "ls", "/", "--rw", "--help"], None, &["ls", "/", "--rw", "--help"]),
            (&["/r", "sh", "--", "x"], None, &["sh", "--", "x"]),
            (&["/r", "sh", "--"], None, &["sh", "--"]),
            (&["/r", "--", "true"], None, &["true"]),
            (&["/r", "--", "-x"], None, &["-x"]),
            (&["/r", "--", "--"], None, &["--"]),
            (&["--rw", "/r", "-q", "uname", "-r"], None, &["uname", "-r"]),
            (&["/r", "--append", "x", "sh"], Some("sh"), &[]),
            (&["/r", "-q", "--", "sh"], None, &["sh"]),
            (&["--", "/r"], None, &[]),
            (&["--", "/r", "sh"], Some("sh"), &[]),
        ] {
            let arguments = arguments(words, SingleWord::Init).unwrap();
            assert_eq!(arguments.rootfs.as_deref(), Some("/r".as_ref()), "{words:?}");
            assert_eq!(arguments.payload.as_deref(), init.map(AsRef::as_ref), "{words:?}");
            assert_eq!(arguments.command, command, "{words:?}");
        }
        let run = |words| arguments(words, SingleWord::Command).unwrap().command;
        assert!(run(&["/r"]).is_empty());
        assert_eq!(run(&["/r", "-it", "--rm", "sh"]), ["sh"]);
        assert_eq!(run(&["/r", "--", "sh", "-i"]), ["sh", "-i"]);
        for (words, single) in [
            (&["/r", "--"][..], SingleWord::Init),
            (&["-q", "/r", "--rw", "--"], SingleWord::Init),
            (&["/r", "--"], SingleWord::Command),
        ] {
            let error = arguments(words, single).unwrap_err();
            assert_eq!(error.to_string(), "no COMMAND after --", "{words:?}");
        }
    }

    #[test]
    fn a_size_is_no_word() {
        for (words, expected) in [
            (&["--overlay", "/r", "2G"][..], Err("--overlay 2G: ")),
            (&["/r", "--overlay", "50%", "ls", "/"], Err("--overlay 50%: ")),
            (&["/r", "--overlay", "2GiB", "--", "ls"], Err("as in --overlay=2GiB")),
            (&["/r", "--overlay", "--", "2G"], Ok(None)),
            (&["/r", "2G"], Ok(None)),
            (&["/r", "--overlay", ""], Ok(None)),
            (&["/r", "--overlay=1G", "2G"], Ok(None)),
            (&["--overlay=1G", "2G"], Ok(None)),
            (&["2G"], Ok(None)),
            (&["--overlay", "/r", "ls", "/"], Ok(None)),
            (&["--overlay", "2G", "/r", "ls"], Ok(Some("as in --overlay=2G"))),
        ] {
            let found = arguments(words, SingleWord::Init);
            let found = found.map(|arguments| arguments.misread_rootfs());
            match (found, expected) {
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{words:?}: {error}");
                }
                (Ok(Some(told)), Ok(Some(part))) => assert!(told.contains(part), "{words:?}"),
                (found, _) => assert_eq!(found.ok(), Some(None), "{words:?}"),
            }
        }
    }

    #[test]
    fn options_of_a_command_need_one() {
        for (words, expected) in [
            (&["/r"][..], None),
            (&["/r", "--", "true"], None),
            (&["-w", "/", "/r", "--", "true"], None),
            (&["--name", "x", "/r", "INIT"], None),
            (
                &["-w", "/", "/r", "INIT"],
                Some(
                    "--workdir is for a COMMAND, and the single word INIT is INIT: put -- before it, or use `chrootvm run`",
                ),
            ),
            (&["--timing", "/r", "INIT"], Some("--timing is for a COMMAND")),
            (&["--logs=d", "/r"], Some("--logs is for a COMMAND or the workload of ROOTFS, ")),
        ] {
            let arguments = arguments(words, SingleWord::Init).unwrap();
            let error = arguments.check_command_options().err();
            let error = error.map(|error| error.to_string()).unwrap_or_default();
            match expected {
                Some(part) => assert!(error.starts_with(part), "{words:?}: {error}"),
                None => assert_eq!(error, "", "{words:?}"),
            }
        }
    }
}
