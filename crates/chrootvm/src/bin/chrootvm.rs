//! `chrootvm`: boots a directory or an image as a virtual machine.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use chrootvm::run::SingleWord;
use chrootvm::{exec, image_command, kernel, mkvirtinitrd, program, ps, run, stop};
use clap::Parser;
use machine::isolation::userns;
use machine::kernel::pack;
use machine::plan::exit_status::EXIT_TROUBLE;
use machine::process::child;
use machine::session::terminal;
use program::parse;

/// Boot a directory or an image as a virtual machine
#[derive(Debug, Parser)]
#[command(name = "chrootvm", version)]
struct ChrootVm {
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

/// Make images of directories and archives, and look into them
#[derive(Debug, Parser)]
#[command(name = "chrootvm image", version)]
struct ChrootVmImage {
    #[command(flatten)]
    image: image_command::Image,
}

/// Build and list small guest kernels
#[derive(Debug, Parser)]
#[command(name = "chrootvm kernel", version)]
struct ChrootVmKernel {
    #[command(flatten)]
    kernel: kernel::Kernel,
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

/// Pack an initrd, as `chrootvm --dry-run` prints it (internal)
#[derive(Debug, Parser)]
#[command(name = "chrootvm pack-initrd")]
struct ChrootVmPack {
    #[command(flatten)]
    pack: mkvirtinitrd::Pack,
}

/// Runs a subcommand. The first of its arguments is the program's name in usage lines.
type Subcommand = fn(Vec<OsString>) -> Result<ExitCode>;

/// Subcommands that users type.
#[rustfmt::skip]
const SUBCOMMANDS: &[(&str, Subcommand)] = &[
    ("exec",   |words| parse::<ChrootVmExec>(words, EXIT_TROUBLE).exec.run()),
    ("help",   help),
    ("image",  |words| parse::<ChrootVmImage>(words, EXIT_TROUBLE).image.run()),
    ("kernel", |words| done(parse::<ChrootVmKernel>(words, EXIT_TROUBLE).kernel.run())),
    ("ps",     |words| done(parse::<ChrootVmPs>(words, EXIT_TROUBLE).ps.run())),
    ("stop",   |words| parse::<ChrootVmStop>(words, EXIT_TROUBLE).stop.run()),
];

/// Subcommands with which chrootvm starts itself, or which `--dry-run` prints.
#[rustfmt::skip]
const INTERNAL_SUBCOMMANDS: &[(&str, Subcommand)] = &[
    (child::SUBCOMMAND,    |words| done(child::BoundExec::parse(words.into_iter().skip(1))?.run())),
    (userns::SUBCOMMAND,   |_| done(userns::hold())),
    (terminal::SUBCOMMAND, |_| done(terminal::guard())),
    (pack::SUBCOMMAND,     |words| done(parse::<ChrootVmPack>(words, EXIT_TROUBLE).pack.run())),
];

fn main() -> ExitCode {
    program::main(EXIT_TROUBLE, run)
}

/// Runs the subcommand, or `chrootvm ROOTFS`. A user types a ROOTFS with the name of a
/// subcommand as `./exec`.
fn run(mut words: Vec<OsString>) -> Result<ExitCode> {
    let rows = SUBCOMMANDS.iter().chain(INTERNAL_SUBCOMMANDS);
    let first = words.get(1).map_or(OsStr::new(""), OsString::as_os_str);
    if let Some((name, subcommand)) = rows.into_iter().find(|(name, _)| first == *name) {
        words.splice(..2, [format!("chrootvm {name}").into()]);
        return subcommand(words);
    }
    let line = parse::<ChrootVm>(words.clone(), EXIT_TROUBLE);
    let settings = line.run.settings(&words)?;
    words.splice(1..1, settings.words());
    parse::<ChrootVm>(words.clone(), EXIT_TROUBLE).run.run(&words, SingleWord::Init, &settings)
}

/// `chrootvm help [SUBCOMMAND]...`: prints what `chrootvm SUBCOMMAND... --help` prints.
fn help(mut words: Vec<OsString>) -> Result<ExitCode> {
    words[0] = "chrootvm".into();
    if let Some(name) = words.get(1).filter(|word| !word.as_encoded_bytes().starts_with(b"-")) {
        let is_known = SUBCOMMANDS.iter().any(|(known, _)| name == known);
        ensure!(is_known, "no subcommand {}: `chrootvm --help` lists them", name.display());
    }
    words.push("--help".into());
    run(words)
}

fn done(result: Result<()>) -> Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}
