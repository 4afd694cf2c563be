//! `chrootvm`: boots a directory or an image as a virtual machine.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use chrootvm::image_command::{guarded, rootdir};
use chrootvm::line::foreign;
use chrootvm::run::SingleWord;
use chrootvm::{
    cache_command, completions, exec, image_command, kernel, logs, mkvirtinitrd, program, ps,
    restart, run, stop,
};
use clap::{Command, CommandFactory, Parser};
use machine::isolation::userns;
use machine::kernel::pack;
use machine::plan::exit_status::EXIT_TROUBLE;
use machine::process::child;
use machine::running::detached::{self, Starter};
use machine::session::terminal;
use program::{parse, parse_with_hints};

/// Run a command in a virtual machine, or boot one
#[derive(Debug, Parser)]
#[command(name = "chrootvm", version, mut_args(|argument| argument.hide_short_help(true)))]
struct ChrootVm {
    #[command(flatten)]
    run: run::RunArguments,
}

/// Description of the words after ROOTFS. One word alone is a COMMAND here.
const RUN_WORDS: &str = "\
Command to run in the guest, and its arguments [default: the workload of ROOTFS, or /bin/sh]";

/// Run a command in a virtual machine
#[derive(Debug, Parser)]
#[command(
    name = "chrootvm run",
    version,
    override_usage = "chrootvm run [OPTIONS] ROOTFS [[--] COMMAND [ARG]...]",
    before_help = "Examples:\n  chrootvm run ./debian hostname\n  chrootvm run -it ./debian bash",
    mut_args(|argument| argument.hide_short_help(true)),
    mut_arg("words", |words| words.long_help(RUN_WORDS))
)]
struct ChrootVmRun {
    #[command(flatten)]
    run: run::RunArguments,
}

/// Run one more command in a running machine
#[derive(Debug, Parser)]
#[command(name = "chrootvm exec", version)]
struct ChrootVmExec {
    #[command(flatten)]
    exec: exec::Exec,
}

/// Make images of directories, archives and OCI images, and look into them
#[derive(Debug, Parser)]
#[command(name = "chrootvm image", version)]
struct ChrootVmImage {
    #[command(flatten)]
    image: image_command::Image,
}

/// List, check and remove what is kept: images, their layers, kernels
#[derive(Debug, Parser)]
#[command(name = "chrootvm cache", version)]
struct ChrootVmCache {
    #[command(flatten)]
    cache: cache_command::CacheCommand,
}

/// Build and list small guest kernels, and print the options that a kernel needs
#[derive(Debug, Parser)]
#[command(name = "chrootvm kernel", version)]
struct ChrootVmKernel {
    #[command(flatten)]
    kernel: kernel::Kernel,
}

/// Print the log files of a machine that was started with --logs
#[derive(Debug, Parser)]
#[command(name = "chrootvm logs", version)]
struct ChrootVmLogs {
    #[command(flatten)]
    logs: logs::Logs,
}

/// List your running machines
#[derive(Debug, Parser)]
#[command(name = "chrootvm ps", version)]
struct ChrootVmPs {
    #[command(flatten)]
    ps: ps::Ps,
}

/// End running machines, as SIGTERM to their chrootvm does
#[derive(Debug, Parser)]
#[command(name = "chrootvm stop", version)]
struct ChrootVmStop {
    #[command(flatten)]
    stop: stop::Stop,
}

/// End the workloads of running machines, and start them again
#[derive(Debug, Parser)]
#[command(name = "chrootvm restart", version)]
struct ChrootVmRestart {
    #[command(flatten)]
    restart: restart::Restart,
}

/// Pack an initrd, as `chrootvm --dry-run` prints it (internal)
#[derive(Debug, Parser)]
#[command(name = "chrootvm pack-initrd")]
struct ChrootVmPack {
    #[command(flatten)]
    pack: mkvirtinitrd::Pack,
}

/// Print a script with which a shell completes options and names of files
#[derive(Debug, Parser)]
#[command(name = "chrootvm completions", version)]
struct ChrootVmCompletions {
    #[command(flatten)]
    completions: completions::Completions,
}

/// Runs a subcommand. The first of its arguments is the program's name in usage lines.
type Subcommand = fn(Vec<OsString>) -> Result<ExitCode>;

/// Name of a subcommand, its arguments, and what it does.
type TypedSubcommand = (&'static str, fn() -> Command, Subcommand);

/// Subcommands that users type.
#[rustfmt::skip]
const SUBCOMMANDS: &[TypedSubcommand] = &[
    ("cache",  ChrootVmCache::command,  |words| parse::<ChrootVmCache>(words, EXIT_TROUBLE).cache.run()),
    ("completions", ChrootVmCompletions::command, completions),
    ("exec",   ChrootVmExec::command,   |words| parse_run::<ChrootVmExec>(&words).exec.run()),
    ("help",   || Command::new("help"), help),
    ("image",  ChrootVmImage::command,  |words| parse::<ChrootVmImage>(words, EXIT_TROUBLE).image.run()),
    ("kernel", ChrootVmKernel::command, |words| parse::<ChrootVmKernel>(words, EXIT_TROUBLE).kernel.run()),
    ("logs",   ChrootVmLogs::command,   |words| done(parse::<ChrootVmLogs>(words, EXIT_TROUBLE).logs.run())),
    ("ps",     ChrootVmPs::command,     |words| done(parse::<ChrootVmPs>(words, EXIT_TROUBLE).ps.run())),
    ("restart", ChrootVmRestart::command, |words| parse::<ChrootVmRestart>(words, EXIT_TROUBLE).restart.run()),
    ("run",    ChrootVmRun::command,    |words| run_machine(words, RUN, None)),
    ("stop",   ChrootVmStop::command,   |words| parse::<ChrootVmStop>(words, EXIT_TROUBLE).stop.run()),
];

/// Subcommands with which chrootvm starts itself, or which `--dry-run` prints.
#[rustfmt::skip]
const INTERNAL_SUBCOMMANDS: &[(&str, Subcommand)] = &[
    (child::SUBCOMMAND,    |words| done(child::BoundExec::parse(words.into_iter().skip(1))?.run())),
    (userns::SUBCOMMAND,   |_| done(userns::hold())),
    (terminal::SUBCOMMAND, |_| done(terminal::guard())),
    (guarded::SUBCOMMAND,  |words| done(guarded::guard(words.into_iter().skip(1)))),
    (rootdir::SUBCOMMAND,  |words| done(rootdir::in_namespace(words.into_iter().skip(1)))),
    (detached::SUBCOMMAND, run_detached),
    (pack::SUBCOMMAND,     |words| done(parse::<ChrootVmPack>(words, EXIT_TROUBLE).pack.run())),
];

fn main() -> ExitCode {
    program::main(EXIT_TROUBLE, run)
}

/// Runs the subcommand, or `chrootvm ROOTFS`. A user types a ROOTFS with the name of a
/// subcommand as `./exec`.
fn run(mut words: Vec<OsString>) -> Result<ExitCode> {
    let typed = SUBCOMMANDS.iter().map(|(name, _, run)| (name, run));
    let internal = INTERNAL_SUBCOMMANDS.iter().map(|(name, run)| (name, run));
    let mut rows = typed.chain(internal);
    let first = words.get(1).map_or(OsStr::new(""), OsString::as_os_str);
    if let Some((name, subcommand)) = rows.find(|(name, _)| first == **name) {
        words.splice(..2, [format!("chrootvm {name}").into()]);
        return subcommand(words);
    }
    if let Some(hint) = first.to_str().and_then(|name| foreign::hint(foreign::SUBCOMMANDS, name)) {
        let name = first.display();
        let is_rootfs = Path::new(first).symlink_metadata().is_ok();
        ensure!(is_rootfs, "no subcommand {name}: {hint}; a directory {name} is typed ./{name}");
    }
    run_machine(words, BOOT, None)
}

/// A kind of command line that boots a machine.
#[derive(Clone, Copy)]
struct RunLine {
    /// Meaning of a single word after ROOTFS.
    single: SingleWord,
    parse: fn(&[OsString]) -> run::RunArguments,
}

/// `chrootvm ROOTFS`.
const BOOT: RunLine =
    RunLine { single: SingleWord::Init, parse: |words| parse_run::<ChrootVm>(words).run };

/// `chrootvm run ROOTFS`.
const RUN: RunLine =
    RunLine { single: SingleWord::Command, parse: |words| parse_run::<ChrootVmRun>(words).run };

/// Boots the machine of a command line, for the process that has started it in the background if
/// there is one. Configuration files add words to the line.
fn run_machine(
    mut words: Vec<OsString>,
    line: RunLine,
    starter: Option<Starter>,
) -> Result<ExitCode> {
    let settings = (line.parse)(&words).settings(&words)?;
    words.splice(1..1, settings.words());
    let mut arguments = (line.parse)(&words);
    if let Some(starter) = starter {
        arguments = arguments.started_by(starter);
    }
    arguments.run(&words, line.single, &settings)
}

/// Boots the machine of a command line in the background. The words are the process id of the
/// starter, and its arguments.
fn run_detached(mut words: Vec<OsString>) -> Result<ExitCode> {
    let pid = words.get(1).and_then(|pid| pid.to_str()?.parse().ok());
    let starter = Starter::meet(pid.context("the process id of the starter is missing")?)?;
    let is_run = words.get(2).is_some_and(|word| word == "run");
    let (line, names, name) = if is_run { (RUN, 3, "chrootvm run") } else { (BOOT, 2, "chrootvm") };
    words.splice(..names, [name.into()]);
    run_machine(words, line, Some(starter))
}

/// Parses the arguments of something that other programs can run, too.
fn parse_run<T: Parser>(words: &[OsString]) -> T {
    parse_with_hints(words.to_vec(), EXIT_TROUBLE, foreign::OPTIONS)
}

/// `chrootvm help [SUBCOMMAND]...`: prints what `chrootvm SUBCOMMAND... --help` prints.
fn help(mut words: Vec<OsString>) -> Result<ExitCode> {
    words[0] = "chrootvm".into();
    if let Some(name) = words.get(1).filter(|word| !word.as_encoded_bytes().starts_with(b"-")) {
        let is_known = SUBCOMMANDS.iter().any(|(known, ..)| name == known);
        ensure!(is_known, "no subcommand {}: `chrootvm --help` lists them", name.display());
    }
    words.push("--help".into());
    run(words)
}

/// Prints a script for a shell, for chrootvm with all subcommands.
fn completions(words: Vec<OsString>) -> Result<ExitCode> {
    let task = parse::<ChrootVmCompletions>(words, EXIT_TROUBLE).completions;
    let subcommands = SUBCOMMANDS.iter().map(|(name, command, _)| command().name(*name));
    // The table has a row for `help`.
    let chrootvm = ChrootVm::command().disable_help_subcommand(true);
    done(task.run(chrootvm.subcommands(subcommands)))
}

fn done(result: Result<()>) -> Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}
